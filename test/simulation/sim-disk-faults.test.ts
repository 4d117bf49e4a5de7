/** The failures that the simulated disk can be told to have. */
import { describe, expect, it } from 'vitest'
import { keepAll, loseAll } from './choices.ts'
import type { OperationKind } from './sim-disk.ts'
import { codeOf, durableFile, filled, freshDisk, once, readAll } from './sim-disk-bed.ts'

describe('faults', () => {
  it('fails a sync after which the content stays visible, the next sync succeeds, and nothing is durable', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 0)
    disk.inject(once('sync', { syncFails: 'marked-clean' }))
    expect(await codeOf(file.sync())).toBe('EIO')
    await file.sync()
    expect(disk.contents('/d/a')).toEqual(filled(512, 2))
    expect(disk.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 1))
    expect(disk.reboot(keepAll).contents('/d/a')).toEqual(filled(512, 2))
    await file.write(filled(512, 2), 0)
    await file.sync()
    expect(disk.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 2))
  })

  it('fails a sync after which the old content is back', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 0)
    disk.inject(once('sync', { syncFails: 'reverted' }))
    expect(await codeOf(file.sync())).toBe('EIO')
    await file.sync()
    expect(await readAll(disk, '/d/a')).toEqual(filled(512, 1))
  })

  it('fails a sync after which the file system is read-only', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 0)
    disk.inject(once('sync', { syncFails: 'read-only' }))
    expect(await codeOf(file.sync())).toBe('EIO')
    expect(await codeOf(file.sync())).toBe('EROFS')
    expect(await codeOf(file.write(filled(1, 1), 0))).toBe('EROFS')
    expect(await codeOf(disk.create('/d/b'))).toBe('EROFS')
    expect(await codeOf(disk.unlink('/d/a'))).toBe('EROFS')
    expect((await readAll(disk, '/d/a')).length).toBe(512)
    disk.remount()
    await disk.create('/d/b')
  })

  it('fails a write to a dsync file in the same ways', async () => {
    for (const syncFails of ['marked-clean', 'reverted', 'read-only'] as const) {
      const disk = freshDisk()
      const file = await durableFile(disk, '/d/a', filled(512, 1), 'dsync')
      disk.inject(once('write', { syncFails }))
      expect(await codeOf(file.write(filled(512, 2), 0))).toBe('EIO')
      expect(disk.contents('/d/a')[0]).toBe(syncFails === 'reverted' ? 1 : 2)
      expect(disk.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 1))
    }
  })

  it('fails any kind of operation, before or after its effect', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    const attempts: [OperationKind, () => Promise<unknown>][] = [
      ['open', () => disk.open('/d/a', 'read')],
      ['create', () => disk.create('/d/new')],
      ['link', () => disk.link('/d/a', '/d/linked')],
      ['rename', () => disk.rename('/d/a', '/d/renamed')],
      ['unlink', () => disk.unlink('/d/a')],
      ['list', () => disk.list('/d')],
      ['makeDirectory', () => disk.makeDirectory('/d/dir')],
      ['syncDirectory', () => disk.syncDirectory('/d')],
      ['space', () => disk.space('/d')],
      ['read', () => file.read(new Uint8Array(1), 0, 1, 0)],
      ['write', () => file.write(filled(1, 2), 0)],
      ['sync', () => file.sync()],
      ['truncate', () => file.truncate(0)],
      ['size', () => file.size()],
      ['close', () => file.close()],
    ]
    for (const [kind, attempt] of attempts) {
      disk.inject(once(kind, { fail: 'EIO' }))
      expect(await codeOf(attempt()), kind).toBe('EIO')
    }
    expect(disk.paths()).toEqual(['/d/a'])
    expect(disk.contents('/d/a')).toEqual(filled(512, 1))
    disk.inject(once('link', { fail: 'EIO', applied: true }))
    expect(await codeOf(disk.link('/d/a', '/d/b'))).toBe('EIO')
    expect(disk.existsSync('/d/b')).toBe(true)
    disk.inject(once('exists', { fail: 'EIO' }))
    expect(() => disk.existsSync('/d/b')).toThrow('EIO')
  })

  it('writes short', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(10, 1))
    for (let length = 0; length < 10; length++) {
      disk.inject(once('write', { short: length }))
      const error = await file.write(filled(10, 2 + length), 0).catch((reason: unknown) => reason)
      expect(error).toMatchObject({ code: 'EIO', bytesWritten: length })
      expect(disk.contents('/d/a').filter((byte) => byte === 2 + length).length).toBe(length)
    }
  })

  it('runs out of space in the middle of a write, and has room again after an unlink or a truncation', async () => {
    const disk = freshDisk({ capacityBytes: 2000 })
    const file = await disk.create('/d/a')
    const error = await file.write(filled(3000, 1), 0).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'ENOSPC', bytesWritten: 1744 })
    expect(await disk.space('/d')).toEqual({ totalBytes: 2000, freeBytes: 0 })
    expect(await codeOf(disk.create('/d/b'))).toBe('ENOSPC')
    await file.write(filled(1744, 2), 0)
    await file.truncate(1000)
    const other = await disk.create('/d/b')
    await other.write(filled(488, 1), 0)
    expect(await codeOf(other.write(filled(1, 1), 488))).toBe('ENOSPC')
    await disk.unlink('/d/a')
    expect(disk.usedBytes()).toBe(2000)
    await file.close()
    expect(disk.usedBytes()).toBe(744)
    expect(disk.reboot(keepAll).usedBytes()).toBe(744)
    disk.setFreeBytes(0)
    expect(await codeOf(other.write(filled(1, 1), 488))).toBe('ENOSPC')
  })

  it('holds an operation until it is released, and lets others pass', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(1024, 1), 'dsync')
    disk.inject(once('write', { stall: 'late' }))
    let settled = false
    const stuck = file.write(filled(512, 2), 0).then(() => {
      settled = true
    })
    await file.write(filled(512, 3), 512)
    expect(settled).toBe(false)
    expect(disk.contents('/d/a')[0]).toBe(1)
    expect(disk.stalled.map(({ operation }) => operation.position)).toEqual([0])
    disk.stalled[0]!.release()
    await stuck
    expect(disk.durableContents('/d/a')[0]).toBe(2)
    disk.inject(once('sync', { stall: 'landed' }))
    const failing = codeOf(file.sync())
    await disk.list('/d')
    disk.stalled[0]!.release('EIO')
    expect(await failing).toBe('EIO')
  })

  it('flips bits, zeroes sectors, puts in other bytes, and mangles reads', async () => {
    const disk = freshDisk()
    await durableFile(disk, '/d/a', filled(1536, 1))
    disk.flipBit('/d/a', 5, 3)
    disk.zeroSector('/d/a', 1)
    disk.poke('/d/a', 1024, filled(512, 7))
    for (const view of [disk, disk.reboot(loseAll)]) {
      const bytes = await readAll(view, '/d/a')
      expect(bytes[5]).toBe(1 ^ 8)
      expect(bytes.subarray(512, 1024)).toEqual(filled(512, 0))
      expect(bytes.subarray(1024)).toEqual(filled(512, 7))
    }
    disk.inject(once('read', { mangle: (bytes) => bytes.fill(0xff) }))
    expect(await readAll(disk, '/d/a')).toEqual(filled(1536, 0xff))
    expect((await readAll(disk, '/d/a'))[0]).toBe(1)
  })
})
