import { beforeAll, describe, expect, it } from 'vitest'
import { compactLog, type Log, loadChecksum, type ReadOptions, tickToMs } from '../../../native-free-storage/index.ts'
import { budget } from '../../budget.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import { Random } from '../../simulation/random.ts'
import { appendSome, everything, faults, filesOf, newTicked, openTicked, seen } from './ticked-log.ts'

beforeAll(loadChecksum)

const base = Number(process.env.TIDELOG_SEED ?? 1)

/** Of each run of ticks the last one, in the finished segments; all of the last segment. */
function lastOfRuns(lines: readonly string[]): string[] {
  return lines.filter((line, index) => !(line.startsWith('tick') && lines[index + 1]?.startsWith('tick')))
}

const isTick = (line: string): boolean => line.startsWith('tick')
const records = (lines: readonly string[]): string[] => lines.filter((line) => !isTick(line))

describe('an appended time tick', () => {
  it('takes a tick and no LSN, and stands in the order of the calls', async () => {
    const ticked = newTicked()
    const log = await openTicked(ticked)
    const [first, tick, second] = await Promise.all([
      log.append([{ vchannel: 'a' }, { vchannel: 'a' }]),
      log.appendTick(),
      log.append([{ vchannel: 'a' }, { vchannel: 'b' }]),
    ])
    expect(tick).toBeGreaterThan(first.lastTimeTick)
    expect(second.firstTimeTick).toBeGreaterThan(tick)
    expect([first.lastLsn, second.firstLsn, log.nextLsn]).toEqual([1, 2, 4])
    expect((await seen(log, { ticks: true }))[2]).toBe(`tick ${tick} before 2`)
    expect(log.watermark()).toBeGreaterThan(second.lastTimeTick)
    await log.close()
    expect(await faults(ticked)).toEqual([])
    ticked.disk.powerLoss()
  })

  it('is refused by a log that is opened read-only, is closed, or is asked too late', async () => {
    const ticked = newTicked()
    const log = await openTicked(ticked)
    await log.appendTick()
    const signal = AbortSignal.abort()
    await expect(log.appendTick({ signal })).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written' })
    await log.close()
    await expect(log.appendTick()).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    const reader = await openTicked(ticked, { readOnly: true })
    await expect(reader.appendTick()).rejects.toMatchObject({ code: 'READ_ONLY', outcome: 'not-written' })
    await expect(reader.compact()).rejects.toMatchObject({ code: 'READ_ONLY' })
    await reader.close()
    ticked.disk.powerLoss()
  })

  it('is followed by greater ones when the log is opened again, also after a crash behind it', async () => {
    const ticked = newTicked()
    const log = await openTicked(ticked)
    await log.append([{ vchannel: 'a' }])
    const tick = await log.appendTick()
    ticked.disk.processCrash()
    const disk = ticked.disk.nextProcess()
    const next = { disk, environment: logEnvironment(disk) }
    const again = await openTicked(next)
    expect(again.lastTimeTick).toBe(tick)
    expect(await seen(again, { ticks: true })).toContain(`tick ${tick} before 1`)
    expect((await again.append([{ vchannel: 'a' }])).firstTimeTick).toBeGreaterThan(tick)
    await again.close()
    next.disk.powerLoss()
  })

  it('alone in a segment goes with it when that is full, and the one behind it is greater: a reader goes on', async () => {
    const ticked = newTicked()
    const log = await openTicked(ticked, { segmentBytes: 8 * 1024 })
    const abort = new AbortController()
    const followed: bigint[] = []
    let last = 0n
    const following = (async () => {
      for await (const frame of log.read({ ticks: true, follow: true, signal: abort.signal })) {
        followed.push(frame.baseTimeTick)
        if (frame.baseLsn === 0 && frame.kind === 'records') return
      }
    })()
    for (let i = 0; i < 40; i++) last = await log.appendTick()
    expect(filesOf(ticked, '.seg')).toHaveLength(1)
    expect(log.lastTimeTick).toBe(last)
    const { firstTimeTick } = await log.append([{ vchannel: 'a' }])
    await following
    expect(followed).toHaveLength(41)
    expect(followed.slice(-2)).toEqual([last, firstTimeTick])
    await log.close()
    expect(await faults(ticked)).toEqual([])
    expect(await compactLog(ticked.environment, logDirectory, everything)).toMatchObject({ segments: 0, compacted: [] })
    ticked.disk.powerLoss()
  })
})

