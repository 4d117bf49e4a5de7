/**
 * Durable appends: 1, 64, 1,024 and 8,192 records in flight of 100 B, 1 KiB and 16 KiB, one by one and in batches, each
 * round of the engine followed by one of the raw loop with the bytes that the engine's flushes had.
 */
import { rmSync } from 'node:fs'
import { measureInFlight } from './harness/in-flight.mjs'
import { prepareFile, rawModes, rawPrepared, wholeSectors } from './harness/raw.mjs'
import { batchAppends, makeRecords, singleAppends } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog, warmUp } from './harness/warm-log.mjs'

const RECORD_BYTES = [100, 1024, 16 * 1024]
const IN_FLIGHT = [1, 64, 1024, 8192]
const BATCH_RECORDS_MAX = 1024
const BATCH_BYTES_MAX = MIB
const RAW_FILE_BYTES = 64 * MIB
/** Of a round, what is appended before anything is counted, and what the raw loop gets. */
const WARM_PART = 0.3
const RAW_PART = 0.25

export const append = {
  name: 'append',
  summary: 'durable appends by record size and number in flight, single and in batches',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(2048 * MIB)
    const roundMs = context.roundMs(1)
    const opened = await openBenchLog(context, context.folder('log'), { retention: { bytes: 512 * MIB } })
    const rawPath = `${context.directory}/raw`
    prepareFile(rawPath, RAW_FILE_BYTES)
    await warmUp(opened)
    context.noteDisk()

    const rows = []
    for (const recordBytes of RECORD_BYTES) {
      for (const kind of ['single', 'batch']) {
        for (const inFlight of IN_FLIGHT) {
          if (kind === 'batch' && inFlight === 1) continue
          const rounds = []
          for (let round = 0; round < context.rounds; round++) {
            rounds.push(await measureRound({ opened, rawPath, recordBytes, kind, inFlight, roundMs }))
          }
          rows.push(summary({ recordBytes, kind, inFlight }, rounds))
        }
      }
    }
    context.noteDisk()
    await opened.close()
    rmSync(rawPath)
    context.show({
      title: `Durable appends (medians of ${context.rounds} rounds of ${roundMs / 1000} s)`,
      columns,
      rows,
      notes,
    })
  },
}

const columns = [
  { key: 'recordBytes', title: 'record B', format: 'count' },
  { key: 'batchRecords', title: 'a call', format: 'count' },
  { key: 'inFlight', title: 'in flight', format: 'count' },
  { key: 'recordsPerSecond', title: 'records/s', format: 'count' },
  { key: 'bytesPerSecond', title: 'MB/s', format: 'megabytes' },
  { key: 'p50Ms', title: 'p50 ms', format: 'milliseconds' },
  { key: 'p99Ms', title: 'p99 ms', format: 'milliseconds' },
  { key: 'flushBytes', title: 'flush KiB', format: 'kibibytes' },
  { key: 'cores', title: 'cores', format: 'ratio' },
  { key: 'poolMisses', title: 'unprepared', format: 'count' },
  { key: 'rawDsync', title: 'raw dsync', format: 'megabytes' },
  { key: 'rawFdatasync', title: 'raw fdatasync', format: 'megabytes' },
  { key: 'rawP50Ms', title: 'raw p50', format: 'milliseconds' },
  { key: 'fileRatio', title: 'file/raw', format: 'ratio' },
  { key: 'payloadRatio', title: 'payload/raw', format: 'ratio' },
]

const notes = [
  'a call: records of one append. raw: writes as large as the mean flush, each synced, on a prepared file (MB/s).',
  'file/raw, payload/raw: bytes of the file, and of the payloads alone, against the faster raw way of the same round.',
  'unprepared: segments begun without a prepared file, of all rounds.',
]

async function measureRound({ opened, rawPath, recordBytes, kind, inFlight, roundMs }) {
  const { log } = opened
  const batchRecords =
    kind === 'single' ? 1 : Math.min(inFlight, BATCH_RECORDS_MAX, Math.floor(BATCH_BYTES_MAX / recordBytes))
  const records = makeRecords(Math.max(1024, batchRecords * 4), recordBytes)
  const start = kind === 'single' ? singleAppends(log, records) : batchAppends(log, records, batchRecords)
  await opened.settled()
  const engine = await measureInFlight({
    start,
    inFlight: Math.max(1, Math.round(inFlight / batchRecords)),
    warmMs: roundMs * WARM_PART,
    measureMs: roundMs,
    statistics: () => log.statistics(),
  })
  await opened.settled()
  const flushBytes = engine.statistics.appendedBytes / engine.statistics.flushes
  const raw = Object.fromEntries(
    rawModes.map((mode) => [
      mode,
      rawPrepared({
        paths: [rawPath],
        fileBytes: RAW_FILE_BYTES,
        writeBytes: wholeSectors(flushBytes),
        mode,
        forMs: roundMs * RAW_PART,
      }),
    ]),
  )
  const bestRaw = raw.dsync.bytesPerSecond >= raw.fdatasync.bytesPerSecond ? raw.dsync : raw.fdatasync
  const recordsPerSecond = (engine.appends * batchRecords * 1000) / engine.ms
  return {
    batchRecords,
    recordsPerSecond,
    bytesPerSecond: recordsPerSecond * recordBytes,
    p50Ms: engine.latencies.percentile(0.5),
    p99Ms: engine.latencies.percentile(0.99),
    flushBytes,
    cores: engine.cores,
    poolMisses: engine.statistics.poolMisses,
    rawDsync: raw.dsync.bytesPerSecond,
    rawFdatasync: raw.fdatasync.bytesPerSecond,
    rawP50Ms: bestRaw.latencies.percentile(0.5),
    fileRatio: (engine.statistics.appendedBytes * 1000) / engine.ms / bestRaw.bytesPerSecond,
    payloadRatio: (recordsPerSecond * recordBytes) / bestRaw.bytesPerSecond,
  }
}

function summary(row, rounds) {
  const medians = Object.fromEntries(
    Object.keys(rounds[0]).map((key) => [key, median(rounds.map((round) => round[key]))]),
  )
  return { ...row, ...medians, poolMisses: rounds.reduce((sum, round) => sum + round.poolMisses, 0) }
}
