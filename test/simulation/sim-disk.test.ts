/** What is durable on the simulated disk and what a crash leaves, of the machine or of one process. */
import { describe, expect, it } from 'vitest'
import { DiskError, type DiskFile } from '../../native-free-storage/disk/disk.ts'
import { eachChoice, keepAll, loseAll } from './choices.ts'
import type { SimDisk } from './sim-disk.ts'
import { durableFile, filled, freshDisk, once, readAll } from './sim-disk-bed.ts'
import { simEnvironment } from './sim-environment.ts'

describe('what a power loss leaves', () => {
  it('loses unsynced data with some seeds, keeps it with others, and tears and garbles it with more', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(4096, 1))
    await file.write(filled(4096, 2), 0)
    const seen = new Set<string>()
    for (let seed = 0; seed < 200; seed++) {
      const sectors = disk.reboot(seed).contents('/d/a')
      const kinds = new Set<string>()
      for (let at = 0; at < 4096; at += 512) {
        const sector = sectors.subarray(at, at + 512)
        const uniform = sector.every((byte) => byte === sector[0])
        kinds.add(uniform && sector[0] === 1 ? 'old' : uniform && sector[0] === 2 ? 'new' : 'noise')
      }
      seen.add([...kinds].sort().join('+'))
    }
    for (const state of ['old', 'new', 'new+old', 'noise', 'new+noise+old']) expect(seen).toContain(state)
  })

  it('never loses what was synced, nor touches what was not being written', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(2048, 1))
    await file.write(filled(512, 2), 512)
    await file.sync()
    await file.write(filled(512, 3), 1024)
    for (let seed = 0; seed < 100; seed++) {
      const bytes = disk.reboot(seed).contents('/d/a')
      expect(bytes.subarray(0, 512)).toEqual(filled(512, 1))
      expect(bytes.subarray(512, 1024)).toEqual(filled(512, 2))
      expect(bytes.subarray(1536)).toEqual(filled(512, 1))
    }
  })

  it('never loses a write to a dsync file that has returned, whatever else is in flight', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(16 * 512, 0), 'dsync')
    const returned = new Set<number>()
    let states = 0
    let outOfOrder = 0
    const firstStep = disk.steps
    disk.onStep = () => {
      for (let seed = 0; seed < 4; seed++) {
        const bytes = disk.reboot(seed).contents('/d/a')
        for (const index of returned) {
          expect(bytes.subarray(index * 512, (index + 1) * 512)).toEqual(filled(512, index + 1))
        }
        states++
      }
    }
    await Promise.all(
      Array.from({ length: 16 }, async (_, index) => {
        await file.write(filled(512, index + 1), index * 512)
        if (index !== returned.size) outOfOrder++
        returned.add(index)
      }),
    )
    expect(disk.steps - firstStep).toBe(32)
    expect(states).toBe(128)
    expect(outOfOrder).toBeGreaterThan(0)
  })

  it('makes the length durable with the data, and may keep either without the other before that', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 512)
    const states = new Set<string>()
    await eachChoice(100, (chooser) => {
      const bytes = disk.reboot(chooser, { garble: false }).contents('/d/a')
      states.add(`${bytes.length}:${bytes[512] ?? '-'}`)
    })
    expect([...states].sort()).toEqual(['1024:0', '1024:2', '512:-'])
    await file.sync()
    expect(disk.reboot(loseAll).contents('/d/a').length).toBe(1024)
  })

  it('enumerates each subset of pending writes', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(3 * 512, 0))
    for (let index = 0; index < 3; index++) await file.write(filled(512, 1), index * 512)
    const states = new Set<string>()
    const counted = await eachChoice(1000, (chooser) => {
      const bytes = disk.reboot(chooser, { garble: false }).contents('/d/a')
      states.add([0, 512, 1024].map((at) => bytes[at]).join(''))
    })
    expect(counted).toEqual({ runs: 8, complete: true })
    expect(states.size).toBe(8)
  })

  it('covers by a sync only the writes that had returned when it began', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(1024, 0))
    await file.write(filled(512, 1), 0)
    const release = disk.inject(once('write', { stall: 'landed' }))
    const stuck = file.write(filled(512, 2), 512)
    await file.sync()
    release()
    expect(disk.durableContents('/d/a')[0]).toBe(1)
    expect(disk.durableContents('/d/a')[512]).toBe(0)
    disk.stalled[0]!.release()
    await stuck
    expect(disk.durableContents('/d/a')[512]).toBe(0)
    await file.sync()
    expect(disk.durableContents('/d/a')[512]).toBe(2)
  })

  it('loses unsynced names in strict mode even when the file was synced', async () => {
    const disk = freshDisk({ names: 'strict' })
    const file = await disk.create('/d/a')
    await file.write(filled(512, 1), 0)
    await file.sync()
    expect(disk.reboot(loseAll).paths()).toEqual([])
    expect(disk.reboot(keepAll).paths()).toEqual(['/d/a'])
    await disk.syncDirectory('/d')
    expect(disk.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 1))
  })

  it('keeps the name of a synced file in ext4 mode, with all names before it', async () => {
    const disk = freshDisk({ names: 'ext4' })
    await disk.create('/d/a')
    const file = await disk.create('/d/b')
    await disk.create('/d/c')
    expect(disk.reboot(loseAll).paths()).toEqual([])
    await file.write(filled(512, 1), 0)
    await file.sync()
    expect(disk.reboot(loseAll).paths()).toEqual(['/d/a', '/d/b'])
    const states = new Set<string>()
    await disk.create('/d/e')
    await eachChoice(100, (chooser) => void states.add(disk.reboot(chooser).paths().join()))
    expect([...states].sort()).toEqual(['/d/a,/d/b', '/d/a,/d/b,/d/c', '/d/a,/d/b,/d/c,/d/e'])
  })

  it('keeps or loses each pending link, rename and unlink for itself in strict mode', async () => {
    const disk = freshDisk()
    for (const name of ['a', 'b', 'c']) await durableFile(disk, `/d/${name}`, filled(1, 1))
    await disk.link('/d/a', '/d/a2')
    await disk.rename('/d/b', '/d/b2')
    await disk.unlink('/d/c')
    const states = new Set<string>()
    await eachChoice(100, (chooser) => void states.add(disk.reboot(chooser).paths().sort().join()))
    expect(states.size).toBe(8)
  })

  it('never loses both names of a file renamed into another directory', async () => {
    const disk = freshDisk()
    disk.prepareDirectory('/d/pool')
    const file = await disk.create('/d/pool/a')
    await file.write(filled(1, 1), 0)
    await file.sync()
    await disk.syncDirectory('/d/pool')
    await disk.rename('/d/pool/a', '/d/a')
    const found = async () => {
      const states = new Set<string>()
      await eachChoice(100, (chooser) => {
        const rebooted = disk.reboot(chooser)
        const names = ['/d/pool/a', '/d/a'].filter((path) => rebooted.existsSync(path))
        states.add(names.join())
      })
      return [...states].sort()
    }
    expect(await found()).toEqual(['/d/a', '/d/pool/a', '/d/pool/a,/d/a'])
    await disk.syncDirectory('/d')
    expect(await found()).toEqual(['/d/a', '/d/pool/a,/d/a'])
    await disk.syncDirectory('/d/pool')
    expect(await found()).toEqual(['/d/a'])
  })

  it('keeps one file under its two names', async () => {
    const disk = freshDisk()
    await durableFile(disk, '/d/a', filled(1, 1))
    await disk.link('/d/a', '/d/b')
    const rebooted = disk.reboot(keepAll)
    const file = await rebooted.open('/d/a', 'write')
    await file.write(filled(1, 9), 0)
    expect(rebooted.contents('/d/b')).toEqual(filled(1, 9))
    expect(disk.contents('/d/b')).toEqual(filled(1, 1))
  })
})

