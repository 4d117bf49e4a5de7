/**
 * Runs a workload, loses power before each of its disk operations, and looks at what is found afterwards. One run gives
 * many crash states: the disk goes on while each state is set aside, and the states are examined between the runs.
 */
import { hash64, loadChecksum } from '../../native-free-storage/index.ts'
import type { FindingCode } from '../../native-free-storage/maintenance/findings.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { type Chooser, eachChoiceNow, keepAll, loseAll, seededChoices } from './choices.ts'
import { demand, type Ledger } from './log-ledger.ts'
import { logDirectory, Session, type Way, type Workload } from './log-session.ts'
import { checkLookups } from './lookups.ts'
import { Random } from './random.ts'
import { type RebootOptions, SimDisk, type SimDiskOptions } from './sim-disk.ts'

export interface CrashSpace {
  workload: Workload
  way: Way
  names: 'strict' | 'ext4'
  seed: number | string
  /** Power is lost before each step, and not before a part of them. */
  everyStep?: boolean
  /** Replaces the session's own view of the disk: an engine that is broken on purpose. */
  wrap?: Session['wrap']
}

export interface CrashState {
  step: number
  choice: string
  disk: SimDisk
  ledger: Ledger
}

/** States of one run that are kept in memory at a time. */
const heldStatesMax = 200
/** Below so many combinations of what is pending all are tried. */
const exhaustiveMax = 16

export interface CrashCounts {
  states: number
  /** Crash points of which every combination of lost and kept was tried. */
  exhausted: number
  points: number
  recoveryCrashes: number
}

/** Each failure says what to type to see it again. */
export class CrashFailure extends Error {
  readonly trace: readonly string[]

