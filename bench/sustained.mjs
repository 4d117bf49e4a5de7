/**
 * Batches for a long time, preparation included: the engine from an empty directory, its pool filled beside it; the raw
 * loop on files that it fills itself before it writes them.
 */
import { measureInFlight } from './harness/in-flight.mjs'
import { rawModes, rawPreparing, wholeSectors } from './harness/raw.mjs'
import { batchAppends, makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog, SEGMENT_BYTES } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const BATCH_RECORDS = 1024
const BATCHES_IN_FLIGHT = 8
/** Both sides keep so much and remove what is older. */
const KEEP_BYTES = 1024 * MIB

export const sustained = {
  name: 'sustained',
  summary: 'the same for 10 s, preparation included, against raw on files that it prepares itself (aim 2.0)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(3072 * MIB)
    const roundMs = context.roundMs(10)
    const rounds = []
    for (let round = 0; round < context.rounds; round++) {
      const directory = context.folder(`log-${round}`)
      const opened = await openBenchLog(context, directory, { retention: { bytes: KEEP_BYTES } })
      const { log } = opened
      const engine = await measureInFlight({
        start: batchAppends(log, makeRecords(BATCH_RECORDS * 4, RECORD_BYTES), BATCH_RECORDS),
        inFlight: BATCHES_IN_FLIGHT,
        warmMs: 0,
        measureMs: roundMs,
        statistics: () => log.statistics(),
      })
      context.noteDisk()
      await opened.close()
      context.remove(directory)

      const flushBytes = engine.statistics.appendedBytes / engine.statistics.flushes
      const raw = Object.fromEntries(
        rawModes.map((mode) => {
          const folder = context.folder(`raw-${round}-${mode}`)
          const measured = rawPreparing({
            directory: folder,
            fileBytes: SEGMENT_BYTES,
            writeBytes: wholeSectors(flushBytes),
            mode,
            forMs: roundMs,
            keepBytes: KEEP_BYTES,
          })
          context.remove(folder)
          return [mode, measured]
        }),
      )
      const bytesPerSecond = (engine.appends * BATCH_RECORDS * RECORD_BYTES * 1000) / engine.ms
      const bestRaw = raw.dsync.bytesPerSecond >= raw.fdatasync.bytesPerSecond ? raw.dsync : raw.fdatasync
      rounds.push({
        recordsPerSecond: bytesPerSecond / RECORD_BYTES,
        bytesPerSecond,
        p50Ms: engine.latencies.percentile(0.5),
        p99Ms: engine.latencies.percentile(0.99),
        flushBytes,
        rolls: engine.statistics.rolls,
        poolMisses: engine.statistics.poolMisses,
        cores: engine.cores,
        rawDsync: raw.dsync.bytesPerSecond,
        rawFdatasync: raw.fdatasync.bytesPerSecond,
        rawPreparing: bestRaw.preparingMs / bestRaw.ms,
        ratio: bytesPerSecond / bestRaw.bytesPerSecond,
      })
    }
    const medians = Object.fromEntries(
      Object.keys(rounds[0]).map((key) => [key, median(rounds.map((round) => round[key]))]),
    )
    const rows = rounds.map((round, index) => ({ round: `${index + 1}`, ...round }))
    rows.push({ round: 'median', ...medians })
    context.show({
      title: `Sustained for ${roundMs / 1000} s: batches of ${BATCH_RECORDS} records of ${RECORD_BYTES} B, ${BATCHES_IN_FLIGHT} in flight, preparation included`,
      columns,
      rows,
      notes,
    })
  },
}

const columns = [
  { key: 'round', title: 'round', format: 'text' },
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
  { key: 'rawPreparing', title: 'raw prepares', format: 'ratio' },
  { key: 'ratio', title: 'payload/raw', format: 'ratio' },
]

const notes = [
  `The log begins empty. Both sides keep ${KEEP_BYTES / MIB} MiB and remove what is older while they run.`,
  'raw: fills a file of 64 MiB with zeros and syncs it, then writes it in synced writes as large as the mean flush; all',
  'time counts (MB/s). raw prepares: the part of its time that this takes. payload/raw: against the faster way. Aim: 2.0.',
]
