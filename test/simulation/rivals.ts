/**
 * Two owners of one log: a second one opens at some step of the first one's work, which goes on with its files open. The
 * lock is out of the way, as when a machine takes a stuck process for dead.
 */
import type { Environment } from '../../native-free-storage/environment.ts'
import { TidelogError } from '../../native-free-storage/index.ts'
import { demandNoOrphans, goOn, newDisk, readBack } from './crash-runner.ts'
import { demand } from './log-ledger.ts'
import { Session, ways } from './log-session.ts'
import type { SimDisk } from './sim-disk.ts'

/** Takes every other process for dead. */
export function aloneInTheWorld(environment: Environment): Environment {
  return { ...environment, processes: { ...environment.processes, isAlive: () => false } }
}

async function tolerant(step: Promise<unknown>): Promise<void> {
  try {
    await step
  } catch (error) {
    // A process that was taken for dead releases its lock at the moment at which it is taken from it.
    if (error instanceof Error && error.message.includes('a lock just taken names its taker')) return
    demand(error instanceof TidelogError, () => `not an error of the engine: ${error}`)
  }
}

async function firstOwner(session: Session): Promise<void> {
  await session.open()
  for (let i = 0; i < 5; i++) {
    await Promise.all([session.submit(9_000, 8_000), session.submit(4_000)])
    session.watermark()
  }
  await tolerant(session.ledger.truncate(session.log, Math.min(3, session.log.nextLsn)))
  await session.submit(100)
  await session.sleep(150)
  await session.submit(100)
  session.watermark()
  await session.log.close()
}

/** As the first one, with stored ticks that it compacts. */
async function firstCompactor(session: Session): Promise<void> {
  const { ledger } = session
  await session.open()
  for (let i = 0; i < 4; i++) {
    const appended = session.submit(19_000, 18_000)
    for (let tick = 0; tick < 5; tick++) await ledger.submitTick(session.log)
    await appended
    session.watermark()
  }
  await tolerant(session.log.compact({ savedBytesMin: 1, savedShareMin: 0 }))
  await tolerant(ledger.truncate(session.log, Math.min(3, session.log.nextLsn)))
  await session.submit(100)
  session.watermark()
  await session.log.close()
}

export interface Rivalry {
  /** The second owner opens before this step of the first one. */
  at: number
  secondAppends: boolean
  /** The first one stores ticks, and compacts. */
  compacts?: boolean
  /** The first one dies so many steps later. */
  diesAfter: number | undefined
  /** An operation of the first one that stands still from then on, until the second one has closed. */
  stalls: 'write' | 'rename' | 'link' | undefined
}

/** Throws when a promise of the log is broken. `wrap`: an engine that is broken on purpose. */
export async function compete(
  rivalry: Rivalry,
  wayIndex: number,
  names: 'strict' | 'ext4',
  seed: number | string,
  wrap: Session['wrap'] = (environment) => environment,
): Promise<void> {
  const way = ways[wayIndex]!
  const disk = newDisk({ names, seed: `${seed}/${rivalry.at}` })
  const first = new Session(disk, way, seed)
  first.wrap = (environment) => wrap(aloneInTheWorld(environment))
  const second = new Session(disk.nextProcess(), way, `${seed}/second`, first.ledger)
  second.wrap = first.wrap
  let started: (() => void) | undefined
  const begun = new Promise<void>((resolve) => {
    started = resolve
  })
  if (rivalry.stalls !== undefined) {
    let held = false
    disk.inject((operation) => {
      if (held || operation.pid !== disk.pid || operation.step < rivalry.at || operation.kind !== rivalry.stalls) return
      held = true
      started?.()
      return { stall: 'late' }
    })
  }
  disk.onStep = (step) => {
    if (rivalry.stalls === undefined && step >= rivalry.at) started?.()
    if (rivalry.diesAfter !== undefined && step >= rivalry.at + rivalry.diesAfter) {
      disk.onStep = undefined
      disk.processCrash(`${seed}/${step}`)
      started?.()
    }
  }
  const work = rivalry.compacts === true ? firstCompactor : firstOwner
  const firstWork = tolerant(work(first)).then(() => started?.())
  await begun
  const { ledger } = first
  // Where the first one opens last, it is the owner, and the other looks at what was.
  const look = async (): Promise<void> => {
    const isOwner = (first.log?.incarnation ?? 0) < second.log.incarnation
    if (isOwner) await ledger.check(second.log)
  }
  await tolerant(
    (async () => {
      await second.open()
      await look()
      second.watermark()
      if (rivalry.secondAppends) {
        for (let i = 0; i < 3; i++) await second.submit(9_000, 12_000, 6_000)
        second.watermark()
      }
      await second.sleep(20)
      await look()
      second.watermark()
      await second.log.close()
    })(),
  )
  disk.onStep = undefined
  for (const held of [...disk.stalled]) held.release()
  if (rivalry.diesAfter === undefined) await firstWork
  else disk.processCrash()
  second.disk.processCrash()
  const third: SimDisk = second.disk.nextProcess()
  const last = new Session(third, way, `${seed}/third`, ledger)
  await goOn(last)
  await readBack(last)
  await readBack(last)
  demandNoOrphans(third)
  disk.powerLoss()
}
