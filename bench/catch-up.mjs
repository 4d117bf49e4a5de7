/**
 * Reading a log from its beginning, verified, by frame and by record, against a loop of synchronous reads of the same
 * files, and one that also hashes what it reads. The files are in the page cache.
 */
import fs from 'node:fs'
import { appendExactly } from './harness/in-flight.mjs'
import { batchAppends, makeRecords, singleAppends } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const LOG_BYTES = 256 * MIB
const RECORDS = LOG_BYTES / RECORD_BYTES
const READ_BYTES = MIB

const logs = [
  { written: 'batches of 1,024', inFlight: 4, batchRecords: 1024 },
  { written: 'batches of 64', inFlight: 16, batchRecords: 64 },
  { written: 'single, 64 in flight', inFlight: 64, batchRecords: 1 },
]

export const catchUp = {
  name: 'catch-up',
  summary: 'reading a log from its beginning, by frame and by record, against raw reads of its files',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(2048 * MIB)
    const rows = []
    for (const [index, { written, inFlight, batchRecords }] of logs.entries()) {
      const directory = context.folder(`log-${index}`)
      await write(context, directory, inFlight, batchRecords)
      const opened = await openBenchLog(context, directory)
      const files = fs
        .readdirSync(directory)
        .filter((name) => name.endsWith('.seg'))
        .map((name) => `${directory}/${name}`)
      const byFrame = []
      const byRecord = []
      const raw = []
      const rawHashed = []
      // The first round is not counted.
      for (let round = -1; round < context.rounds; round++) {
        const found = [
          readRaw(files, null),
          await readFrames(opened.log),
          readRaw(files, context.engine.hash64),
          await readRecords(opened.log),
        ]
        if (round < 0) continue
        for (const { records = RECORDS } of found) {
          if (records !== RECORDS) throw new Error(`${records} records were read of ${RECORDS} that were acknowledged`)
        }
        for (const [at, list] of [raw, byFrame, rawHashed, byRecord].entries()) list.push(found[at])
      }
      await opened.close()
      context.remove(directory)
      const rawBytesPerSecond = median(raw.map(({ bytes, ms }) => (bytes / ms) * 1000))
      const row = (reading, found) => {
        const recordsPerSecond = median(found.map(({ records, ms }) => (records / ms) * 1000))
        return {
          written,
          reading,
          frameBytes: found[0].bytes / found[0].frames,
          recordsPerSecond,
          bytesPerSecond: recordsPerSecond * RECORD_BYTES,
          raw: rawBytesPerSecond,
          rawHashed: median(rawHashed.map(({ bytes, ms }) => (bytes / ms) * 1000)),
          ratio: (recordsPerSecond * RECORD_BYTES) / rawBytesPerSecond,
        }
      }
      rows.push(row('by frame', byFrame), row('by record', byRecord))
    }
    context.show({
      title: `Catch-up reads of ${LOG_BYTES / MIB} MiB of records of ${RECORD_BYTES} B (medians of ${context.rounds} rounds)`,
      columns,
      rows,
      notes: [
        'raw: readSync of 1 MiB at a time over the same files; hashed: and the hash of what was read (MB/s).',
        'The files are in the page cache: this is what the processor does, not the disk.',
      ],
    })
  },
}

const columns = [
  { key: 'written', title: 'written in', format: 'text' },
  { key: 'reading', title: 'read', format: 'text' },
  { key: 'frameBytes', title: 'frame KiB', format: 'kibibytes' },
  { key: 'recordsPerSecond', title: 'records/s', format: 'count' },
  { key: 'bytesPerSecond', title: 'MB/s', format: 'megabytes' },
  { key: 'raw', title: 'raw', format: 'megabytes' },
  { key: 'rawHashed', title: 'raw hashed', format: 'megabytes' },
  { key: 'ratio', title: 'payload/raw', format: 'ratio' },
]

async function write(context, directory, inFlight, batchRecords) {
  const opened = await openBenchLog(context, directory)
  const { log } = opened
  const records = makeRecords(4096, RECORD_BYTES)
  await appendExactly({
    start: batchRecords === 1 ? singleAppends(log, records) : batchAppends(log, records, batchRecords),
    appends: RECORDS / batchRecords,
    inFlight,
    statistics: () => log.statistics(),
  })
  await opened.close()
}

async function readFrames(log) {
  const began = performance.now()
  let bytes = 0
  let records = 0
  let frames = 0
  for await (const frame of log.read()) {
    frames++
    bytes += frame.bodyLength
    records += frame.recordCount
  }
  return { bytes, records, frames, ms: performance.now() - began }
}

async function readRecords(log) {
  const began = performance.now()
  let bytes = 0
  let records = 0
  let frames = 0
  for await (const frame of log.read()) {
    frames++
    bytes += frame.bodyLength
    for (const record of frame) {
      if (record.payload.length !== RECORD_BYTES)
        throw new Error(`the record at LSN ${record.lsn} is not what was written`)
      records++
    }
  }
  return { bytes, records, frames, ms: performance.now() - began }
}

function readRaw(files, hash) {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  const began = performance.now()
  let bytes = 0
  for (const path of files) {
    const descriptor = fs.openSync(path, 'r')
    let position = 0
    let count = 0
    do {
      count = fs.readSync(descriptor, buffer, 0, READ_BYTES, position)
      if (hash !== null && count > 0) hash(buffer.subarray(0, count))
      position += count
    } while (count > 0)
    fs.closeSync(descriptor)
    bytes += position
  }
  return { bytes, ms: performance.now() - began }
}
