/** The engine on a disk that fails: syncs, writes, names, room, time. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum, TidelogError } from '../../native-free-storage/index.ts'
import { budget } from '../budget.ts'
import { demandNoOrphans, goOn, newDisk, readBack } from './crash-runner.ts'
import { demand, type Ledger } from './log-ledger.ts'
import { Session, type Way, ways } from './log-session.ts'
import { Random } from './random.ts'
import type { Fault, Operation, SimDisk } from './sim-disk.ts'

const seed = process.env.TIDELOG_SEED ?? '1'

beforeAll(async () => {
  await loadChecksum()
})

/** Appends, rolls, truncates, goes on after refusals, closes; whatever fails, every promise settles. */
async function work(session: Session): Promise<void> {
  const { ledger } = session
  const tolerant = async (step: Promise<unknown>): Promise<void> => {
    try {
      await step
    } catch (error) {
      demand(error instanceof TidelogError, () => `not an error of the engine: ${error}`)
    }
  }
  for (let opening = 0; opening < 2; opening++) {
    try {
      await session.open()
    } catch (error) {
      demand(error instanceof TidelogError, () => `open failed with ${error}`)
      continue
    }
    for (let i = 0; i < 4; i++) {
      await Promise.all([session.submit(9_000, 8_000), session.submit(4_000)])
      session.watermark()
    }
    await tolerant(ledger.truncate(session.log, Math.min(4, session.log.nextLsn)))
    await session.submit(500)
    await session.sleep(120)
    session.watermark()
    await tolerant(session.log.close())
  }
}

/** After the fault has passed: another process, and then, of a copy, the machine without power. */
async function aftermath(disk: SimDisk, way: Way, ledger: Ledger, choice: number): Promise<void> {
  const found = disk.reboot(choice)
  for (const [next, known] of [
    [disk.nextProcess(), ledger.copy()],
    [found, ledger.copy()],
  ] as const) {
    if (next === found && way.durability === 'os') known.mayLoseBelow = Number.POSITIVE_INFINITY
    const session = new Session(next, way, seed, known)
    await goOn(session)
    await readBack(session)
    await readBack(session)
    demandNoOrphans(next)
    next.powerLoss()
  }
}

const faults: { name: string; fault: Fault; matches(operation: Operation): boolean }[] = [
  ...(['marked-clean', 'reverted', 'read-only'] as const).map((syncFails) => ({
    name: `a sync fails, ${syncFails}`,
    fault: { syncFails },
    matches: ({ kind, dsync }: Operation) => kind === 'sync' || (kind === 'write' && dsync),
  })),
  ...(['write', 'close', 'syncDirectory', 'link', 'rename', 'create', 'open', 'truncate', 'unlink'] as const).flatMap(
    (kind) =>
      [false, true].map((applied) => ({
        name: `${kind} gives EIO ${applied ? 'after' : 'before'} its effect`,
        fault: { fail: 'EIO', applied },
        matches: (operation: Operation) => operation.kind === kind,
      })),
  ),
  {
    name: 'a write is short',
    fault: { short: 700 },
    matches: ({ kind, length }) => kind === 'write' && (length ?? 0) > 700,
  },
]

describe('one operation fails, wherever it stands', () => {
  for (const { name, fault, matches } of faults) {
    it(name, async () => {
      const perFault = budget({ small: 4, ci: 40, soak: 10_000 })
      const random = new Random(`${seed}/${name}`)
      let runs = 0
      for (let i = 0; i < perFault; i++) {
        const way = ways[i % ways.length]!
        const names = i % 8 < 4 ? 'strict' : 'ext4'
        let left = random.below(fault && 'syncFails' in fault ? 40 : 24)
        const disk = newDisk({ names, seed: `${seed}/${i}` })
        const session = new Session(disk, way, seed)
        let fired: Operation | undefined
        const heal = disk.inject((operation) => {
          if (fired !== undefined || !matches(operation) || operation.path === '/data' || left-- > 0) return undefined
          fired = operation
          // At level `os` a sync that fails may drop what was acknowledged; its LSNs are not given again.
          if ('syncFails' in fault && way.durability === 'os') session.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
          return fault
        })
        try {
          await work(session)
          heal()
          disk.remount()
          disk.processCrash()
          await aftermath(disk, way, session.ledger, i)
        } catch (error) {
          const where = fired === undefined ? 'nowhere' : `${fired.kind} ${fired.path} at step ${fired.step}`
          throw new Error(
            `${where}, ${way.mode} ${way.depth} ${way.durability} ${names}, run ${i}, seed ${seed}: ${error}`,
            {
              cause: error,
            },
          )
        } finally {
          disk.powerLoss()
        }
        runs++
      }
      expect(runs).toBe(perFault)
    })
  }
})

