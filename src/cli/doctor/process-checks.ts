/** The process and its surroundings: Node, limits, the optional addon, the clock. */
import type { DaemonConfig } from '../../daemon/settings.ts'
import { type Check, fail, ok, warn } from './check.ts'
import type { SystemFacts } from './system-facts.ts'

const NODE_MAJOR_MIN = 20
/** Open files of the daemon besides its connections: of each log, and of the process. */
const FILES_A_LOG = 32
const FILES_OTHERS = 64
/** Apart from the monotonic clock within the time of this command. */
const CLOCK_STEP_MS = 100
/** Tidelog is younger: a clock before this was never set. */
const CLOCK_EARLIEST_MS = Date.UTC(2025, 0, 1)

export function nodeCheck(facts: SystemFacts): Check {
  const major = Number.parseInt(facts.nodeVersion, 10)
  const message = `Node ${facts.nodeVersion}`
  if (major >= NODE_MAJOR_MIN) return ok('NODE_VERSION', message)
  return fail('NODE_VERSION', message, `Use Node ${NODE_MAJOR_MIN} or later.`)
}

/** Of the daemon where one runs and may be looked at, else of this process. */
export async function openFilesCheck(
  facts: SystemFacts,
  daemonPid: number | null,
  config: Pick<DaemonConfig, 'connectionsMax'>,
  pchannels: number,
): Promise<Check> {
  const ofDaemon = daemonPid === null ? null : await facts.readText(`/proc/${daemonPid}/limits`)
  const text = ofDaemon ?? (await facts.readText('/proc/self/limits'))
  const limit = /^Max open files\s+(\S+)/m.exec(text ?? '')?.[1]
  const whose = ofDaemon === null ? 'this shell' : 'the daemon'
  if (limit === undefined) return ok('OPEN_FILES', 'the limit of open files cannot be told on this system')
  if (limit === 'unlimited') return ok('OPEN_FILES', `no limit of open files for ${whose}`)
  const needed = config.connectionsMax + (pchannels + 1) * FILES_A_LOG + FILES_OTHERS
  const message = `${limit} open files for ${whose}; the daemon may need ${needed}`
  if (Number(limit) >= needed) return ok('OPEN_FILES', message)
  return warn('OPEN_FILES', message, 'Raise it (LimitNOFILE= of systemd, ulimit -n), or lower --connections-max.')
}

export function kernelLockCheck(isLoadable: boolean): Check {
  if (isLoadable) return ok('KERNEL_LOCK', 'lock file and flock: fs-ext loads')
  return warn(
    'KERNEL_LOCK',
    'the lock file alone: the optional package fs-ext does not load. Two containers that share a directory cannot see each other in it; the manifest fences the one that came first',
    'Install fs-ext (npm install, with a compiler for C++), or make sure that one process at a time has the directory.',
  )
}

/** Both clocks at the start of the command and now. */
export function clockCheck(facts: SystemFacts, start: { nowMs: number; monotonicMs: number }): Check {
  const nowMs = facts.nowMs()
  const apartMs = nowMs - start.nowMs - (facts.monotonicMs() - start.monotonicMs)
  const shown = new Date(nowMs).toISOString()
  const next =
    'Set up time synchronisation (chrony, systemd-timesyncd) that slews; time ticks never go back, but they wait.'
  if (nowMs < CLOCK_EARLIEST_MS) return warn('CLOCK', `the clock says ${shown}, which is long gone`, next)
  if (Math.abs(apartMs) > CLOCK_STEP_MS) {
    return warn('CLOCK', `the clock stepped by ${Math.round(apartMs)} ms while doctor ran`, next)
  }
  return ok('CLOCK', `${shown}, in step with the monotonic clock`)
}
