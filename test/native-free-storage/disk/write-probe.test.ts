import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import {
  isProbeName,
  type ProbeOptions,
  probeWriteWay,
  writeWayFileName,
} from '../../../native-free-storage/disk/write-probe.ts'
import { type Operation, SimDisk, type SimDiskOptions } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

const directory = '/data/pool'

/** A disk that needs so long for a synced write or a sync, plus a millisecond for each MiB. */
function diskTaking(dsyncMs: number, fdatasyncMs: number, options: SimDiskOptions = {}): SimDisk {
  const latencyMs = (operation: Operation) => {
    if (operation.kind === 'write') return (operation.dsync ? dsyncMs : 0.02) + (operation.length ?? 0) / 2 ** 20
    return operation.kind === 'sync' ? fdatasyncMs : 0.01
  }
  const disk = new SimDisk({ seed: 1, latencyMs, ...options })
  disk.prepareDirectory(directory)
  return disk
}

const probe = (disk: SimDisk, options?: ProbeOptions) =>
  probeWriteWay(simEnvironment(disk), directory, { maxMs: 250, ...options })

describe('the write probe', () => {
  it('chooses what the disk does best, and says why', async () => {
    const dsync = await probe(diskTaking(0.2, 0.5))
    expect(dsync).toMatchObject({ mode: 'dsync', depth: 4 })
    expect(dsync.reason).toMatch(/measured: dsync at depth 4 writes 4 KiB .* MB\/s.*fdatasync at its best/)
    expect((await probe(diskTaking(2, 0.5))).mode).toBe('fdatasync')
  })

  it('never goes deeper than operations can make progress, and takes a small depth where more brings nothing', async () => {
    for (const parallelOperations of [1, 2, 3, 8]) {
      expect((await probe(diskTaking(0.2, 0.5, { parallelOperations }))).depth).toBe(parallelOperations)
    }
    // One write after the other: the disk's time is only for one.
    let freeAtMs = 0
    const disk: SimDisk = new SimDisk({
      latencyMs: (operation) => {
        if (operation.kind !== 'write' && operation.kind !== 'sync') return 0.01
        const now = disk.clock.monotonicMs()
        freeAtMs = Math.max(now, freeAtMs) + 0.3
        return freeAtMs - now
      },
    })
    disk.prepareDirectory(directory)
    expect(await probe(disk)).toMatchObject({ mode: 'dsync', depth: 1 })
  })

  it('ends in time, also on a slow disk, and on one that does not answer', async () => {
    const quick = diskTaking(0.2, 0.5)
    await probeWriteWay(simEnvironment(quick), directory)
    expect(quick.clock.monotonicMs()).toBeLessThanOrEqual(1000)
    const short = diskTaking(0.2, 0.5)
    expect((await probe(short, { maxMs: 300 })).measured).toBeDefined()
    expect(short.clock.monotonicMs()).toBeLessThanOrEqual(300)
    const slow = diskTaking(300, 300)
    expect(await probe(slow, { maxMs: 1000 })).toMatchObject({
      mode: 'dsync',
      depth: 2,
      reason: expect.stringContaining('not measured'),
    })
    expect(slow.clock.monotonicMs()).toBeLessThanOrEqual(1001)
    const stuck = diskTaking(0.2, 0.5)
    stuck.inject((operation) => (operation.kind === 'write' && operation.dsync ? { stall: 'late' } : undefined))
    expect(await probe(stuck)).toMatchObject({ reason: expect.stringContaining('no answer within 250 ms') })
  })

  it('falls back, without failing, when the disk fails or is full', async () => {
    const failing = diskTaking(0.2, 0.5)
    failing.inject((operation) => (operation.kind === 'sync' ? { fail: 'EIO' } : undefined))
    expect((await probe(failing)).reason).toContain('EIO')
    const full = diskTaking(0.2, 0.5, { capacityBytes: 1 << 20 })
    expect(await probe(full)).toMatchObject({ mode: 'dsync', depth: 2, reason: expect.stringContaining('ENOSPC') })
    expect(await full.list(directory)).toEqual([])
    const missing = await probeWriteWay(simEnvironment(full), '/missing')
    expect(missing.reason).toContain('ENOENT')
  })

  it('keeps what it found, and believes it on the same disk only', async () => {
    const disk = diskTaking(0.2, 0.5)
    const first = await probe(disk)
    expect(await disk.list(directory)).toEqual([writeWayFileName])
    const steps = disk.steps
    const second = await probe(disk)
    expect(second).toMatchObject({ mode: first.mode, depth: first.depth })
    expect(second.reason).toContain('kept from an earlier start')
    expect(disk.steps - steps).toBeLessThan(20)
    disk.setCapacity(2 ** 35)
    expect((await probe(disk)).reason).toMatch(/^measured/)
    const file = await disk.open(`${directory}/${writeWayFileName}`, 'write')
    await file.write(new TextEncoder().encode('{"version":1'), 0)
    await file.truncate(40)
    expect((await probe(disk)).reason).toMatch(/^measured/)
  })

  it('follows what is given', async () => {
    const disk = diskTaking(0.2, 0.5)
    expect(await probe(disk, { override: { mode: 'fdatasync', depth: 7 } })).toMatchObject({
      mode: 'fdatasync',
      depth: 7,
    })
    expect(disk.steps).toBe(0)
    expect(await probe(disk, { override: { depth: 3 } })).toMatchObject({ mode: 'dsync', depth: 3 })
    const mode = await probe(disk, { override: { mode: 'fdatasync' } })
    expect(mode).toMatchObject({ mode: 'fdatasync', depth: 4 })
    expect(mode.reason).toContain('the mode was given')
    for (const override of [{ depth: 0 }, { depth: 1.5 }, { depth: 65 }, { mode: 'fsync' as 'dsync' }]) {
      await expect(probe(disk, { override })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  })

  it('leaves O_DSYNC alone where it cannot be trusted', async () => {
    const disk = diskTaking(0.2, 0.5)
    Object.assign(disk.traits, { dsyncTrusted: false })
    const way = await probe(disk)
    expect(way.mode).toBe('fdatasync')
    expect(way.reason).toContain('O_DSYNC does not reach the medium')
  })

  it('clears away what an earlier probe left', async () => {
    const disk = diskTaking(0.2, 0.5)
    await (await disk.create(`${directory}/write-probe-0123`)).close()
    await probe(disk)
    const names = await disk.list(directory)
    expect(names).toEqual([writeWayFileName])
    expect(names.every(isProbeName)).toBe(true)
  })

  it('probes a real disk', async () => {
    const real = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-probe-'))
    try {
      const begin = performance.now()
      const way = await probeWriteWay(nodeEnvironment(), real, { maxMs: 400 })
      expect(performance.now() - begin).toBeLessThan(1000)
      expect(way.depth).toBeGreaterThanOrEqual(1)
      expect(fs.readdirSync(real).every(isProbeName)).toBe(true)
    } finally {
      fs.rmSync(real, { recursive: true })
    }
  })
})
