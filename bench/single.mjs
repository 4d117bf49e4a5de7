/**
 * Single appends of 1 KiB, 1,024 in flight: what a record costs, against the raw loop in writes of 1 MiB and in writes
 * as large as the engine's flushes.
 */
import { rmSync } from 'node:fs'
import { measureInFlight } from './harness/in-flight.mjs'
import { prepareFile, rawModes, rawPrepared, wholeSectors } from './harness/raw.mjs'
import { makeRecords, singleAppends } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog, warmUp } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const IN_FLIGHT = 1024
const RAW_FILE_BYTES = 64 * MIB

export const single = {
  name: 'single',
  summary: 'single appends of 1 KiB, 1,024 in flight (aim 400,000/s, or 0.18 of the bytes of raw)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(2048 * MIB)
    const roundMs = context.roundMs(1)
    const opened = await openBenchLog(context, context.folder('log'), { retention: { bytes: 512 * MIB } })
    const { log } = opened
    const rawPath = `${context.directory}/raw`
    prepareFile(rawPath, RAW_FILE_BYTES)
    await warmUp(opened)
    const start = singleAppends(log, makeRecords(1024, RECORD_BYTES))

    const rows = []
    for (let round = 0; round < context.rounds; round++) {
      await opened.settled()
      const engine = await measureInFlight({
        start,
        inFlight: IN_FLIGHT,
        warmMs: roundMs * 0.3,
        measureMs: roundMs,
        statistics: () => log.statistics(),
      })
      await opened.settled()
      const flushBytes = engine.statistics.appendedBytes / engine.statistics.flushes
      const raw = (writeBytes) =>
        Math.max(
          ...rawModes.map(
            (mode) =>
              rawPrepared({
                paths: [rawPath],
                fileBytes: RAW_FILE_BYTES,
                writeBytes,
                mode,
                forMs: roundMs * 0.25,
              }).bytesPerSecond,
          ),
        )
      const recordsPerSecond = (engine.appends / engine.ms) * 1000
      const rawMib = raw(MIB)
      const rawFlush = raw(wholeSectors(flushBytes))
      rows.push({
        round: `${round + 1}`,
        recordsPerSecond,
        bytesPerSecond: recordsPerSecond * RECORD_BYTES,
        p50Ms: engine.latencies.percentile(0.5),
        p99Ms: engine.latencies.percentile(0.99),
        flushBytes,
        flushMs: engine.statistics.flushMs / engine.statistics.flushes,
        cores: engine.cores,
        coreMicroseconds: (engine.cores * engine.ms) / engine.appends,
        rawMib,
        rawFlush,
        mibRatio: (recordsPerSecond * RECORD_BYTES) / rawMib,
        flushRatio: (recordsPerSecond * RECORD_BYTES) / rawFlush,
      })
    }
    const medians = Object.fromEntries(
      Object.keys(rows[0])
        .filter((key) => key !== 'round')
        .map((key) => [key, median(rows.map((row) => row[key]))]),
    )
    rows.push({ round: 'median', ...medians })
    context.noteDisk()
    await opened.close()
    rmSync(rawPath)
    context.show({
      title: `Single appends of ${RECORD_BYTES} B, ${IN_FLIGHT} in flight (rounds of ${roundMs / 1000} s)`,
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
  { key: 'flushMs', title: 'flush ms', format: 'milliseconds' },
  { key: 'cores', title: 'cores', format: 'ratio' },
  { key: 'coreMicroseconds', title: 'core us/record', format: 'microseconds' },
  { key: 'rawMib', title: 'raw 1 MiB', format: 'megabytes' },
  { key: 'rawFlush', title: 'raw flush', format: 'megabytes' },
  { key: 'mibRatio', title: 'payload/raw 1 MiB', format: 'ratio' },
  { key: 'flushRatio', title: 'payload/raw flush', format: 'ratio' },
]

const notes = [
  'raw: synced writes of 1 MiB, and as large as the mean flush, on a prepared file, the faster way (MB/s).',
  'Aim: 400,000 records/s, or 0.18 of the bytes of raw 1 MiB.',
]
