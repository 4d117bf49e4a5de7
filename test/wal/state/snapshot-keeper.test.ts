/** Snapshots of a state whose records share frames with others: each stands at the end of a frame, and holds what is below. */
import { describe, expect, it } from 'vitest'
import type { AppendedRange, LogStore } from '../../../src/log-store/log-store.ts'
import { openWal } from '../../../src/wal/open-wal.ts'
import type { AppendUnit } from '../../../src/wal/pipeline/interceptor.ts'
import { SnapshotKeeper } from '../../../src/wal/state/snapshot-keeper.ts'
import { WalState } from '../../../src/wal/state/wal-state.ts'
import { NO_OPTIONS, unitOfMessages } from '../../../src/wal/unit.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const TICK = 1n << 40n

/** A keeper between a store of which only the end is looked at and a state that holds one key a record. */
class Subject {
  readonly saved: { lsn: number; keys: number }[] = []
  readonly state = WalState.empty()
  readonly keeper: SnapshotKeeper
  nextLsn = 0

  constructor() {
    const store = {
      firstLsn: 0,
      snapshots: {
        load: async () => [],
        save: async (lsn: number, bytes: Buffer) => {
          this.saved.push({ lsn, keys: WalState.decode(bytes).keys.size })
        },
      },
    }
    Object.defineProperty(store, 'nextLsn', { get: () => this.nextLsn })
    this.keeper = new SnapshotKeeper(store as unknown as LogStore, this.state, [])
  }

  enter(count: number): AppendUnit[] {
    return Array.from({ length: count }, () => {
      this.keeper.before()
      return unitOfMessages([{ vchannel: 'v' }], 0, 'k', null, NO_OPTIONS)
    })
  }

  applied(unit: AppendUnit, lsn: number): void {
    const range = rangeOf(lsn)
    this.keeper.durable(range)
    this.state.apply([{ kind: 'key', row: 0, vchannel: 'v', key: `key-${lsn}` }], lsn, range.firstTimeTick)
    this.keeper.after(unit, { range, duplicate: false, duplicates: [] })
    this.keeper.leave()
  }
}

function rangeOf(lsn: number): AppendedRange {
  const tick = TICK + BigInt(lsn)
  return { firstLsn: lsn, lastLsn: lsn, firstTimeTick: tick, lastTimeTick: tick }
}

describe('a snapshot that is wanted when a frame is in the state in part', () => {
  it('is taken with the last record of the frame', async () => {
    const subject = new Subject()
    const units = subject.enter(5)
    // Four are a frame; the fifth waits for the next one.
    subject.nextLsn = 4
    subject.applied(units[0]!, 0)
    const taken = subject.keeper.take()
    for (const lsn of [1, 2, 3]) subject.applied(units[lsn]!, lsn)
    await taken
    expect(subject.saved).toEqual([{ lsn: 4, keys: 4 }])
  })

  it('is taken before the first record of the next one, where plain records end the frame', async () => {
    const subject = new Subject()
    const units = subject.enter(3)
    subject.nextLsn = 6
    subject.applied(units[0]!, 0)
    const taken = subject.keeper.take()
    subject.applied(units[1]!, 3)
    subject.nextLsn = 9
    subject.applied(units[2]!, 6)
    await taken
    expect(subject.saved).toEqual([{ lsn: 6, keys: 2 }])
  })

  it('is taken when nothing is under way any more', async () => {
    const subject = new Subject()
    const units = subject.enter(2)
    subject.nextLsn = 6
    subject.applied(units[0]!, 0)
    const taken = subject.keeper.take()
    // Refused at last: it takes no LSN.
    subject.keeper.leave()
    await taken
    expect(subject.saved).toEqual([{ lsn: 6, keys: 1 }])
  })

  it('does not keep a close waiting', async () => {
    const subject = new Subject()
    const units = subject.enter(2)
    subject.nextLsn = 6
    subject.applied(units[0]!, 0)
    const taken = subject.keeper.take()
    await subject.keeper.close()
    await taken
    expect(subject.saved).toEqual([])
  })
})

it('single records with keys share frames with plain ones, and no snapshot fails for it; a dead process is followed', async () => {
  let disk = new SimDisk({ seed: 1 })
  disk.prepareDirectory('/data')
  const open = () => {
    const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
    const environment = logEnvironment(disk, 1)
    return openWal('/data/log', { environment, segmentBytes: 64 * 1024, writeWay, snapshotIntervalBytes: 1_000 })
  }
  const wal = await open()
  const places: { lsn: number; timeTick: bigint }[] = []
  for (let round = 0; round < 20; round++) {
    const appends = Array.from({ length: 10 }, (_, index) => {
      const plain = wal.append({ vchannel: 'v' })
      const keyed = wal.append({ vchannel: 'v' }, { idempotencyKey: `${round}/${index}` })
      return [keyed, plain]
    })
    const settled = await Promise.all(appends.flat())
    places.push(...settled.filter((_, index) => index % 2 === 0))
  }
  const { snapshots } = wal.status().statistics
  expect(snapshots.failed).toBe(0)
  expect(snapshots.taken).toBeGreaterThan(1)
  disk.processCrash(1)
  disk = disk.nextProcess()
  const next = await open()
  for (const [index, { lsn, timeTick }] of places.entries()) {
    const key = `${Math.floor(index / 10)}/${index % 10}`
    expect(await next.append({ vchannel: 'v' }, { idempotencyKey: key })).toEqual({ lsn, timeTick, duplicate: true })
  }
  expect(next.status().statistics.keys).toBe(places.length)
  await next.close()
})
