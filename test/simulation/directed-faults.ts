/**
 * Faults that are put where they matter most: with several writes in flight, at a sync, at the end of the room, at a
 * death that power loss follows. Each looks at one state, and throws when a promise is broken.
 */
import type { Environment } from '../../native-free-storage/environment.ts'
import type { TidelogError } from '../../native-free-storage/index.ts'
import { examine, goOn, newDisk, readBack } from './crash-runner.ts'
import { demand } from './log-ledger.ts'
import { Session, ways } from './log-session.ts'
import { workloads } from './log-workloads.ts'
import { SimClock } from './sim-clock.ts'

export interface Place {
  /** Index in `ways`; default 0. */
  way?: number
  names?: 'strict' | 'ext4'
}

type Wrap = (environment: Environment) => Environment

/** A segment is written under the name that its file had when it was opened: mostly that of the pool. */
const segmentFile = /\/pool\/[0-9a-f]+\.(new|prep)$|\.seg$/

function sessionFor(what: Place, seed: string, wrap: Wrap): Session {
  const session = new Session(newDisk({ names: what.names ?? 'strict', seed }), ways[what.way ?? 0]!, seed)
  session.wrap = wrap
  return session
}

/** After a fault another process opens the log, or power is lost; all that was told to anybody is there. */
async function findAgain(session: Session, index: number): Promise<void> {
  session.ledger.epoch++
  const next = index % 2 === 0 ? session.disk.reboot(index) : undefined
  if (next === undefined) session.disk.processCrash(index)
  const found = new Session(next ?? session.disk.nextProcess(), session.way, session.seed, session.ledger.copy())
  found.wrap = session.wrap
  try {
    await goOn(found)
    await readBack(found)
  } finally {
    found.disk.powerLoss()
    session.disk.powerLoss()
  }
}

/** Flushes that overlap: each leaves before the one before it has returned, and is large enough not to be gathered. */
async function overlapping(session: Session, count: number): Promise<void> {
  const flushes: Promise<unknown>[] = []
  for (let i = 0; i < count; i++) {
    flushes.push(session.submit(66_000, 66_000))
    await session.sleep(0.001)
  }
  await Promise.all(flushes)
}

/** Power is lost with several writes in flight: each is there as a whole or not at all, or every second time in part. */
export async function loseOneOfSeveral(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  const { disk, way, ledger } = session
  await session.open({ segmentBytes: 1024 * 1024 })
  await session.submit(100)
  const crashed = new Promise<void>((resolve) => {
    const last = disk.steps + 1 + (index % 12)
    disk.onStep = (step) => {
      if (step < last) return
      disk.onStep = undefined
      resolve()
      const found = disk.reboot(seed, { tear: index % 2 === 1, garble: false })
      const state = { step, choice: seed, disk: found, ledger: ledger.copy() }
      disk.powerLoss()
      examining = examine({ workload: workloads[0]!, way, names: 'ext4', seed, wrap }, state, 0)
    }
  })
  let examining: Promise<void> = Promise.resolve()
  const flushes = overlapping(session, 3)
  await Promise.race([crashed, flushes.then(() => session.sleep(10))])
  disk.onStep = undefined
  await examining
  disk.powerLoss()
}

/** A process dies with writes in flight; the next one reads what it finds, goes on, and then power is lost. */
export async function dieThenLosePower(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  const { disk, way, ledger } = session
  await session.open()
  await session.submit(100)
  await session.submit(2_000)
  const deaths = disk.steps + 1 + (index % 9)
  const died = new Promise<void>((resolve) => {
    disk.onStep = (step) => {
      if (step < deaths) return
      disk.onStep = undefined
      disk.processCrash(seed)
      resolve()
    }
  })
  const last = session.submit(1_500, 1_200)
  await Promise.race([died, last.then(() => session.sleep(60))])
  disk.onStep = undefined
  if (disk.alive) disk.processCrash(seed)
  const next = new Session(disk.nextProcess(), way, `${seed}/next`, ledger)
  next.wrap = wrap
  await ledger.check(await next.open())
  for (let i = 0; i <= index % 3; i++) await next.submit(700)
  const found = next.disk.reboot(seed)
  const state = { step: deaths, choice: seed, disk: found, ledger: ledger.copy() }
  next.disk.powerLoss()
  await examine({ workload: workloads[0]!, way, names: what.names ?? 'strict', seed, wrap }, state, 0)
}