describe('ticks that are stored now and then', () => {
  it('are written when the log was idle for so long, and not together with records', async () => {
    const ticked = newTicked()
    const { clock } = ticked.disk
    const sleep = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve))
    const log = await openTicked(ticked, { persistTicksMs: 1_000 })
    await sleep(3_500)
    // Nothing is begun for a log to which nobody has appended.
    expect(filesOf(ticked, '.seg')).toEqual([])
    await log.append([{ vchannel: 'a' }])
    for (let i = 0; i < 8; i++) {
      await sleep(500)
      await log.append([{ vchannel: 'a' }])
    }
    expect((await seen(log, { ticks: true })).filter(isTick)).toEqual([])
    const idleFromMs = clock.nowMs()
    await sleep(5_200)
    const ticks = (await seen(log, { ticks: true })).filter(isTick).map((line) => BigInt(line.split(' ')[1]!))
    expect(ticks.length).toBeGreaterThanOrEqual(4)
    expect(ticks.length).toBeLessThanOrEqual(5)
    for (const [index, tick] of ticks.entries()) {
      const before = index === 0 ? idleFromMs : tickToMs(ticks[index - 1]!)
      expect(tickToMs(tick) - before).toBeGreaterThanOrEqual(index === 0 ? 500 : 999)
    }
    await log.close()
    const files = ticked.disk.usedBytes()
    await sleep(5_000)
    expect(ticked.disk.usedBytes()).toBe(files)
    ticked.disk.powerLoss()
  })
})

/** What everybody may ask for. */
function questions(log: Log, random: Random, ticks: readonly bigint[]): ReadOptions[] {
  const asked: ReadOptions[] = [{}, { vchannels: ['v1'] }, { types: [1] }, { from: 'latest' }]
  for (let i = 0; i < 6; i++) {
    asked.push({ from: { lsn: random.below(log.nextLsn + 1) } })
    asked.push({ from: { lsn: random.below(log.nextLsn + 1) }, vchannels: ['v2', 'v0'] })
    asked.push({ from: { lsn: random.below(log.nextLsn + 1) }, ticks: true })
    const tick = ticks[random.below(ticks.length)]! + BigInt(random.below(3)) - 1n
    asked.push({ from: { timeTick: tick } }, { from: { timeTick: tick }, ticks: true })
    asked.push({ from: { timeTick: tick }, vchannels: ['v1'], types: [0] })
  }
  return asked
}

