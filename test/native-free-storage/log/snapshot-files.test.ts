/** Snapshots beside a log, on the simulated disk: crashes, damage, a log that was cut behind them. */
import { beforeAll, describe, expect, it } from 'vitest'
import {
  parseSnapshotFileName,
  SNAPSHOT_HEADER_BYTES,
  snapshotFileName,
} from '../../../native-free-storage/format/snapshot.ts'
import { loadChecksum, openLog, verifyLog } from '../../../native-free-storage/index.ts'
import { budget } from '../../budget.ts'
import { newDisk } from '../../simulation/crash-runner.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import type { SimDisk } from '../../simulation/sim-disk.ts'

const pathOf = (lsn: number) => `${logDirectory}/${snapshotFileName(lsn)}`
const record = (id: number) => ({ vchannel: 'v', payload: Buffer.from(String(id)) })

beforeAll(async () => {
  await loadChecksum()
})

async function opened(disk: SimDisk) {
  const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
  return await openLog(logDirectory, { environment: logEnvironment(disk, 1), segmentBytes: 65_536, writeWay })
}

function aDisk(): SimDisk {
  return newDisk({ names: 'ext4', seed: 1 })
}

/** LSNs, ascending. */
function snapshotFiles(disk: SimDisk): number[] {
  const names = disk.paths().map((path) => parseSnapshotFileName(path.slice(logDirectory.length + 1)))
  return names.filter((lsn) => lsn !== null).sort((a, b) => a - b)
}

async function withSnapshots(disk: SimDisk) {
  const log = await opened(disk)
  await log.append([record(0)])
  await log.snapshots.save(1, Buffer.from('one'))
  await log.append([record(1)])
  await log.snapshots.save(2, Buffer.from('two'))
  return log
}

async function found(disk: SimDisk): Promise<string[]> {
  const log = await opened(disk)
  const snapshots = await log.snapshots.load()
  await log.close()
  return snapshots.map(({ lsn, bytes }) => `${lsn} ${bytes}`)
}