  constructor(space: CrashSpace, step: number, choice: string, cause: unknown, trace: readonly string[]) {
    const { workload, way, names, seed } = space
    const where = `${workload.name}, ${way.mode} depth ${way.depth}, ${way.durability}, ${names} names, seed ${seed}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(`${where}: power lost before step ${step}, pending "${choice}": ${reason}`, { cause })
    this.name = 'CrashFailure'
    this.trace = trace
  }
}

export function newDisk(space: Pick<CrashSpace, 'names' | 'seed'>, options: SimDiskOptions = {}): SimDisk {
  const disk = new SimDisk({ names: space.names, seed: space.seed, ...options })
  disk.prepareDirectory('/data')
  return disk
}

/** How many steps the workload takes when nothing happens to it. */
export async function countSteps(space: CrashSpace): Promise<number> {
  const disk = newDisk(space)
  const session = sessionOn(space, disk)
  await space.workload.run(session)
  await session.sleep(1_000)
  const { steps } = disk
  await session.ledger.check(await session.open())
  await session.log.close()
  disk.clock.stop()
  return steps
}

function sessionOn(space: CrashSpace, disk: SimDisk, ledger?: Ledger): Session {
  const session = new Session(disk, space.way, space.seed, ledger)
  if (space.wrap !== undefined) session.wrap = space.wrap
  return session
}

export function noCrashes(): CrashCounts {
  return { states: 0, exhausted: 0, points: 0, recoveryCrashes: 0 }
}

/**
 * Crash states of the space, about `wanted` of them or as many as there are distinct ones. At a crash point all
 * combinations of what is pending are taken where they are few; else all lost, all kept, and some drawn from the seed.
 */
export async function crashEverywhere(
  space: CrashSpace,
  wanted: number,
  counts: CrashCounts = noCrashes(),
  seen: Set<bigint> = new Set(),
): Promise<CrashCounts> {
  await loadChecksum()
  const steps = await countSteps(space)
  const random = new Random(`${space.seed}/${space.workload.name}`)
  const perStep = Math.max(wanted < 40 ? 1 : 3, Math.round(wanted / steps))
  // With fewer states than that a part of the steps is taken, spread over the run.
  const points = Math.ceil(wanted / perStep)
  const chosen = new Set<number>()
  if (space.everyStep || points >= steps) for (let step = 0; step < steps; step++) chosen.add(step)
  else {
    const width = steps / points
    for (let i = 0; i < points; i++) chosen.add(Math.min(steps - 1, Math.floor((i + random.fraction()) * width)))
  }
  let from = 0
  while (from < steps) {
    const { states, next } = await collect(space, { from, steps, perStep, chosen, seen, counts })
    for (const state of states) {
      const crashRecovery = random.chance(0.3)
      counts.states++
      await examine(space, state, crashRecovery ? random.between(1, 90) : 0)
      if (crashRecovery) counts.recoveryCrashes++
    }
    from = next
  }
  return counts
}

/**
 * The process dies, the machine goes on: at each of `wanted` steps spread over the workload, in a run of its own. What
 * was written is there, so that nothing acknowledged may be gone, whatever the durability of the log.
 */
export async function dieEverywhere(space: CrashSpace, wanted: number): Promise<number> {
  await loadChecksum()
  const steps = await countSteps(space)
  const random = new Random(`${space.seed}/${space.workload.name}/deaths`)
  for (let i = 0; i < wanted; i++) {
    const at = wanted >= steps ? i % steps : Math.floor(((i + random.fraction()) * steps) / wanted)
    await dieAt(space, at)
  }
  return wanted
}

/** The process dies before one step of the workload. */
export async function dieAt(space: CrashSpace, at: number): Promise<void> {
  const disk = newDisk(space)
  const session = sessionOn(space, disk)
  const died = new Promise<void>((resolve) => {
    disk.onStep = (step) => {
      if (step < at) return
      disk.onStep = undefined
      session.stopped = true
      session.disk.processCrash(`${space.seed}/${at}`)
      resolve()
    }
  })
  await Promise.race([died, space.workload.run(session)])
  disk.onStep = undefined
  const ledger = session.ledger.copy()
  const next = sessionOn(space, session.disk.nextProcess(), ledger)
  try {
    await space.workload.afterCrash?.(next)
    await goOn(next)
    await readBack(next)
    await readBack(next)
    demandNoOrphans(next.disk)
  } catch (error) {
    throw new CrashFailure(space, at, 'the process alone died', error, disk.trace)
  } finally {
    disk.powerLoss()
  }
}

interface Collection {
  from: number
  steps: number
  perStep: number
  chosen: ReadonlySet<number>
  seen: Set<bigint>
  counts: CrashCounts
}

/** Runs the workload and sets states aside from step `from` on, until enough are held. */
async function collect(space: CrashSpace, plan: Collection): Promise<{ states: CrashState[]; next: number }> {
  const { perStep, chosen, seen, counts } = plan
  const disk = newDisk(space)
  const session = sessionOn(space, disk)
  const states: CrashState[] = []
  let next = plan.steps
  const take = (step: number, choice: string, chooser: Chooser, options: RebootOptions): void => {
    const found = disk.reboot(chooser, options)
    const print = fingerprint(found, session.ledger)
    if (seen.has(print)) return
    seen.add(print)
    states.push({ step, choice, disk: found, ledger: session.ledger.copy() })
  }
  disk.onStep = (step) => {
    if (step < plan.from || !chosen.has(step)) return
    if (states.length >= heldStatesMax) {
      next = step
      disk.onStep = undefined
      disk.powerLoss()
      return
    }
    counts.points++
    const { names, writes } = disk.pending()
    const combinationsMax = space.everyStep || perStep > 3 ? exhaustiveMax : perStep
    if (perStep > 1 && 2 ** (names + writes) <= combinationsMax) {
      const tape: string[] = []
      eachChoiceNow(exhaustiveMax * 4, (chooser) => {
        tape.length = 0
        const recorded: Chooser = {
          choose(options, what) {
            const answer = chooser.choose(options, what)
            tape.push(`${what[0]}${answer}`)
            return answer
          },
        }
        take(step, `exactly ${tape.join('')}`, recorded, { garble: false, tear: false })
      })
      counts.exhausted++
      return
    }
    const plain: [string, Chooser][] = [
      ['lost', loseAll],
      ['kept', keepAll],
    ]
    for (let k = 0; k < perStep; k++) {
      const pick = perStep > 2 ? plain[k] : undefined
      if (pick !== undefined) take(step, pick[0], pick[1], {})
      else take(step, `random ${k}`, seededChoices(`${space.seed}/${step}/${k}`), {})
    }
  }
  const running = space.workload.run(session).then(() => session.sleep(1_000))
  await Promise.race([running, disk.crashed])
  disk.onStep = undefined
  disk.powerLoss()
  return { states, next }
}

/** What makes two states the same: names and bytes, and what the users know. Of the pool the names are enough. */
function fingerprint(disk: SimDisk, ledger: Ledger): bigint {
  const parts: string[] = []
  for (const path of disk.paths().sort()) {
    const bytes = disk.contents(path)
    const content = path.includes('/pool/') ? 0n : hash64(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
    parts.push(`${path} ${bytes.length} ${content}`)
  }
  const outcomes = ledger.submissions.map(({ outcome }) => outcome[0]).join('')
  parts.push(`${outcomes} ${ledger.firstLsn} ${ledger.askedFirstLsn} ${ledger.watermark.tick}`)
  return hash64(Buffer.from(parts.join('\n')))
}

/** What a power loss may leave that `verify` cannot tell from damage: a torn slot of the lease. */
const leftByPowerLoss: readonly FindingCode[] = ['LEASE_DAMAGED']

/** A crash is no damage: `verify` has to find nothing but what it tells for information, and what `tolerated` names. */
export async function demandSound(
  session: Session,
  when: string,
  tolerated: readonly FindingCode[] = [],
): Promise<void> {
  const names = await session.environment.disk.list(logDirectory).catch(() => [])
  // Before the first manifest was published there is no log.
  if (!names.some((name) => /^MANIFEST-\d{20}$/.test(name))) return
  const { findings } = await verifyLog(session.environment, logDirectory)
  const severe = findings.filter(({ severity, code }) => severity !== 'info' && !tolerated.includes(code))
  demand(
    severe.length === 0,
    () => `verify ${when}: ${severe.map(({ code, message }) => `${code} ${message}`).join('; ')}`,
  )
}

/** Opens what is found, checks it, goes on appending, and opens it again. `crashRecoveryAt`: it dies once more first. */
export async function examine(space: CrashSpace, state: CrashState, crashRecoveryAt: number): Promise<void> {
  const { ledger } = state
  let { disk } = state
  let choice = state.choice
  try {
    if (space.way.durability === 'os') ledger.mayLoseBelow = Number.POSITIVE_INFINITY
    if (crashRecoveryAt > 0) {
      disk.crashAfter(crashRecoveryAt)
      const first = sessionOn(space, disk, ledger)
      const recovery = async (): Promise<void> => {
        await space.workload.afterCrash?.(first)
        await goOn(first)
      }
      await Promise.race([recovery(), disk.crashed])
      choice += `, again before step ${crashRecoveryAt} of the recovery`
      disk = disk.reboot(crashRecoveryAt)
    }
    const session = sessionOn(space, disk, ledger)
    const { tolerates = [], afterCrash } = space.workload
    await demandSound(session, 'as the crash left it', [...leftByPowerLoss, ...tolerates])
    await afterCrash?.(session)
    await goOn(session)
    const found = await readBack(session)
    const again = await readBack(session)
    demand(JSON.stringify(found, plain) === JSON.stringify(again, plain), () => 'two clean openings differ')
    demandNoOrphans(disk)
    await demandSound(session, 'after two clean openings')
  } catch (error) {
    throw new CrashFailure(space, state.step, choice, error, disk.trace)
  } finally {
    disk.onStep = undefined
    disk.powerLoss()
  }
}

/** The first life after a crash. */
export async function goOn(session: Session): Promise<void> {
  const { ledger } = session
  const log = await session.open()
  await ledger.check(log)
  session.watermark()
  const highest = Math.max(-1, ...ledger.known.keys())
  await Promise.all([session.submit(120), session.submit(30, 40)])
  const appended = ledger.submissions.slice(-2)
  for (const { outcome, firstLsn } of appended) {
    demand(outcome === 'acknowledged', () => `an append after the recovery is ${outcome}`)
    demand(firstLsn > highest, () => `LSN ${firstLsn} was given after ${highest} was known`)
  }
  session.watermark()
  const found = await ledger.check(log)
  await checkLookups(log, found, new Random(found.nextLsn), 1)
  await session.close()
}

export async function readBack(session: Session) {
  const log = await session.open()
  const found = await session.ledger.check(log)
  await checkLookups(log, found, new Random(found.nextLsn), 1)
  session.watermark()
  await session.close()
  return found
}

const plain = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value)

export function demandNoOrphans(disk: SimDisk): void {
  const ours = /^(MANIFEST-\d{20}|MANIFEST\.spare|LOCK\.spare|LEASE|SNAPSHOT-\d{20}|\d{20}-[0-9a-f]{16}\.(seg|idx))$/
  const inside = disk.paths().filter((path) => path.startsWith(`${logDirectory}/`))
  const names = inside.map((path) => path.slice(logDirectory.length + 1))
  const orphans = names.filter((name) => !ours.test(name) && !/^quarantine\/|^pool\/reserve/.test(name))
  demand(orphans.length === 0, () => `left over: ${orphans.join(', ')}`)
  const manifests = names.filter((name) => /^MANIFEST-/.test(name))
  demand(manifests.length === 1, () => `${manifests.length} manifests after two clean openings`)
  const segments = new Set(names.filter((name) => name.endsWith('.seg')).map((name) => name.slice(0, -4)))
  const strays = names.filter((name) => name.endsWith('.idx') && !segments.has(name.slice(0, -4)))
  demand(strays.length === 0, () => `indexes without a segment: ${strays.join(', ')}`)
}
