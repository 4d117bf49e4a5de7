/** All checks of `doctor`, in the order in which they are printed. Writes nothing but two files without a name. */
import { dirname, join, resolve } from 'node:path'
import {
  type Environment,
  measureSyncLatency,
  type ParallelWrites,
  type SyncLatency,
  type SyncMeasurement,
} from '../../../native-free-storage/index.ts'
import type { DaemonConfig } from '../../daemon/settings.ts'
import { spaceLimits } from '../../daemon/space.ts'
import { type Check, checkCodes } from './check.ts'
import { daemonCheck, descriptorCheck, directoryCheck, leftoversCheck, quarantineCheck } from './data-checks.ts'
import { checkFileSystem } from './file-system-checks.ts'
import { clockCheck, kernelLockCheck, nodeCheck, openFilesCheck } from './process-checks.ts'
import { honestyCheck, latencyCheck, threadsCheck, writeWayCheck } from './sync-checks.ts'
import type { SystemFacts } from './system-facts.ts'

const PCHANNELS_DEFAULT = 4

export interface DoctorReport {
  /** Absolute. */
  data: string
  /** No check has failed. */
  healthy: boolean
  checks: Check[]
  /** Empty where nothing could be measured. */
  latencies: SyncLatency[]
  parallel: ParallelWrites[]
  writeWay: { mode: string; depth: number; reason: string }
}

export interface DoctorOptions {
  environment: Environment
  facts: SystemFacts
  config: DaemonConfig
  hasFlock: boolean
  /** Default: the disk is measured. */
  measure?: (environment: Environment, directory: string) => Promise<SyncMeasurement>
}

/** Throws what no check expects: a bug, or an interrupt. */
export async function examine(options: DoctorOptions): Promise<DoctorReport> {
  const { environment, facts, config, hasFlock, measure = measureSyncLatency } = options
  const start = { nowMs: facts.nowMs(), monotonicMs: facts.monotonicMs() }
  const data = resolve(config.data)
  const place = await nearestDirectory(facts, data)
  const { directory, check: ofDirectory } = await directoryCheck(facts, data, place)
  const { descriptor, check: ofDescriptor } = await descriptorCheck(environment, data, config)
  const { daemonPid, check: ofDaemon } = await daemonCheck(environment, data)
  const disk = await checkFileSystem(environment, facts, place, spaceLimits(config))

  // In the pool where there is one: the probe of the daemon keeps what it found there.
  const pool = join(data, 'pool')
  const isPool = (await facts.pathFacts(pool).catch(() => null))?.isDirectory === true
  const writable = isPool ? pool : place
  const { way, check: ofWay } = await writeWayCheck(environment, writable, {
    mode: config.writeMode,
    depth: config.writeDepth,
  })
  const measured = directory.refusal === null ? await measure(environment, writable) : null
  const pchannels = descriptor?.pchannels ?? config.pchannels ?? PCHANNELS_DEFAULT

  const checks = [
    ofDirectory,
    ofDescriptor,
    ofDaemon,
    await leftoversCheck(environment, data, daemonPid !== null),
    await quarantineCheck(environment, data),
    ...disk.checks,
    latencyCheck(measured, directory.refusal),
    honestyCheck(measured, disk.place, facts),
    ofWay,
    threadsCheck(environment, way),
    await openFilesCheck(facts, daemonPid, config, pchannels),
    kernelLockCheck(hasFlock),
    nodeCheck(facts),
    clockCheck(facts, start),
  ].sort((a, b) => checkCodes.indexOf(a.code) - checkCodes.indexOf(b.code))
  return {
    data,
    healthy: checks.every(({ status }) => status !== 'fail'),
    checks,
    latencies: measured?.latencies ?? [],
    parallel: measured?.parallel ?? [],
    writeWay: { mode: way.mode, depth: way.depth, reason: way.reason },
  }
}

/** `path` where it is a directory, else the nearest one above it. */
async function nearestDirectory(facts: SystemFacts, path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const found = await facts.pathFacts(at).catch(() => null)
    if (found?.isDirectory === true || at === dirname(at)) return at
  }
}