describe('crashing', () => {
  async function workload(disk: SimDisk, done: number[]): Promise<void> {
    const file = await disk.create('/d/a', 'dsync')
    await disk.syncDirectory('/d')
    for (let index = 0; index < 4; index++) {
      await file.write(filled(512, index + 1), index * 512)
      done.push(index)
    }
    await file.close()
  }

  it('stops the machine at each step: calls hang, synchronous ones throw, nothing is acknowledged', async () => {
    const whole = freshDisk()
    await workload(whole, [])
    const total = whole.steps
    expect(total).toBe(14)
    for (let step = 0; step < total; step++) {
      const disk = freshDisk()
      disk.crashAfter(step)
      const done: number[] = []
      let ended = false
      void workload(disk, done).then(() => {
        ended = true
      })
      await disk.crashed
      expect(ended).toBe(false)
      expect(disk.steps).toBe(step)
      const acknowledged = done.length
      expect(() => disk.existsSync('/d/a')).toThrow(DiskError)
      for (let seed = 0; seed < 5; seed++) {
        const next = disk.reboot(seed)
        if (acknowledged > 0) expect(next.existsSync('/d/a')).toBe(true)
        for (const index of done) expect(next.contents('/d/a')[index * 512]).toBe(index + 1)
      }
      expect(done.length).toBe(acknowledged)
    }
  })

  it('does the same again with the same seed', async () => {
    const traces: string[][] = []
    const states: Uint8Array[] = []
    for (const seed of [7, 7, 8]) {
      const disk = freshDisk({ seed })
      const file = await disk.create('/d/a', 'dsync')
      await Promise.all(Array.from({ length: 8 }, (_, index) => file.write(filled(512, index), index * 512)))
      await disk.syncDirectory('/d')
      void file.write(filled(4096, 9), 0)
      await null
      traces.push(disk.trace)
      states.push(disk.reboot('some').contents('/d/a'))
    }
    expect(traces[1]).toEqual(traces[0])
    expect(states[1]).toEqual(states[0])
    expect(traces[2]).not.toEqual(traces[0])
    expect(traces[0]!.length).toBe(21)
  })

  it('keeps what a dead process wrote visible, and still not durable', async () => {
    const disk = freshDisk()
    const file = await durableFile(disk, '/d/a', filled(512, 1))
    await file.write(filled(512, 2), 0)
    void file.sync()
    disk.processCrash()
    const next = disk.nextProcess()
    expect(next.pid).not.toBe(disk.pid)
    expect(disk.alive).toBe(false)
    expect(await readAll(next, '/d/a')).toEqual(filled(512, 2))
    expect(next.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 1))
    const again = await next.open('/d/a', 'write')
    await again.sync()
    expect(next.reboot(loseAll).contents('/d/a')).toEqual(filled(512, 2))
  })

  it('leaves any part of a write that was in flight when its process died', async () => {
    const parts = new Set<number>()
    for (let seed = 0; seed < 50; seed++) {
      const disk = freshDisk()
      const file = await durableFile(disk, '/d/a', filled(4 * 512, 1), 'dsync')
      void file.write(filled(4 * 512, 2), 0)
      await null
      disk.processCrash(seed)
      const bytes = await readAll(disk.nextProcess(), '/d/a')
      parts.add(bytes.filter((byte) => byte === 2).length / 512)
    }
    expect([...parts].sort()).toEqual([0, 1, 2, 3, 4])
  })

  it('makes durable the name that a dead process was creating, when the next one syncs the directory', async () => {
    const disk = freshDisk()
    void disk.create('/d/a')
    await null
    disk.processCrash()
    const next = disk.nextProcess()
    await next.syncDirectory('/d')
    expect(next.reboot(loseAll).paths()).toEqual(['/d/a'])
  })

  it('ends the timers of a dead process, and not those of others', async () => {
    const disk = freshDisk()
    const other = disk.nextProcess()
    const fired: string[] = []
    simEnvironment(disk).clock.after(5, () => fired.push('dead'))
    const last = new Promise<void>((resolve) => {
      simEnvironment(other).clock.after(10, () => {
        fired.push('other')
        resolve()
      })
    })
    disk.processCrash()
    await last
    expect(fired).toEqual(['other'])
  })
})

describe('several processes', () => {
  it('see one page cache', async () => {
    const first = freshDisk()
    const second = first.nextProcess()
    const file: DiskFile = await first.create('/d/a')
    await file.write(filled(10, 1), 0)
    expect(await readAll(second, '/d/a')).toEqual(filled(10, 1))
    expect(first.isAlive({ pid: second.pid, bootId: second.bootId, startTime: second.startTime })).toBe(true)
    second.processCrash()
    expect(first.isAlive({ pid: second.pid, bootId: second.bootId, startTime: second.startTime })).toBe(false)
    const reused = first.nextProcess({ pid: second.pid })
    expect(first.isAlive({ pid: second.pid, bootId: second.bootId, startTime: second.startTime })).toBe(false)
    expect(first.isAlive({ pid: reused.pid, bootId: reused.bootId, startTime: reused.startTime })).toBe(true)
    expect(first.reboot(keepAll).bootId).not.toBe(first.bootId)
  })
})
