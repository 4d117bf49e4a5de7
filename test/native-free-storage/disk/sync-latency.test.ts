import { describe, expect, it } from 'vitest'
import { measureSyncLatency } from '../../../native-free-storage/disk/sync-latency.ts'
import { SimDisk, type SimDiskOptions } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

/** Slow, so that the time and not the number of writes ends it. */
const latencyMs: NonNullable<SimDiskOptions['latencyMs']> = ({ kind, dsync, length }) =>
  kind === 'sync' ? 30 : dsync ? 20 + (length ?? 0) / 65_536 : 1

function freshDisk(): SimDisk {
  const disk = new SimDisk({ seed: 1, latencyMs })
  disk.prepareDirectory('/data')
  return disk
}

describe('measuring synced writes', () => {
  it('gives latencies by size and way, and what several at once bring, within its time; and leaves no file', async () => {
    const disk = freshDisk()
    const found = await measureSyncLatency(simEnvironment(disk), '/data')
    expect(found.fault).toBeNull()
    expect(found.latencies.map(({ mode, bytes }) => [mode, bytes])).toEqual(
      [512, 4096, 65_536, 1_048_576].flatMap((bytes) => [
        ['dsync', bytes],
        ['fdatasync', bytes],
      ]),
    )
    for (const { mode, bytes, samples, p50Ms, p99Ms, maxMs } of found.latencies) {
      expect(samples).toBeGreaterThanOrEqual(3)
      expect([p50Ms, p99Ms, maxMs].map((value) => value.toFixed(3))).toEqual(
        Array(3).fill((mode === 'dsync' ? 20 + bytes / 65_536 : 31).toFixed(3)),
      )
    }
    expect(found.parallel.map(({ depth }) => depth)).toEqual([1, 2, 4])
    const [one, two, four] = found.parallel.map(({ bytesPerSecond }) => bytesPerSecond)
    expect(two! / one!).toBeCloseTo(2, 0)
    expect(four! / one!).toBeCloseTo(4, 0)
    expect(disk.clock.monotonicMs()).toBeLessThan(3_200)
    expect(await disk.list('/data')).toEqual([])
  })

  it('says what failed, and leaves no file', async () => {
    const disk = freshDisk()
    disk.inject(({ kind, dsync }) => (kind === 'write' && dsync ? { fail: 'EIO' } : undefined))
    const found = await measureSyncLatency(simEnvironment(disk), '/data')
    expect(found).toMatchObject({ latencies: [], parallel: [] })
    expect(found.fault).toMatch(/^write of \/data\/write-probe-\w+ failed with EIO$/)
    expect(await disk.list('/data')).toEqual([])
    expect((await measureSyncLatency(simEnvironment(disk), '/nowhere')).fault).toContain('ENOENT')
  })

  it('does not wait for a write that does not return, and gives what it has', async () => {
    const disk = freshDisk()
    disk.inject(({ kind, length }) => (kind === 'write' && length === 4096 ? { stall: 'late' } : undefined))
    const found = await measureSyncLatency(simEnvironment(disk), '/data')
    expect(found.fault).toBe('a synced write did not return within 5000 ms')
    expect(found.latencies.map(({ bytes }) => bytes)).toEqual([512, 512])
    expect(await disk.list('/data')).toEqual([])
  })
})