describe('a snapshot', () => {
  it('that was saved is there after power was lost', async () => {
    const disk = aDisk()
    await withSnapshots(disk)
    const next = disk.reboot(1)
    disk.powerLoss()
    expect(await found(next)).toEqual(['2 two', '1 one'])
  })

  it('of which a bit has changed, or a byte is missing, is passed over for the older one', async () => {
    const disk = aDisk()
    const log = await withSnapshots(disk)
    await log.close()
    for (let byte = 0; byte < SNAPSHOT_HEADER_BYTES + 3; byte++) {
      disk.flipBit(pathOf(2), byte, byte % 8)
      expect(await found(disk)).toEqual(['1 one'])
      const { findings } = await verifyLog(logEnvironment(disk, 1), logDirectory)
      expect(findings).toMatchObject([{ code: 'SNAPSHOT_DAMAGED', file: snapshotFileName(2) }])
      disk.flipBit(pathOf(2), byte, byte % 8)
    }
    expect(await found(disk)).toEqual(['2 two', '1 one'])
    const file = await logEnvironment(disk, 1).disk.open(pathOf(2), 'write')
    await file.truncate(SNAPSHOT_HEADER_BYTES + 2)
    await file.close()
    expect(await found(disk)).toEqual(['1 one'])
  })

  it('of another log, or behind another frame, is passed over', async () => {
    const [one, other] = [aDisk(), aDisk()]
    await (await withSnapshots(one)).close()
    const log = await opened(other)
    await log.append([record(7)])
    await log.append([record(8)])
    await log.append([record(9)])
    await log.close()
    const { disk } = logEnvironment(one, 1)
    const foreign = await disk.open(pathOf(2), 'read')
    const bytes = Buffer.alloc(await foreign.size())
    await foreign.read(bytes, 0, bytes.length, 0)
    await foreign.close()
    const target = await logEnvironment(other, 1).disk.create(pathOf(2), 'none')
    await target.write(bytes, 0)
    await target.close()
    expect(await found(other)).toEqual([])
    // Under the name of another LSN.
    await disk.rename(pathOf(2), pathOf(0))
    expect(await found(one)).toEqual(['1 one'])
  })

  it('that a crash left half written goes at the next opening, and the others stay', async () => {
    const stride = budget({ small: 7, ci: 1 })
    for (let step = 1; ; step += stride) {
      const disk = aDisk()
      const log = await withSnapshots(disk)
      await log.append([record(2)])
      disk.crashAfter(step)
      const saved = await Promise.race([
        log.snapshots.save(3, Buffer.from('three')).then(() => true),
        disk.crashed.then(() => false),
      ])
      const next = disk.reboot(step)
      disk.powerLoss()
      const now = await found(next)
      expect(
        saved
          ? [['3 three', '2 two']]
          : [
              ['2 two', '1 one'],
              ['3 three', '2 two'],
              ['3 three', '2 two'],
            ],
      ).toContainEqual(now)
      expect(next.paths().filter((path) => path.endsWith('.tmp'))).toEqual([])
      if (saved) break
    }
  })

  it('that is passed over goes when the next one is saved, and the good one beside it stays', async () => {
    const disk = aDisk()
    await (await withSnapshots(disk)).close()
    disk.flipBit(pathOf(2), 90, 0)
    const log = await opened(disk)
    expect((await log.snapshots.load()).map(({ lsn }) => lsn)).toEqual([1])
    await log.append([record(2)])
    await log.snapshots.save(3, Buffer.from('three'))
    await log.close()
    expect(snapshotFiles(disk)).toEqual([1, 3])
    expect(await found(disk)).toEqual(['3 three', '1 one'])
  })

  it('behind a frame that is damaged is passed over as long as another one is good; else the damage is told', async () => {
    const disk = aDisk()
    const log = await opened(disk)
    const large = (id: number) => ({ vchannel: 'v', payload: Buffer.alloc(30_000, id) })
    for (const lsn of [1, 2, 3, 4, 5, 6]) {
      await log.append([large(lsn)])
      if (lsn === 2 || lsn === 6) await log.snapshots.save(lsn, Buffer.from(`of ${lsn}`))
    }
    await log.close()
    expect(await found(disk)).toEqual(['6 of 6', '2 of 2'])
    const [first] = disk.paths().filter((path) => path.endsWith('.seg'))
    // The header of the second frame.
    disk.flipBit(first!, Buffer.from(disk.contents(first!)).indexOf('TFRM', 20_000) + 30, 0)
    expect(await found(disk)).toEqual(['6 of 6'])
    await disk.unlink(pathOf(6))
    await expect(found(disk)).rejects.toMatchObject({ code: 'FRAME_DAMAGED' })
  })

  it('takes the room of the older one on a full disk; the newer one stays whatever happens', async () => {
    const disk = aDisk()
    const log = await opened(disk)
    for (const lsn of [1, 2]) {
      await log.append([record(lsn)])
      await log.snapshots.save(lsn, Buffer.alloc(2_000, lsn))
    }
    await log.append([record(3)])
    disk.setFreeBytes(500)
    await log.snapshots.save(3, Buffer.alloc(2_100, 3))
    expect(snapshotFiles(disk)).toEqual([2, 3])
    disk.setFreeBytes(500_000)
    await log.append([record(4)])
    disk.setFreeBytes(500)
    await expect(log.snapshots.save(4, Buffer.alloc(9_000, 4))).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(snapshotFiles(disk)).toEqual([3])
    // There is no other one that could go.
    await expect(log.snapshots.save(4, Buffer.alloc(9_000, 4))).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect((await log.snapshots.load()).map(({ lsn, bytes }) => [lsn, bytes.length])).toEqual([[3, 2_100]])
    disk.setFreeBytes(20_000)
    await log.snapshots.save(4, Buffer.alloc(9_000, 4))
    expect(snapshotFiles(disk)).toEqual([3, 4])
    await log.close()
  })

  it('gives no room to one that cannot be read: then the full disk is told, and all stay', async () => {
    const disk = aDisk()
    await (await withSnapshots(disk)).close()
    for (const lsn of [1, 2]) disk.flipBit(pathOf(lsn), 90, 0)
    const log = await opened(disk)
    expect(await log.snapshots.load()).toEqual([])
    await log.append([record(2)])
    disk.setFreeBytes(0)
    await expect(log.snapshots.save(3, Buffer.from('three'))).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(snapshotFiles(disk)).toEqual([1, 2])
    await log.close().catch(() => {})
  })
})
