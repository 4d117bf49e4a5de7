/**
 * Reading one vchannel of a thousand: how many bytes come from the files for each byte of its payloads. Written in
 * batches by vchannel, and in single appends of all of them mixed.
 */
import { readdirSync } from 'node:fs'
import { countingDisk } from './harness/counting-disk.mjs'
import { appendExactly } from './harness/in-flight.mjs'
import { makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const LOG_BYTES = 256 * MIB
const VCHANNELS = 1000
/** Names that are read, spread over all. */
const READ = [3, 250, 500, 777, 998]

const logs = [
  { written: 'batches of 64 by vchannel', batchRecords: 64, inFlight: 16 },
  { written: 'batches of 16 by vchannel', batchRecords: 16, inFlight: 64 },
  { written: 'single, mixed, 1,024 in flight', batchRecords: 1, inFlight: 1024 },
  { written: 'single, mixed, 64 in flight', batchRecords: 1, inFlight: 64 },
]

export const vchannel = {
  name: 'vchannel',
  summary: 'reading one vchannel of 1,000: bytes read from files against its own (aim in batches: 2)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(2048 * MIB)
    const rows = []
    for (const [index, how] of logs.entries()) {
      const directory = context.folder(`log-${index}`)
      await write(context, directory, how)
      const found = []
      for (const number of READ) found.push(await readOne(context, directory, nameOf(number)))
      context.remove(directory)
      const sum = (key) => found.reduce((total, one) => total + one[key], 0)
      rows.push({
        written: how.written,
        records: median(found.map(({ records }) => records)),
        ownBytes: sum('ownBytes') / found.length,
        segmentBytes: sum('segmentBytes') / found.length,
        lastBytes: sum('lastBytes') / found.length,
        indexBytes: sum('indexBytes') / found.length,
        reads: sum('reads') / found.length,
        ms: median(found.map(({ ms }) => ms)),
        ratio: (sum('segmentBytes') + sum('lastBytes') + sum('indexBytes')) / sum('ownBytes'),
        ratioBefore: (sum('segmentBytes') + sum('indexBytes')) / sum('ownBytes'),
      })
    }
    context.show({
      title: `One vchannel of ${VCHANNELS} in ${LOG_BYTES / MIB} MiB of records of ${RECORD_BYTES} B (means of ${READ.length} vchannels)`,
      columns,
      rows,
      notes: [
        'Each is read from a log that was just opened. own: its payloads. read: from segments, from the last one of them,',
        'and from indexes, counted at the disk port. read/own: all together, and without the last. Aim, in batches: 2.',
      ],
    })
  },
}

const columns = [
  { key: 'written', title: 'written in', format: 'text' },
  { key: 'records', title: 'records', format: 'count' },
  { key: 'ownBytes', title: 'own KiB', format: 'kibibytes' },
  { key: 'segmentBytes', title: 'read KiB: segments', format: 'kibibytes' },
  { key: 'lastBytes', title: 'the last', format: 'kibibytes' },
  { key: 'indexBytes', title: 'indexes', format: 'kibibytes' },
  { key: 'reads', title: 'reads', format: 'count' },
  { key: 'ms', title: 'ms', format: 'milliseconds' },
  { key: 'ratio', title: 'read/own', format: 'ratio' },
  { key: 'ratioBefore', title: 'without the last', format: 'ratio' },
]

const nameOf = (number) => `tenant-${String(number).padStart(4, '0')}`

async function write(context, directory, { batchRecords, inFlight }) {
  const opened = await openBenchLog(context, directory)
  const { log } = opened
  const payloads = makeRecords(1024, RECORD_BYTES).map(({ payload }) => payload)
  let next = 0
  const start = () => {
    // A step that has no divisor in common with 1,000: neighbours in the log are not neighbours by name.
    const vchannelName = nameOf((next++ * 389) % VCHANNELS)
    return log.append(
      Array.from({ length: batchRecords }, (_, index) => ({
        vchannel: vchannelName,
        payload: payloads[(next * batchRecords + index) % payloads.length],
      })),
    )
  }
  const appends = LOG_BYTES / RECORD_BYTES / batchRecords
  await appendExactly({ start, appends, inFlight, statistics: () => log.statistics() })
  await opened.close()
}

async function readOne(context, directory, name) {
  const environment = context.engine.nodeEnvironment()
  const counted = countingDisk(environment.disk)
  const log = await context.engine.openLog(directory, {
    environment: { ...environment, disk: counted.disk },
    writeWay: context.way,
  })
  counted.reset()
  const began = performance.now()
  let ownBytes = 0
  let records = 0
  for await (const frame of log.read({ vchannels: [name] })) {
    for (const record of frame) {
      records++
      ownBytes += record.payload.length
    }
  }
  const ms = performance.now() - began
  const last = readdirSync(directory)
    .filter((file) => file.endsWith('.seg'))
    .sort()
    .at(-1)
  const segmentBytes = counted.bytes((path) => path.endsWith('.seg') && !path.endsWith(`/${last}`))
  const lastBytes = counted.bytes((path) => path.endsWith(`/${last}`))
  const indexBytes = counted.bytes((path) => path.endsWith('.idx'))
  const reads = counted.reads()
  await log.close()
  const least = Math.floor(LOG_BYTES / RECORD_BYTES / VCHANNELS / 64) * 64
  if (records < least) throw new Error(`${name} has ${records} records, at least ${least} were written`)
  return { ownBytes, records, ms, segmentBytes, lastBytes, indexBytes, reads }
}
