/** How synced writes do, whether they can be believed, and how the logs would be written. */
import {
  type Environment,
  probeWriteWay,
  type SyncMeasurement,
  type WriteMode,
  type WriteWay,
} from '../../../native-free-storage/index.ts'
import { type Check, fail, ok, warn } from './check.ts'
import { IN_MEMORY, type Place } from './file-system-checks.ts'
import type { SystemFacts } from './system-facts.ts'

/** A write of 4 KiB through Node takes 15 to 35 µs to memory alone; a disk that has it for good takes longer. */
const IMPLAUSIBLE_MS = 0.04
/** Less than a fifth of a turn at 7,200 a minute, as the median. */
const ROTATING_IMPLAUSIBLE_MS = 1.5
const SLOW_P50_MS = 50
const SLOW_P99_MS = 250

export function latencyCheck(measured: SyncMeasurement | null, why: string | null): Check {
  if (measured === null) {
    const next = 'Run doctor as the user of the daemon.'
    return warn('SYNC_LATENCY', `not measured: nothing can be written there (${why})`, next)
  }
  if (measured.fault !== null) {
    return fail('SYNC_LATENCY', measured.fault, 'Look at the disk and at the kernel log (dmesg).')
  }
  const parts = measured.latencies
    .filter(({ bytes }) => bytes === 4096)
    .map(({ mode, p50Ms, p99Ms, maxMs }) => {
      return `${nameOf(mode)} ${ms(p50Ms)} median, ${ms(p99Ms)} p99, ${ms(maxMs)} at most`
    })
  const message = `4 KiB: ${parts.join('; ')}`
  const single = measured.latencies.filter(({ bytes }) => bytes === 4096)
  const best = Math.min(...single.map(({ p50Ms }) => p50Ms))
  const tail = Math.min(...single.map(({ p99Ms }) => p99Ms))
  if (best > SLOW_P50_MS || tail > SLOW_P99_MS) {
    const next = 'Every acknowledgement waits for a sync: look for other users of the disk, or use a faster one.'
    return warn('SYNC_LATENCY', message, next)
  }
  return ok('SYNC_LATENCY', message)
}

/** Hints, no proof: only a power loss shows whether a sync was honest. */
export function honestyCheck(measured: SyncMeasurement | null, place: Place, facts: SystemFacts): Check {
  if (/eatmydata/.test(facts.environment.LD_PRELOAD ?? '')) {
    const next = 'Start without LD_PRELOAD=libeatmydata: with it every sync is ignored.'
    return fail('SYNC_HONESTY', 'libeatmydata is loaded: syncs are ignored', next)
  }
  if (place.fileSystem !== null && IN_MEMORY.includes(place.fileSystem)) {
    const next = 'For anything but a test choose a directory on a disk.'
    return warn('SYNC_HONESTY', `${place.fileSystem} has no medium: a sync does nothing there`, next)
  }
  const single = measured?.latencies.filter(({ bytes }) => bytes === 4096) ?? []
  if (single.length === 0) return ok('SYNC_HONESTY', 'not judged: nothing was measured')
  const slowest = Math.max(...single.map(({ p50Ms }) => p50Ms))
  const fastest = single.reduce((a, b) => (b.p50Ms < a.p50Ms ? b : a))
  const next =
    'Find out whether the disk, its controller or the host of the virtual machine answers from a cache without a battery.'
  if (fastest.p50Ms < IMPLAUSIBLE_MS) {
    const what = `${nameOf(fastest.mode)} of 4 KiB takes ${ms(fastest.p50Ms)}, faster than disks are`
    return warn('SYNC_HONESTY', `${what}: it may not be on the medium when it returns`, next)
  }
  if (place.device?.rotational === true && !place.isVirtual && slowest < ROTATING_IMPLAUSIBLE_MS) {
    const what = `a sync takes ${ms(slowest)} on a disk that says it rotates`
    return warn('SYNC_HONESTY', `${what}: a cache answers in its place`, next)
  }
  return ok(
    'SYNC_HONESTY',
    `${ms(fastest.p50Ms)} for 4 KiB is a time that a disk may take; only a power loss proves it`,
  )
}

/** What `serve` would take, and why. Nothing is kept of what is measured. */
export async function writeWayCheck(
  environment: Environment,
  directory: string,
  override: { mode: WriteMode | null; depth: number | null },
): Promise<{ way: WriteWay; check: Check }> {
  const { mode, depth } = override
  const way = await probeWriteWay(environment, directory, {
    override: { mode: mode ?? undefined, depth: depth ?? undefined },
    keep: false,
  })
  const message = `${way.mode} at depth ${way.depth}: ${way.reason}`
  const guessed = way.measured === undefined && (mode === null || depth === null)
  const check = guessed
    ? warn('WRITE_WAY', message, 'Run doctor where it may write, or give --write-mode and --write-depth to serve.')
    : ok('WRITE_WAY', message)
  return { way, check }
}

export function threadsCheck(environment: Environment, way: WriteWay): Check {
  const threads = environment.disk.traits?.parallelOperations ?? 4
  const message = `${threads} threads for files (UV_THREADPOOL_SIZE), write depth ${way.depth}`
  if (way.depth > threads) {
    const next = `Set UV_THREADPOOL_SIZE to ${way.depth + 4} for serve, or a smaller --write-depth: more writes than threads only queue.`
    return warn('THREADS', message, next)
  }
  if (way.depth === threads) return ok('THREADS', `${message}: a read waits for a thread while all of them write`)
  return ok('THREADS', message)
}

function nameOf(mode: WriteMode): string {
  return mode === 'dsync' ? 'O_DSYNC' : 'write and fdatasync'
}

export function ms(value: number): string {
  return value < 1 ? `${(value * 1000).toFixed(0)} µs` : `${value.toFixed(value < 10 ? 2 : 0)} ms`
}
