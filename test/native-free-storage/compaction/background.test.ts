/** Compaction that an open log does by itself. */
import { beforeAll, describe, expect, it } from 'vitest'
import { type Log, type LogOptions, loadChecksum } from '../../../native-free-storage/index.ts'
import { everything, faults, filesOf, newTicked, openTicked, seen, type Ticked } from './ticked-log.ts'

beforeAll(loadChecksum)

const background: LogOptions = { compaction: everything }
const sleep = ({ disk }: Ticked, ms: number) => new Promise<void>((resolve) => disk.clock.after(ms, resolve))

/** As many finished segments, most of each ticks. */
async function fill(log: Log, rolls: number): Promise<void> {
  const until = log.statistics().rolls + rolls
  while (log.statistics().rolls < until) {
    await log.append([{ vchannel: 'v0', payload: Buffer.alloc(100) }])
    for (let i = 0; i < 10; i++) await log.appendTick()
  }
}

const ticksOf = async (log: Log): Promise<number> =>
  (await seen(log, { ticks: true })).filter((line) => line.startsWith('tick')).length

/** Reads of segment files below the log's directory. */
function countReads({ disk }: Ticked): () => number {
  let reads = 0
  disk.inject(({ kind, path }) => {
    if (kind === 'read' && path.endsWith('.seg')) reads++
    return undefined
  })
  return () => reads
}

describe('compaction in the background', () => {
  it('comes a while behind a roll, and again behind the next one, each finished segment once', async () => {
    const ticked = newTicked('rolls')
    const log = await openTicked(ticked, background)
    await fill(log, 3)
    const before = await ticksOf(log)
    await sleep(ticked, 9_000)
    expect(await ticksOf(log)).toBe(before)
    await sleep(ticked, 3_000)
    const after = await ticksOf(log)
    expect(after).toBeLessThan(before / 2)
    const reads = countReads(ticked)
    await sleep(ticked, 60_000)
    expect(reads()).toBe(0)
    await fill(log, 2)
    const more = await ticksOf(log)
    await sleep(ticked, 12_000)
    expect(await ticksOf(log)).toBeLessThan(more)
    await log.close()
    expect(await faults(ticked)).toEqual([])
    expect(filesOf(ticked, '.tmp')).toEqual([])
    ticked.disk.powerLoss()
  })

  it('finds what an earlier process left, and does nothing when it is off', async () => {
    const ticked = newTicked('left')
    const first = await openTicked(ticked)
    await fill(first, 3)
    await sleep(ticked, 60_000)
    const before = await ticksOf(first)
    await first.close()
    const second = await openTicked(ticked, background)
    expect(await ticksOf(second)).toBe(before)
    await sleep(ticked, 12_000)
    expect(await ticksOf(second)).toBeLessThan(before / 2)
    await second.close()
    ticked.disk.powerLoss()
  })

  it('reads no segment that cannot save enough: seal and index say so', async () => {
    const ticked = newTicked('cheap')
    const first = await openTicked(ticked)
    while (first.statistics().rolls < 4) await first.append([{ vchannel: 'v0', payload: Buffer.alloc(700) }])
    await first.close()
    const bytesRead: number[] = []
    const second = await openTicked(ticked, background)
    ticked.disk.inject(({ kind, path, length }) => {
      if (kind === 'read' && path.endsWith('.seg')) bytesRead.push(length ?? 0)
      return undefined
    })
    await sleep(ticked, 12_000)
    // Header and seal of each, and of its successor the header.
    expect(bytesRead.length).toBeGreaterThan(0)
    expect(Math.max(...bytesRead)).toBeLessThanOrEqual(4096)
    await second.close()
    ticked.disk.powerLoss()
  })

  it('ends when the log is closed, and leaves a whole log', async () => {
    const ticked = newTicked('closed')
    const log = await openTicked(ticked, background)
    await fill(log, 4)
    const lines = await seen(log)
    const held = new Promise<void>((resolve) => {
      ticked.disk.inject(({ kind, path }) => {
        if (kind !== 'write' || !path.endsWith('.seg.tmp')) return undefined
        resolve()
        return undefined
      })
    })
    await held
    await log.close()
    expect(filesOf(ticked, '.tmp')).toEqual([])
    expect(await faults(ticked)).toEqual([])
    const again = await openTicked(ticked)
    expect(await seen(again)).toEqual(lines)
    await again.close()
    ticked.disk.powerLoss()
  })

  it('does not keep the close waiting for a disk that does not answer, and publishes nothing afterwards', async () => {
    const ticked = newTicked('stuck')
    const log = await openTicked(ticked, background)
    await fill(log, 3)
    const stuck = new Promise<void>((resolve) => {
      ticked.disk.inject(({ kind, path }) => {
        if (kind !== 'write' || !path.endsWith('.seg.tmp')) return undefined
        resolve()
        return { stall: 'late' }
      })
    })
    await stuck
    const { clock } = ticked.disk
    const beganMs = clock.monotonicMs()
    await log.close()
    expect(clock.monotonicMs() - beganMs).toBeLessThan(60_000)
    const next = await openTicked(ticked)
    for (const each of [...ticked.disk.stalled]) each.release()
    await sleep(ticked, 1_000)
    await next.append([{ vchannel: 'v0' }])
    await next.close()
    expect(await faults(ticked)).toEqual([])
    ticked.disk.powerLoss()
  })

  it('is off, or has other thresholds, when the options say so; wrong ones are refused', async () => {
    const ticked = newTicked('options')
    for (const compaction of [{ savedBytesMin: -1 }, { savedShareMin: 1.5 }, { enabled: 1 as never }]) {
      await expect(openTicked(ticked, { compaction })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    for (const persistTicksMs of [0, 1.5, 1e9]) {
      await expect(openTicked(ticked, { persistTicksMs })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    ticked.disk.powerLoss()
  })
})