describe('a compacted log', () => {
  it('reads the same as before, for every reader; again there is nothing to do', async () => {
    const cases = budget({ small: 2, ci: 30, soak: 2_000 })
    for (let seed = base; seed < base + cases; seed++) {
      const ticked = newTicked(seed)
      const log = await openTicked(ticked)
      await appendSome(log, ticked, seed, 220)
      const before = await seen(log, { ticks: true })
      const ticks = before.filter((line) => !line.startsWith('gap')).map((line) => BigInt(line.split(' ')[1]!))
      const asked = questions(log, new Random(seed), ticks)
      const answers: string[][] = []
      for (const question of asked) answers.push(await seen(log, question))
      const report = await log.compact(everything)
      expect(report.compacted.length, `seed ${seed}`).toBeGreaterThan(0)
      expect(report.bytesAfter).toBeLessThan(report.bytesBefore)
      for (const [index, question] of asked.entries()) {
        const answer = await seen(log, question)
        expect(lastOfRuns(answer), `seed ${seed}, question ${index}`).toEqual(lastOfRuns(answers[index]!))
      }
      const after = await seen(log, { ticks: true })
      expect(records(after)).toEqual(records(before))
      expect(lastOfRuns(after)).toEqual(lastOfRuns(before))
      expect(after.filter(isTick).length).toBeLessThan(before.filter(isTick).length)
      expect((await log.compact(everything)).compacted).toEqual([])
      const { firstLsn } = await log.append([{ vchannel: 'v1' }])
      expect(firstLsn).toBe(log.nextLsn - 1)
      await log.close()
      expect(await faults(ticked), `seed ${seed}`).toEqual([])
      const reopened = await openTicked(ticked)
      expect((await seen(reopened, { ticks: true })).slice(0, after.length)).toEqual(after)
      await reopened.close()
      expect(filesOf(ticked, '.tmp')).toEqual([])
      ticked.disk.powerLoss()
    }
  })

  it('gives a reader at every position the same while it is switched', async () => {
    const ticked = newTicked('switch')
    const log = await openTicked(ticked)
    await appendSome(log, ticked, 'switch', 260)
    const before = await seen(log, { ticks: true })
    const lines = records(before)
    const options: ReadOptions[] = [
      { ticks: true },
      {},
      { vchannels: ['v0', 'v1', 'v2'] },
      { ticks: true, follow: true },
    ]
    // Readers that hold a file, and readers that stand between two.
    const readers = options.flatMap((each) =>
      Array.from({ length: 25 }, (_, index) => {
        const abort = new AbortController()
        const frames = log.read({ ...each, signal: abort.signal })[Symbol.asyncIterator]()
        return { each, frames, abort, taken: index * 5, got: [] as string[] }
      }),
    )
    type Reader = (typeof readers)[number]
    const take = async (reader: Reader, upTo: number): Promise<void> => {
      while (reader.got.length < upTo) {
        const { done, value } = await reader.frames.next()
        if (done || value === undefined) return
        if (value.kind === 'tick') reader.got.push(`tick ${value.baseTimeTick} before ${value.baseLsn}`)
        for (const { lsn, timeTick, vchannel, type, payload } of value) {
          reader.got.push(`${lsn} ${timeTick} ${vchannel} ${type} ${payload.length} ${payload[0]}`)
        }
      }
    }
    for (const reader of readers) await take(reader, reader.taken)
    const after = log.compact(everything)
    for (const reader of readers) await take(reader, reader.taken + 3)
    expect((await after).compacted.length).toBeGreaterThan(3)
    const compacted = await seen(log, { ticks: true })
    for (const reader of readers) {
      const ends = lines[lines.length - 1]!
      while (reader.got.at(-1) !== ends && !(isTick(before.at(-1)!) && reader.got.at(-1) === before.at(-1))) {
        const count = reader.got.length
        await take(reader, count + 1)
        if (reader.got.length === count) break
      }
      expect(records(reader.got)).toEqual(lines)
      expect(new Set(reader.got).size).toBe(reader.got.length)
      if (reader.each.ticks) {
        // No tick that everybody is to see is missing, and none comes that was not there.
        const got = new Set(reader.got)
        const upTo = reader.got.at(-1)!
        expect(compacted.slice(0, compacted.indexOf(upTo) + 1).filter((line) => !got.has(line))).toEqual([])
        expect(reader.got.filter((line) => !before.includes(line))).toEqual([])
      }
      reader.abort.abort()
      await reader.frames.return?.()
    }
    await log.close()
    expect(await faults(ticked)).toEqual([])
    ticked.disk.powerLoss()
  })

  it('lets a read that began before end where it was to end, in the file that took the place', async () => {
    const ticked = newTicked('end')
    const log = await openTicked(ticked)
    await appendSome(log, ticked, 'end', 30)
    const roll = async (): Promise<void> => {
      const { rolls } = log.statistics()
      while (log.statistics().rolls === rolls) await log.append([{ vchannel: 'v0', payload: Buffer.alloc(3_000) }])
    }
    await roll()
    const last = await log.append([{ vchannel: 'v0' }])
    const tick = await log.appendTick()
    const before = await seen(log, { ticks: true })
    // It has not looked at any file yet.
    const plain = log.read({})
    const withTicks = log.read({ ticks: true })
    const later = await log.appendTick()
    for (let i = 0; i < 3; i++) await roll()
    expect((await log.compact(everything)).compacted.length).toBeGreaterThan(0)
    const lsns: number[] = []
    for await (const frame of plain) for (const { lsn } of frame) lsns.push(lsn)
    expect(lsns.at(-1)).toBe(last.lastLsn)
    expect(lsns).toHaveLength(records(before).length)
    const ticks: bigint[] = []
    let lastLsn = -1
    for await (const frame of withTicks) {
      if (frame.kind === 'tick') ticks.push(frame.baseTimeTick)
      for (const { lsn } of frame) lastLsn = lsn
    }
    expect(lastLsn).toBe(last.lastLsn)
    expect(ticks.at(-1)).toBe(later)
    expect(later).toBeGreaterThan(tick)
    await log.close()
    ticked.disk.powerLoss()
  })
})
