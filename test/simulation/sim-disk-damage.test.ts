/** What a disk does that lies: older sectors, writes and reads that go elsewhere, reads that come in parts. */
import { describe, expect, it } from 'vitest'
import { DiskError } from '../../native-free-storage/disk/disk.ts'
import { keepAll, loseAll } from './choices.ts'
import { durableFile, filled, freshDisk, once } from './sim-disk-bed.ts'

describe('an older sector', () => {
  it('is the sector as it was before its last write, on the medium too, and after a power loss', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(1536, 1))
    await file.write(filled(512, 2), 512)
    await file.write(filled(512, 3), 512)
    await file.sync()
    expect(disk.rewrittenSectors('/d/a')).toEqual([1])
    expect(disk.olderSector('/d/a', 0)).toBe(false)
    const later = disk.reboot(keepAll)
    for (const view of [disk, later]) {
      expect(view.olderSector('/d/a', 1)).toBe(true)
      expect(view.contents('/d/a').subarray(512, 1024)).toEqual(filled(512, 2))
      expect(view.reboot(loseAll).contents('/d/a').subarray(512, 1024)).toEqual(filled(512, 2))
      expect(view.contents('/d/a')[0]).toBe(1)
    }
  })

  it('is no part of a file that grew: what was never written has no older version', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 512)
    expect(disk.rewrittenSectors('/d/a')).toEqual([])
  })
})

describe('a misdirected write', () => {
  for (const sync of ['none', 'dsync'] as const) {
    it(`lands in another place of the same file, and is told to be made: ${sync}`, async () => {
      const disk = freshDisk()
      const file = await durableFile(disk, '/d/a', filled(2048, 1), sync)
      disk.inject(once('write', { misdirect: { position: 1024 } }))
      await file.write(filled(512, 2), 0)
      await file.sync()
      for (const view of [disk, disk.reboot(loseAll)]) {
        const bytes = view.contents('/d/a')
        expect([bytes[0], bytes[512], bytes[1024], bytes[1536]]).toEqual([1, 1, 2, 1])
      }
    })
  }

  it('lands in another file, which does not grow; the length of its own does', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1), 'dsync')
    await durableFile(disk, '/d/b', filled(700, 5))
    disk.inject(once('write', { misdirect: { path: '/d/b', position: 512 } }))
    await file.write(filled(512, 2), 512)
    expect(disk.contents('/d/a')).toEqual(Uint8Array.from([...filled(512, 1), ...filled(512, 0)]))
    expect(disk.contents('/d/b')).toEqual(Uint8Array.from([...filled(512, 5), ...filled(188, 2)]))
  })

  it('lands nowhere: it is lost, and a later write of the same place is not', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1), 'dsync')
    disk.inject(once('write', { misdirect: { path: '/d/none', position: 0 } }))
    await file.write(filled(512, 2), 0)
    expect(disk.durableContents('/d/a')).toEqual(filled(512, 1))
    await file.write(filled(512, 3), 0)
    expect(disk.durableContents('/d/a')).toEqual(filled(512, 3))
  })
})

describe('a misdirected read', () => {
  it('gives what stands in another place or file, in the length that was asked for, once', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', Uint8Array.from([...filled(512, 1), ...filled(512, 2)]))
    await durableFile(disk, '/d/b', filled(100, 7))
    const target = new Uint8Array(512)
    disk.inject(once('read', { misdirect: { position: 512 } }))
    expect(await file.read(target, 0, 512, 0)).toBe(512)
    expect(target).toEqual(filled(512, 2))
    disk.inject(once('read', { misdirect: { path: '/d/b', position: 0 } }))
    expect(await file.read(target, 0, 512, 0)).toBe(512)
    expect(target).toEqual(Uint8Array.from([...filled(100, 7), ...filled(412, 0)]))
    expect(await file.read(target, 0, 512, 0)).toBe(512)
    expect(target).toEqual(filled(512, 1))
  })
})

describe('a short read', () => {
  it('of each length is completed, as the port demands, in another step', async () => {
    const disk = freshDisk()
    const content = Uint8Array.from({ length: 40 }, (_, index) => index)
    const file = await durableFile(disk, '/d/a', content)
    for (let short = 0; short < 40; short++) {
      const target = new Uint8Array(50)
      disk.inject(once('read', { short }))
      const { steps } = disk
      const expected = short === 0 ? 0 : 40
      expect(await file.read(target, 5, 45, 0)).toBe(expected)
      expect(disk.steps - steps).toBe(short === 0 ? 2 : 4)
      expect(target.subarray(5, 5 + expected)).toEqual(content.subarray(0, expected))
    }
  })

  it('fails when the rest cannot be read', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(40, 1))
    disk.inject(once('read', { short: 9, fail: 'EIO' }))
    const target = new Uint8Array(40)
    await expect(file.read(target, 0, 40, 0)).rejects.toBeInstanceOf(DiskError)
    expect(target.filter((byte) => byte === 1).length).toBe(9)
    expect(await file.read(target, 0, 40, 0)).toBe(40)
  })
})

describe('a write whose process dies', () => {
  it('keeps the sectors that reached the cache, and the length that belongs to them', async () => {
    const lengths = new Set<number>()
    for (let seed = 0; seed < 40; seed++) {
      const disk = freshDisk()
      const file = await durableFile(disk, '/d/a', filled(512, 1))
      void file.write(filled(1536, 2), 512)
      await null
      disk.processCrash(seed)
      const bytes = disk.nextProcess().contents('/d/a')
      expect(bytes.length % 512).toBe(0)
      expect(bytes.subarray(512).every((byte) => byte === 2)).toBe(true)
      lengths.add(bytes.length)
    }
    expect([...lengths].sort((a, b) => a - b)).toEqual([512, 1024, 1536, 2048])
  })
})