/** Ticks are told, power is lost, and the clock stands an hour earlier when it comes back. */
export async function clockGoesBack(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  const { disk, ledger, way } = session
  await session.open()
  if (index % 2 === 0) await session.submit(100)
  session.watermark()
  await session.sleep((index % 7) * 1_000)
  session.watermark()
  session.watermark()
  const clock = new SimClock({ startMs: disk.clock.nowMs() - 3_600_000 })
  const found = disk.reboot(seed, { clock })
  disk.powerLoss()
  ledger.epoch++
  const next = new Session(found, way, seed, ledger.copy())
  next.wrap = wrap
  try {
    await goOn(next)
    await readBack(next)
  } finally {
    found.powerLoss()
  }
}

/** Of several writes in flight one finds the disk full; those behind it may have been written. */
export async function runOutOfSpace(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  const { disk } = session
  await session.open({ segmentBytes: 4 * 1024 * 1024 })
  await session.submit(100)
  // The same lengths again and again: what is left of a flush stands where a later one would begin.
  const which = index % 3
  let seen = 0
  disk.inject(({ kind, path, length }) => {
    if (kind !== 'write' || !segmentFile.test(path) || (length ?? 0) < 100_000 || seen++ !== which) return undefined
    return { short: [0, 512, 70_000][index % 3]!, fail: 'ENOSPC' }
  })
  await overlapping(session, 4)
  for (let i = 0; i <= index % 2; i++) await overlapping(session, 1 + (index % 2))
  session.watermark()
  await session.ledger.check(session.log)
  await findAgain(session, index)
}

/** A write does not return: the append that waits for it is answered all the same, and what lands late is never read. */
export async function waitForWrite(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  const { disk } = session
  let left = index % 4
  disk.inject(({ kind, path, position }) => {
    const ours = kind === 'write' && segmentFile.test(path) && (position ?? 0) >= 4096
    return ours && left-- === 0 ? { stall: index % 2 === 0 ? 'late' : 'landed' } : undefined
  })
  await session.open({ writeDeadlineMs: 1_000, segmentBytes: 1024 * 1024 })
  for (let i = 0; i < 5; i++) {
    const appends =
      index % 3 === 0 ? overlapping(session, 3) : Promise.all([session.submit(3_000, 2_000), session.submit(300)])
    const answered = await Promise.race([appends.then(() => true), session.sleep(20_000).then(() => false)])
    demand(answered, () => 'an append was not answered within twenty deadlines of a write')
    session.watermark()
  }
  for (const held of [...disk.stalled]) held.release()
  await session.sleep(50)
  await session.ledger.check(session.log)
  await findAgain(session, index)
}

/** A sync of a segment fails once; the next one of the same file would succeed. */
export async function failSync(what: Place, index: number, seed: string, wrap: Wrap): Promise<void> {
  const session = sessionFor(what, seed, wrap)
  let left = index % 6
  const heal = session.disk.inject(({ kind, path }) => {
    const ours = kind === 'sync' && segmentFile.test(path)
    return ours && left-- === 0 ? { syncFails: index % 2 === 0 ? 'marked-clean' : 'reverted' } : undefined
  })
  await session.open()
  let failure: TidelogError | null = null
  for (let i = 0; i < 8; i++) failure ??= await session.submit(300)
  demand(failure !== null || left >= 0, () => 'a sync failed, and every append was acknowledged')
  heal()
  await findAgain(session, 0)
}
