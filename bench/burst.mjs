/**
 * Batches inside what is prepared: as many bytes as lie ready in zero-filled, synced files, against the raw loop on as
 * many prepared files. What the engine prepares meanwhile for later counts against it.
 */
import { appendExactly } from './harness/in-flight.mjs'
import { prepareFile, rawModes, rawPrepared, wholeSectors } from './harness/raw.mjs'
import { batchAppends, makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog, SEGMENT_BYTES, warmUp } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const BATCH_RECORDS = 1024
const BATCHES_IN_FLIGHT = 8
/** They are short: about a tenth of a second. */
const BURSTS_A_ROUND = 3
/** Of the prepared bytes, how many are appended: the rest is for tables, headers and the ends of files. */
const USED_PART = 0.92

export const burst = {
  name: 'burst',
  summary: 'batches of 1,024 records of 1 KiB inside the prepared files, against raw on prepared files (aim 0.9)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(2048 * MIB)
    const opened = await openBenchLog(context, context.folder('log'), { retention: { bytes: 64 * MIB } })
    const { log, pool } = opened
    const start = batchAppends(log, makeRecords(BATCH_RECORDS * 4, RECORD_BYTES), BATCH_RECORDS)
    await warmUp(opened)

    const rounds = []
    // The first burst is not counted.
    for (let round = -1; round < context.rounds * BURSTS_A_ROUND; round++) {
      await opened.settled()
      const { preparedBytes } = pool.statistics()
      const appends = Math.floor((preparedBytes * USED_PART) / (BATCH_RECORDS * RECORD_BYTES))
      const engine = await appendExactly({
        start,
        appends,
        inFlight: BATCHES_IN_FLIGHT,
        statistics: () => log.statistics(),
      })
      context.noteDisk()
      await opened.settled()
      const payloadBytes = appends * BATCH_RECORDS * RECORD_BYTES
      const flushBytes = engine.statistics.appendedBytes / engine.statistics.flushes
      const raw = rawRound(context, payloadBytes, wholeSectors(flushBytes), round)
      if (round < 0) continue
      const engineBytesPerSecond = (payloadBytes / engine.ms) * 1000
      const bestRaw = Math.max(raw.dsync.bytesPerSecond, raw.fdatasync.bytesPerSecond)
      rounds.push({
        preparedBytes,
        payloadBytes,
        flushBytes,
        recordsPerSecond: engineBytesPerSecond / RECORD_BYTES,
        bytesPerSecond: engineBytesPerSecond,
        p50Ms: engine.latencies.percentile(0.5),
        p99Ms: engine.latencies.percentile(0.99),
        cores: engine.cores,
        poolMisses: engine.statistics.poolMisses,
        rolls: engine.statistics.rolls,
        rawDsync: raw.dsync.bytesPerSecond,
        rawFdatasync: raw.fdatasync.bytesPerSecond,
        ratio: engineBytesPerSecond / bestRaw,
      })
    }
    await opened.close()
    const rows = rounds.map((round, index) => ({ burst: `${index + 1}`, ...round }))
    rows.push({ burst: 'median', ...medians(rounds) })
    context.show({
      title: `Burst: batches of ${BATCH_RECORDS} records of ${RECORD_BYTES} B, ${BATCHES_IN_FLIGHT} in flight, inside the prepared files`,
      columns,
      rows,
      notes,
    })
  },
}

const columns = [
  { key: 'burst', title: 'burst', format: 'text' },
  { key: 'preparedBytes', title: 'prepared MiB', format: 'mebibytes' },
  { key: 'payloadBytes', title: 'appended MiB', format: 'mebibytes' },
  { key: 'recordsPerSecond', title: 'records/s', format: 'count' },
  { key: 'bytesPerSecond', title: 'MB/s', format: 'megabytes' },
  { key: 'p50Ms', title: 'p50 ms', format: 'milliseconds' },
  { key: 'p99Ms', title: 'p99 ms', format: 'milliseconds' },
  { key: 'flushBytes', title: 'flush KiB', format: 'kibibytes' },
  { key: 'rolls', title: 'rolls', format: 'count' },
  { key: 'poolMisses', title: 'unprepared', format: 'count' },
  { key: 'cores', title: 'cores', format: 'ratio' },
  { key: 'rawDsync', title: 'raw dsync', format: 'megabytes' },
  { key: 'rawFdatasync', title: 'raw fdatasync', format: 'megabytes' },
  { key: 'ratio', title: 'payload/raw', format: 'ratio' },
]

const notes = [
  'raw: the same number of bytes, in writes as large as the mean flush, each synced, over prepared files (MB/s).',
  'payload/raw: payload bytes against the faster raw way of the round; the median is that of the ratios. Aim: 0.9.',
]

/** Files as the pool prepares them, written once from end to end. */
function rawRound(context, totalBytes, writeBytes, round) {
  const results = {}
  for (const mode of rawModes) {
    const folder = context.folder(`raw-${round}-${mode}`)
    const files = Math.ceil(totalBytes / SEGMENT_BYTES) + 1
    const paths = Array.from({ length: files }, (_, index) => `${folder}/${index}`)
    for (const path of paths) prepareFile(path, SEGMENT_BYTES)
    results[mode] = rawPrepared({ paths, fileBytes: SEGMENT_BYTES, writeBytes, mode, totalBytes })
    context.remove(folder)
  }
  return results
}

function medians(rounds) {
  return Object.fromEntries(Object.keys(rounds[0]).map((key) => [key, median(rounds.map((round) => round[key]))]))
}
