/**
 * Makes a damaged log open again. What is damaged is written anew under a new id, what is missing is replaced by a gap,
 * and what is taken out goes to quarantine/: nothing is deleted, nothing renumbered. docs/OPERATIONS.md says what to
 * type, docs/decisions/0006 why it is done in this way.
 */
import { acquireLock } from '../disk/lock-file.ts'
import type { Environment } from '../environment.ts'
import { loadChecksum } from '../format/checksum.ts'
import type { Finding } from './findings.ts'
import type { RepairAction, RepairMode } from './repair-action.ts'
import { applyRepair } from './repair-apply.ts'
import type { LsnRange } from './repair-frames.ts'
import { lookForRepair, type RepairView } from './repair-look.ts'
import { planRepair, type RepairPlan } from './repair-plan.ts'
import { verifyLog } from './verify.ts'

export interface RepairOptions {
  /** False: nothing is written, and the report says what would be done. */
  apply: boolean
  mode: RepairMode
  /** Of the repairs of several logs that belong together, when the first began; default: now. */
  runMs?: number
}

export interface RepairReport {
  /** The log's directory. */
  path: string
  mode: RepairMode
  applied: boolean
  /** As `verify` has it, before: 0 clean, 8 damaged but nothing acknowledged lost, 9 acknowledged data lost. */
  damage: 0 | 8 | 9
  /** What was found, before. */
  findings: Finding[]
  actions: RepairAction[]
  /** LSNs that were given and are gone; a gap says so from now on. */
  lost: LsnRange[]
  /** LSNs of which nobody can say whether they were given; `lost` too where the end of the log is gone. */
  skipped: LsnRange[]
  /** What could not be known and was taken to be so. */
  assumptions: string[]
  /** Names in quarantine/ of what was taken out; of a dry run empty. */
  quarantined: string[]
  /** The LSN that the next record gets; null: not known, since nothing had to be done. */
  nextLsn: number | null
  /** The greatest time tick that was seen in it. */
  lastTimeTick: bigint
  /** Applied, and `verify` finds no damage any more; of a dry run, and when nothing had to be done, whether it finds none. */
  sound: boolean
}

/**
 * Repairs the log in `directory`, or says what it would do. A crash at any step leaves the log as it was or repaired;
 * repairing again finishes.
 *
 * Errors: LOCKED (a process has it open for writing), LOG_MISSING, FORMAT_UNKNOWN (something in it is of a later
 * version), DISK_FULL (nothing has changed then), IO_FAILED.
 */
export async function repairLog(
  environment: Environment,
  directory: string,
  { apply, mode, runMs = environment.clock.nowMs() }: RepairOptions,
): Promise<RepairReport> {
  await loadChecksum()
  // Before the lock: where no log is, nothing is made.
  const dry = await lookForRepair(environment, directory)
  if (!apply) return reportOf(dry, await planRepair(dry, mode), false)
  const lock = await acquireLock(environment, directory)
  try {
    const view = await lookForRepair(besideOwnLock(environment), directory)
    const plan = await planRepair(view, mode)
    const report = reportOf(view, plan, true)
    if (report.actions.length === 0) return { ...report, applied: false }
    report.quarantined = await applyRepair(view, plan, runMs)
    const { findings } = await verifyLog(view.environment, directory)
    report.sound = isSound(findings)
    return report
  } finally {
    await lock.release()
  }
}

function reportOf(view: RepairView, plan: RepairPlan, applied: boolean): RepairReport {
  const { directory: path, damage, findings } = view
  const report: RepairReport = {
    path,
    mode: plan.mode,
    applied,
    damage,
    findings: [...findings],
    actions: [],
    lost: [],
    skipped: [],
    assumptions: [],
    quarantined: [],
    nextLsn: null,
    lastTimeTick: plan.lastTimeTick,
    sound: isSound(findings),
  }
  const changes = plan.segments.some(({ kind }) => kind === 'made')
  if (report.sound && view.known === view.newest && !changes) return report
  const { actions, lost, skipped, assumptions, nextLsn } = plan
  return { ...report, actions, lost, skipped, assumptions, nextLsn, sound: false }
}

/** The lock that is held here is no sign of a writer. */
function besideOwnLock(environment: Environment): Environment {
  const { processes } = environment
  const self = processes.self()
  return {
    ...environment,
    processes: {
      self: () => self,
      isAlive: (identity) => {
        const { pid, bootId, startTime } = identity
        const isOwn = pid === self.pid && bootId === self.bootId && startTime === self.startTime
        return !isOwn && processes.isAlive(identity)
      },
    },
  }
}

function isSound(findings: readonly Finding[]): boolean {
  return findings.every(({ severity }) => severity === 'info')
}
