/** A full disk, with state that would be lost without a snapshot: truncation makes room by itself. */
import { describe, expect, it } from 'vitest'
import { parseSnapshotFileName } from '../../../native-free-storage/format/snapshot.ts'
import type { LogStore } from '../../../src/log-store/log-store.ts'
import { openWal } from '../../../src/wal/open-wal.ts'
import { SnapshotKeeper } from '../../../src/wal/state/snapshot-keeper.ts'
import { WalState } from '../../../src/wal/state/wal-state.ts'
import type { Wal } from '../../../src/wal/wal.ts'
import { newDisk } from '../../simulation/crash-runner.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import type { SimDisk } from '../../simulation/sim-disk.ts'

const payload = Buffer.alloc(4_000)
const reserve = `${logDirectory}/pool/reserve`

function opened(disk: SimDisk, snapshotIntervalBytes: number): Promise<Wal> {
  const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
  const environment = logEnvironment(disk, 1)
  return openWal(logDirectory, { environment, segmentBytes: 65_536, writeWay, snapshotIntervalBytes })
}

function snapshotFiles(disk: SimDisk): number[] {
  const names = disk.paths().map((path) => parseSnapshotFileName(path.slice(logDirectory.length + 1)))
  return names.filter((lsn) => lsn !== null).sort((a, b) => a - b)
}

/** A producer and keys, then records until the disk, which is full all at once, lets none in. */
async function filled(disk: SimDisk, wal: Wal, isFull: () => void): Promise<void> {
  const producer = await wal.producer('orders', { id: 'loader' })
  for (let index = 0; index < 30; index++) {
    await producer.append({ payload })
    await wal.append({ vchannel: 'orders', payload }, { idempotencyKey: `order ${index}` })
  }
  disk.setFreeBytes(0)
  isFull()
  for (let index = 0; ; index++) {
    if (index === 100) expect.fail('the disk never was full')
    const refusal = await wal.append({ vchannel: 'other', payload }).then(
      () => null,
      (error: unknown) => error,
    )
    if (refusal === null) continue
    expect(refusal).toMatchObject({ code: 'DISK_FULL', retriable: true })
    return
  }
}

/** Who wrote before is known, in this life and in the next one. */
async function knowsAll(disk: SimDisk, wal: Wal): Promise<void> {
  for (const each of [wal, null]) {
    const life = each ?? (await opened(disk, 1_000_000))
    const producer = await life.producer('orders', { id: 'loader' })
    expect([producer.lastSequence, producer.windowLost]).toEqual([30, false])
    const repeat = await life.append({ vchannel: 'orders', payload }, { idempotencyKey: 'order 3' })
    expect(repeat.duplicate).toBe(true)
    await life.close()
  }
}

describe('a truncation on a full disk, with producers and keys in the state', () => {
  it('goes up to the newest snapshot, takes one in the room that this makes, and goes on', async () => {
    const disk = newDisk({ names: 'ext4', seed: 1 })
    const wal = await opened(disk, 60_000)
    await filled(disk, wal, () => expect(snapshotFiles(disk)).toHaveLength(2))
    const newest = snapshotFiles(disk).at(-1)!
    const asked = wal.nextLsn - 2
    expect(asked).toBeGreaterThan(newest)
    await wal.truncateBefore(asked)
    expect(wal.firstLsn).toBe(asked)
    await wal.append({ vchannel: 'other', payload })
    await knowsAll(disk, wal)
    disk.powerLoss()
  })

  it('takes the first snapshot of all in the reserve', async () => {
    const disk = newDisk({ names: 'ext4', seed: 2 })
    const wal = await opened(disk, 1_000_000)
    await filled(disk, wal, () => expect(snapshotFiles(disk)).toEqual([]))
    expect(disk.paths()).toContain(reserve)
    disk.setFreeBytes(0)
    const asked = wal.nextLsn - 2
    await wal.truncateBefore(asked)
    expect(wal.firstLsn).toBe(asked)
    await knowsAll(disk, wal)
    disk.powerLoss()
  })

  it('waits where there is no room at all, loses nothing, and goes on when there is some', async () => {
    const disk = newDisk({ names: 'ext4', seed: 3 })
    const wal = await opened(disk, 1_000_000)
    await filled(disk, wal, () => {})
    await disk.unlink(reserve)
    disk.setFreeBytes(0)
    const asked = wal.nextLsn - 2
    await wal.truncateBefore(asked)
    expect(wal.firstLsn).toBe(0)
    disk.setFreeBytes(10_000_000)
    await wal.truncateBefore(asked)
    expect(wal.firstLsn).toBe(asked)
    await knowsAll(disk, wal)
    disk.powerLoss()
  })
})

describe('retention on a full disk', () => {
  it('goes up to the newest snapshot, and further when the next one has found room', async () => {
    const steps: string[] = []
    let isFull = true
    let changed: () => void = () => {}
    const whenChanged = new Promise<void>((resolve) => {
      changed = resolve
    })
    let done: () => void = () => {}
    const finished = new Promise<void>((resolve) => {
      done = resolve
    })
    const store: Partial<LogStore> = {
      firstLsn: 0,
      nextLsn: 90,
      changed: () => whenChanged,
      snapshots: {
        load: async () => [],
        save: async (lsn, _bytes, options) => {
          steps.push(`snapshot ${lsn}${options?.forRoom ? ' for room' : ''}`)
          if (isFull) throw new Error('there is no room')
        },
      },
      truncateBefore: async (lsn) => {
        steps.push(`truncation ${lsn}, up to ${keeper.floor(lsn)}`)
        done()
      },
    }
    const state = WalState.empty()
    state.apply([{ kind: 'key', row: 0, vchannel: 'a', key: 'k' }], 0, 1n << 40n)
    const keeper = new SnapshotKeeper(store as LogStore, state, [20])
    keeper.noRoom()
    expect(keeper.floor(80)).toBe(20)
    // No snapshot beside the truncation that makes room, and no second one in wait.
    expect(keeper.floor(81)).toBe(20)
    expect(steps).toEqual([])
    isFull = false
    changed()
    await finished
    expect(steps).toEqual(['snapshot 90 for room', 'truncation 80, up to 80'])
    await keeper.close()
    await keeper.take()
    expect(steps).toHaveLength(2)
  })
})
