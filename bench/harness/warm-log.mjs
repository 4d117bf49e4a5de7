/** A log with a pool of its own that can be waited for, grown to segments of full size. */
import { mkdirSync } from 'node:fs'
import { appendExactly } from './in-flight.mjs'
import { batchAppends, makeRecords } from './records.mjs'

export const MIB = 1024 * 1024
export const SEGMENT_BYTES = 64 * MIB
/** The files double from 1 MiB: behind so much payload, the one that is written to has the full size. */
const UNTIL_FULL_SIZE_BYTES = 160 * MIB

/**
 * @param {import('./context.mjs').Context} context
 * @param {string} directory
 * @param {object} options of openLog
 */
export async function openBenchLog(context, directory, options = {}) {
  const { engine } = context
  const environment = options.environment ?? engine.nodeEnvironment()
  mkdirSync(directory, { recursive: true })
  const pool = await engine.openFilePool(environment, directory)
  const log = await engine.openLog(directory, {
    environment,
    pool,
    segmentBytes: SEGMENT_BYTES,
    writeWay: context.way,
    ...options,
  })
  return {
    log,
    pool,
    /** Nothing goes on in the background: segments that retention gives up are gone, the next ones are prepared. */
    async settled() {
      await log.applyRetention()
      await pool.settled()
    },
    async close() {
      await log.close()
      await pool.close()
    },
  }
}

/** Appends until the files have their full size, and waits until the next ones are prepared. */
export async function warmUp({ log, settled }) {
  const start = batchAppends(log, makeRecords(1024, 1024), 1024)
  await appendExactly({
    start,
    appends: UNTIL_FULL_SIZE_BYTES / MIB,
    inFlight: 4,
    statistics: () => log.statistics(),
  })
  await settled()
}
