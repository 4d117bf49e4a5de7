/**
 * A scan that wants 1 record in 100, by type or by vchannel, against one that decodes everything, over the same log in
 * the same run; and a scan of plain records against the engine's own read of them.
 */
import { mkdirSync } from 'node:fs'
import { importBuilt } from './harness/build.mjs'
import { makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, SEGMENT_BYTES } from './harness/warm-log.mjs'

const RECORDS = 400_000
const RECORD_BYTES = 256
const BATCH_RECORDS = 1_000
const KINDS = 100
const FIRST_TYPE = 40_000

const logs = [
  { written: 'types mixed in each frame', filter: { types: [FIRST_TYPE + 7] }, of: (n) => ({ type: n % KINDS }) },
  {
    written: 'a frame of each type in turn',
    filter: { types: [FIRST_TYPE + 7] },
    of: (n) => ({ type: Math.floor(n / BATCH_RECORDS) % KINDS }),
  },
  {
    written: 'vchannels mixed in each frame',
    filter: { vchannels: ['tenant-7'] },
    of: (n) => ({ vchannel: n % KINDS }),
  },
  {
    written: 'a frame of each vchannel in turn',
    filter: { vchannels: ['tenant-7'] },
    of: (n) => ({ vchannel: Math.floor(n / BATCH_RECORDS) % KINDS }),
  },
]

export const filteredScan = {
  name: 'filtered-scan',
  summary: 'a scan that skips 99 % against one that decodes everything (aim: 5 times its rate)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(512 * MIB)
    const { createScanner } = await importBuilt(context.dist, 'src/wal/scan/scanner.js')
    const { openEmbeddedStore } = await importBuilt(context.dist, 'src/log-store/embedded.js')
    const rows = []
    const plain = []
    for (const [index, how] of logs.entries()) {
      const directory = context.folder(`log-${index}`)
      mkdirSync(directory, { recursive: true })
      const store = await openEmbeddedStore(directory, {
        segmentBytes: SEGMENT_BYTES,
        writeWay: context.way,
        // All is read from files.
        cacheBytes: MIB,
      })
      await write(store, how)
      const rounds = []
      for (let round = 0; round < context.rounds; round++) {
        const engine = await readAll(store, false)
        const decodedByEngine = await readAll(store, true)
        const given = await scan(createScanner(store), false)
        const decoded = await scan(createScanner(store), true)
        const filtered = await scan(createScanner(store, how.filter), true)
        if (decoded.records !== RECORDS || filtered.records !== RECORDS / KINDS) {
          throw new Error(`${how.written}: ${decoded.records} and ${filtered.records} records`)
        }
        rounds.push({ engine, decodedByEngine, given, decoded, filtered })
      }
      await store.close()
      context.remove(directory)
      const rate = (of) => RECORDS / (median(rounds.map((one) => of(one).ms)) / 1_000)
      const ratio = (of) => median(rounds.map(of))
      rows.push({
        written: how.written,
        decoded: rate(({ decoded }) => decoded),
        filtered: rate(({ filtered }) => filtered),
        ratio: ratio(({ decoded, filtered }) => decoded.ms / filtered.ms),
      })
      plain.push({
        written: how.written,
        engine: rate(({ engine }) => engine),
        given: rate(({ given }) => given),
        ratio: ratio(({ engine, given }) => engine.ms / given.ms),
        engineDecoded: rate(({ decodedByEngine }) => decodedByEngine),
        decoded: rate(({ decoded }) => decoded),
        decodedRatio: ratio(({ decodedByEngine, decoded }) => decodedByEngine.ms / decoded.ms),
      })
    }
    context.show({
      title: `Scans of ${RECORDS} records of ${RECORD_BYTES} B with 3 properties (medians of ${context.rounds} rounds)`,
      columns,
      rows,
      notes: [
        'Rates are of records that were gone by, skipped ones too. Decoded: payload and properties of each that is given.',
      ],
    })
    context.show({
      title: 'The same logs without a filter: the engine by frame, and the scan by message',
      columns: plainColumns,
      rows: plain,
      notes: ['The scan gives each message by a promise of its own, the engine a frame. Given: not decoded.'],
    })
  },
}

const columns = [
  { key: 'written', title: 'written as', format: 'text' },
  { key: 'decoded', title: 'decoding all, records/s', format: 'count' },
  { key: 'filtered', title: 'skipping 99 %, records/s', format: 'count' },
  { key: 'ratio', title: 'ratio', format: 'ratio' },
]

const plainColumns = [
  { key: 'written', title: 'written as', format: 'text' },
  { key: 'engine', title: 'engine records/s', format: 'count' },
  { key: 'given', title: 'scan records/s', format: 'count' },
  { key: 'ratio', title: 'ratio', format: 'ratio' },
  { key: 'engineDecoded', title: 'engine, decoded', format: 'count' },
  { key: 'decoded', title: 'scan, decoded', format: 'count' },
  { key: 'decodedRatio', title: 'ratio', format: 'ratio' },
]

async function write(store, { of }) {
  const payloads = makeRecords(1024, RECORD_BYTES).map(({ payload }) => payload)
  const properties = { source: 'bench', collection: 'c-1234', partition: 'p-56' }
  const appends = []
  for (let first = 0; first < RECORDS; first += BATCH_RECORDS) {
    const records = Array.from({ length: BATCH_RECORDS }, (_, index) => {
      const { type = 0, vchannel = 0 } = of(first + index)
      return {
        vchannel: `tenant-${vchannel}`,
        type: FIRST_TYPE + type,
        properties,
        payload: payloads[(first + index) % payloads.length],
      }
    })
    appends.push(store.appendRecords(records))
    if (appends.length >= 8) await appends.shift()
  }
  await Promise.all(appends)
}

async function readAll(store, decodes) {
  const began = performance.now()
  let sum = 0
  for await (const frame of store.read({ from: 'earliest' })) {
    for (const record of frame) sum += decodes ? touch(record) : record.lsn & 1
  }
  return { ms: performance.now() - began, sum }
}

async function scan(scanner, decodes) {
  const began = performance.now()
  let records = 0
  let sum = 0
  for await (const item of scanner) {
    records++
    sum += decodes ? touch(item) : item.lsn & 1
  }
  return { ms: performance.now() - began, records, sum }
}

function touch({ payload, properties }) {
  let sum = payload.length
  for (const name in properties) sum += properties[name].length
  return sum
}