describe('the disk is full', () => {
  for (const way of ways) {
    it(`refuses, keeps what it has, goes on when there is room: ${way.mode} ${way.depth} ${way.durability}`, async () => {
      const steps = budget({ small: 8, ci: 100, soak: 5_000 })
      for (let i = 0; i < steps; i++) {
        const bytes = Math.floor(((i + 0.5) * 1_800_000) / steps)
        try {
          await fillAt(way, bytes)
        } catch (error) {
          throw new Error(`room for ${bytes} bytes, ${way.mode} ${way.depth} ${way.durability}: ${error}`, {
            cause: error,
          })
        }
      }
    })
  }

  async function fillAt(way: Way, bytes: number): Promise<void> {
    const disk = newDisk({ names: 'strict', seed: `${seed}/${bytes}` }, { capacityBytes: bytes })
    const session = new Session(disk, way, seed)
    const { ledger } = session
    let opened = false
    try {
      await session.open()
      opened = true
    } catch (error) {
      demand(error instanceof TidelogError && error.code === 'DISK_FULL' && error.retriable, () => `open gave ${error}`)
      disk.setCapacity(Number.POSITIVE_INFINITY)
      await session.open()
    }
    let refused = 0
    for (let i = 0; i < 80 && opened && refused < 3; i++) {
      const failures = await Promise.all([session.submit(9_000, 8_000), session.submit(12_000)])
      for (const error of failures) {
        if (error === null) continue
        demand(error.code === 'DISK_FULL' && error.retriable, () => `an append on a full disk gave ${error}`)
        refused++
      }
      session.watermark()
      await ledger.check(session.log)
    }
    if (opened) disk.setFreeBytes(0)
    // Reading and truncating need no room, nor does opening, however often.
    await ledger.check(session.log)
    if (opened && session.log.nextLsn > 6) await ledger.truncate(session.log, 3)
    if (opened) {
      disk.setFreeBytes(0)
      await session.log.close()
      disk.setFreeBytes(0)
      let mayWait = false
      for (let i = 0; i < 6; i++) {
        await session.open()
        // What is not proven is copied before it is read; without the reserve that waits for room.
        await ledger.check(session.log, mayWait)
        disk.setFreeBytes(0)
        if (i === 2 || i === 4) {
          session.dies()
          mayWait ||= !disk.paths().some((path) => path.endsWith('/pool/reserve'))
          // The lock of a process that was killed is replaced by another file.
          disk.setFreeBytes(800)
        } else {
          await session.log.close()
          disk.setFreeBytes(0)
        }
      }
      await session.open()
    }
    disk.setFreeBytes(10_000_000)
    demand((await session.submit(100, 200)) === null, () => 'an append was refused although there is room again')
    session.watermark()
    await ledger.check(session.log)
    await session.log.close()
    await aftermath(session.disk, way, ledger, bytes)
    disk.powerLoss()
  }
})

describe('a write does not return', () => {
  for (const way of ways) {
    for (const stall of ['landed', 'late'] as const) {
      it(`is given up after its deadline: ${way.mode} ${way.depth} ${way.durability}, ${stall}`, async () => {
        const runs = budget({ small: 4, ci: 24, soak: 2_000 })
        let stalls = 0
        for (let i = 0; i < runs; i++) {
          const disk = newDisk({ names: 'strict', seed: `${seed}/${i}` })
          const session = new Session(disk, way, seed)
          // The last of them is the seal.
          let left = i % 11
          const heal = disk.inject(({ kind, path, position }) => {
            const ours = kind === 'write' && /\.(seg|new|prep)$/.test(path) && (position ?? 0) >= 4096
            if (!ours || left-- !== 0) return undefined
            // The seal's file is waited for: what is stuck there fails the log after the deadlines.
            stalls++
            return { stall }
          })
          try {
            await session.open({ writeDeadlineMs: 1_000 })
            for (let k = 0; k < 8; k++) {
              await Promise.all([session.submit(9_000, 8_000), session.submit(300)])
              if (k === 5) for (const held of [...disk.stalled]) held.release(i % 3 === 0 ? 'EIO' : undefined)
              session.watermark()
            }
            await session.sleep(200)
            await session.ledger.check(session.log)
            // A seal that does not return ends the waiting, too.
            await session.log.close().catch((error) => demand(error instanceof TidelogError, () => `${error}`))
            heal()
            for (const held of [...disk.stalled]) held.release()
            await session.sleep(10)
            disk.processCrash()
            await aftermath(disk, way, session.ledger, i)
          } catch (error) {
            throw new Error(`run ${i}, seed ${seed}: ${error}`, { cause: error })
          } finally {
            disk.powerLoss()
          }
        }
        // A segment is written under the name that its file had in the pool.
        expect(stalls).toBe(runs)
      })
    }
  }
})
