/**
 * The suites must catch an engine that is wrong. Each variant here is the real engine over a disk that takes one of its
 * precautions away; the number of states until it is caught is printed.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Disk, DiskFile } from '../../native-free-storage/disk/disk.ts'
import type { Environment } from '../../native-free-storage/environment.ts'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { type CrashCounts, CrashFailure, crashEverywhere, newDisk } from './crash-runner.ts'
import { BrokenInvariant } from './log-ledger.ts'
import { Session, ways } from './log-session.ts'
import { workloads } from './log-workloads.ts'
import { compete } from './rivals.ts'

const seed = process.env.TIDELOG_SEED ?? '1'

beforeAll(async () => {
  await loadChecksum()
})

type Broken = (environment: Environment) => Environment

/** The disk with some of its methods replaced. */
function brokenDisk(change: (disk: Disk, environment: Environment) => Partial<Disk>): Broken {
  return (environment) => {
    const { disk } = environment
    const changed = change(disk, environment)
    const broken = new Proxy(disk, {
      get(target, name) {
        const own = changed[name as keyof Disk]
        if (own !== undefined) return own
        const value = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    return { ...environment, disk: broken }
  }
}

type FileChange = (file: DiskFile, environment: Environment) => Partial<DiskFile>

/** Every file passes through `change`; `sync`: opened as the engine asks, or never for synced writes. */
function brokenFiles(sync: 'none' | 'as asked', change: FileChange): Broken {
  return brokenDisk((disk, environment) => {
    const wrap = (file: DiskFile): DiskFile => {
      const changed = change(file, environment)
      return new Proxy(file, {
        get(target, name) {
          const own = changed[name as keyof DiskFile]
          if (own !== undefined) return own
          const value = Reflect.get(target, name)
          return typeof value === 'function' ? value.bind(target) : value
        },
      })
    }
    return {
      open: async (path, access, way) => wrap(await disk.open(path, access, sync === 'none' ? 'none' : way)),
      create: async (path, way) => wrap(await disk.create(path, sync === 'none' ? 'none' : way)),
    }
  })
}

const nothing = async (): Promise<void> => {}
const isSegment = (path: string): boolean => /\.(seg|new|prep)$/.test(path)

/** Caught when power is lost. */
const crashVariants: { name: string; broken: Broken; workload: string; names: 'strict' | 'ext4'; way: number }[] = [
  {
    name: 'no directory is synced',
    broken: brokenDisk(() => ({ syncDirectory: nothing })),
    workload: 'roll',
    names: 'strict',
    way: 0,
  },
  {
    name: 'it acknowledges before the sync (fdatasync)',
    broken: brokenFiles('as asked', (file) => (isSegment(file.path) ? { sync: nothing } : {})),
    workload: 'singles',
    names: 'ext4',
    way: 1,
  },
  {
    name: 'it acknowledges before the sync (dsync)',
    broken: brokenFiles('none', () => ({})),
    workload: 'singles',
    names: 'ext4',
    way: 0,
  },
  {
    name: 'it acknowledges several writes in flight out of order',
    broken: brokenFiles('as asked', (file) => ({
      write: (bytes, position) => {
        const done = file.write(bytes, position)
        // Every second flush is taken for done at once.
        return isSegment(file.path) && position >= 4096 && (position / 512) % 2 === 0 ? nothing() : done
      },
    })),
    workload: 'writes in flight',
    names: 'ext4',
    way: 0,
  },
  {
    name: 'the next segment begins before the last one is sealed durably',
    broken: brokenFiles('as asked', (file, { clock }) => ({
      write: (bytes, position) => {
        const isSeal = isSegment(file.path) && bytes.length === 512 && bytes[14] === 3
        if (!isSeal) return file.write(bytes, position)
        clock.after(20, () => void file.write(bytes, position).catch(() => {}))
        return nothing()
      },
    })),
    workload: 'roll',
    names: 'strict',
    way: 0,
  },
  {
    name: 'the manifest is not synced before it is published',
    broken: brokenFiles('as asked', (file) => (/MANIFEST/.test(file.path) ? { sync: nothing } : {})),
    workload: 'truncate',
    names: 'strict',
    way: 0,
  },
  {
    name: 'the lease of the ticks is not synced',
    broken: brokenFiles('as asked', (file) => (/LEASE/.test(file.path) ? { sync: nothing } : {})),
    workload: 'lease',
    names: 'ext4',
    way: 0,
  },
  {
    name: 'the older manifest goes before the newer one is durable',
    broken: brokenDisk((disk) => ({
      syncDirectory: (path) => (path === '/data/log' ? nothing() : disk.syncDirectory(path)),
    })),
    workload: 'carry-over',
    names: 'strict',
    way: 0,
  },
]

/** Caught when two owners meet. */
const rivalVariants: { name: string; broken: Broken }[] = [
  {
    name: 'the generation is not looked at before an acknowledgement',
    broken: brokenDisk((disk) => {
      let own = 0
      return {
        link: async (existing, name) => {
          await disk.link(existing, name)
          own = Number(/MANIFEST-(\d+)$/.exec(name)?.[1] ?? own)
        },
        existsSync: (path) => {
          const generation = /MANIFEST-(\d+)$/.exec(path)?.[1]
          return generation === undefined ? disk.existsSync(path) : Number(generation) <= own
        },
      }
    }),
  },
]

describe('an engine that is broken on purpose is caught', () => {
  for (const { name, broken, workload, names, way } of crashVariants) {
    it(name, async () => {
      const counts: CrashCounts = { states: 0, exhausted: 0, points: 0, recoveryCrashes: 0 }
      let caught: unknown
      for (let round = 0; round < 6 && caught === undefined; round++) {
        const space = {
          workload: workloads.find((candidate) => candidate.name === workload)!,
          way: ways[way]!,
          names,
          seed: `${seed}/${round}`,
          wrap: broken,
        }
        caught = await crashEverywhere(space, 400, counts).then(
          () => undefined,
          (error: unknown) => error,
        )
      }
      // A promise may be seen to be broken even before the power is lost.
      expect(caught instanceof CrashFailure || caught instanceof BrokenInvariant, String(caught)).toBe(true)
      console.log(`${name}: caught in state ${counts.states}: ${String((caught as Error).message).slice(0, 300)}`)
    })
  }

  for (const { name, broken } of rivalVariants) {
    it(name, async () => {
      let caught: unknown
      let runs = 0
      for (; runs < 400 && caught === undefined; runs++) {
        const rivalry = {
          at: 120 + ((runs * 37) % 480),
          secondAppends: runs % 2 === 0,
          diesAfter: undefined,
          stalls: undefined,
        }
        caught = await compete(rivalry, runs % 3, 'strict', `${seed}/${runs}`, broken).then(
          () => undefined,
          (error: unknown) => error,
        )
      }
      expect(caught).toBeInstanceOf(Error)
      console.log(`${name}: caught in run ${runs}: ${String(caught).slice(0, 300)}`)
    })
  }

  it('a sync that failed is tried again', async () => {
    const broken = brokenFiles('as asked', (file) => ({ sync: () => file.sync().catch(() => file.sync()) }))
    let caught: unknown
    let runs = 0
    for (; runs < 100 && caught === undefined; runs++) {
      const disk = newDisk({ names: 'ext4', seed: `${seed}/${runs}` })
      const session = new Session(disk, ways[1]!, seed)
      session.wrap = broken
      let left = runs % 10
      disk.inject(({ kind, path }) => {
        const ours = kind === 'sync' && isSegment(path)
        return ours && left-- === 0 ? { syncFails: 'marked-clean' } : undefined
      })
      await session.open()
      for (let i = 0; i < 6; i++) await session.submit(300)
      session.ledger.epoch++
      const found = new Session(disk.reboot(runs), ways[1]!, seed, session.ledger.copy())
      caught = await found
        .open()
        .then((log) => found.ledger.check(log))
        .then(
          () => undefined,
          (error: unknown) => error,
        )
      disk.powerLoss()
      found.disk.powerLoss()
    }
    expect(caught).toBeInstanceOf(Error)
    if (caught instanceof BrokenInvariant) expect(caught.message).toContain('gone')
    console.log(`a sync that failed is tried again: caught in run ${runs}: ${String(caught).slice(0, 200)}`)
  })
})
