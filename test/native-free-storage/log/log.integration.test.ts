import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type Log,
  type LogOptions,
  type LogRecord,
  openLog,
  type ReadOptions,
} from '../../../native-free-storage/index.ts'

/** Disk use: at most a few MiB a test, removed afterwards (and the pool's prepared files while a log is open). */
let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-log-'))
})

afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

/** CI runs these with both write modes and with depth 1. */
function options(more: LogOptions = {}): LogOptions {
  const mode = process.env.TIDELOG_TEST_WRITE_MODE
  const depth = process.env.TIDELOG_TEST_WRITE_DEPTH
  return {
    segmentBytes: 256 * 1024,
    writeMode: mode === 'fdatasync' ? 'fdatasync' : 'dsync',
    writeDepth: depth === undefined ? 4 : Number(depth),
    ...more,
  }
}

async function records(log: Log, read: ReadOptions = {}): Promise<LogRecord[]> {
  const all: LogRecord[] = []
  for await (const frame of log.read(read)) all.push(...frame)
  return all
}

const text = (record: LogRecord): string => Buffer.from(record.payload).toString()

describe('a log', () => {
  it('gives LSNs from 0 without holes, ticks that grow, and every record back after it was closed', async () => {
    const log = await openLog(directory, options())
    const first = await log.append([
      { vchannel: 'orders', payload: Buffer.from('a'), properties: { k: 'v' }, type: 2 },
      { vchannel: 'orders', payload: Buffer.from('b') },
    ])
    expect(first.firstLsn).toBe(0)
    expect(first.lastLsn).toBe(1)
    expect(first.lastTimeTick - first.firstTimeTick).toBe(1n)
    const second = await log.append([{ vchannel: 'users', payload: Buffer.alloc(0) }])
    expect(second.firstLsn).toBe(2)
    expect(second.firstTimeTick).toBeGreaterThan(first.lastTimeTick)
    await log.close()

    const again = await openLog(directory, options())
    expect(again.nextLsn).toBe(3)
    const read = await records(again)
    expect(read.map((record) => [record.lsn, record.vchannel, text(record), record.type])).toEqual([
      [0, 'orders', 'a', 2],
      [1, 'orders', 'b', 0],
      [2, 'users', '', 0],
    ])
    expect(read[0]!.properties).toEqual({ k: 'v' })
    expect(read[0]!.timeTick).toBe(first.firstTimeTick)
    const lsns: number[] = []
    for await (const record of again.readRecords({ vchannels: ['orders'] })) lsns.push(record.lsn)
    expect(lsns).toEqual([0, 1])
    await again.close()
  })

  it('rolls over many segments and reads them all, whole and by vchannel', async () => {
    const log = await openLog(directory, options())
    const payload = Buffer.alloc(1000, 7)
    const pending: Promise<unknown>[] = []
    for (let i = 0; i < 3000; i++) pending.push(log.append([{ vchannel: `v${i % 7}`, payload }]))
    await Promise.all(pending)
    for (let i = 0; i < 20; i++) {
      await log.append(Array.from({ length: 50 }, () => ({ vchannel: `b${i % 3}`, payload })))
    }
    expect(log.statistics().segments).toBeGreaterThan(5)
    expect((await records(log)).length).toBe(4000)
    expect((await records(log, { vchannels: ['b1'] })).length).toBe(350)
    await log.close()
    const again = await openLog(directory, options())
    const read = await records(again)
    expect(read.map(({ lsn }) => lsn)).toEqual(Array.from({ length: 4000 }, (_, lsn) => lsn))
    expect((await records(again, { vchannels: ['v3', 'b0'] })).length).toBe(429 + 350)
    await again.close()
  })

  // A frame that was measured while a segment was begun or rolled took more records than its body had room for.
  it('keeps the single appends that come while a segment is begun or rolled', async () => {
    const log = await openLog(directory, options({ segmentBytes: 64 * 1024 }))
    const acknowledged = new Map<number, string>()
    await Promise.all(
      Array.from({ length: 64 }, async (_, caller) => {
        for (let i = 0; i < 60; i++) {
          if (caller % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
          const payload = Buffer.from(`${caller}/${i}/`.padEnd(700, 'x'))
          const { firstLsn } = await log.append([{ vchannel: `v${caller % 3}`, payload }])
          acknowledged.set(firstLsn, payload.toString())
        }
      }),
    )
    expect(log.statistics().rolls).toBeGreaterThan(20)
    const read = new Map((await records(log)).map((record) => [record.lsn, text(record)]))
    expect(read).toEqual(acknowledged)
    await log.close()
  })

  it('is told of by a reader that follows, while it is appended to', async () => {
    const log = await openLog(directory, options())
    const stop = new AbortController()
    const seen: number[] = []
    const tail = (async () => {
      for await (const frame of log.read({ follow: true, signal: stop.signal })) {
        for (const record of frame) seen.push(record.lsn)
        if (seen.length === 500) return
      }
    })()
    for (let i = 0; i < 100; i++)
      await log.append(Array.from({ length: 5 }, () => ({ vchannel: 'x', payload: Buffer.alloc(300) })))
    await tail
    expect(seen).toEqual(Array.from({ length: 500 }, (_, lsn) => lsn))
    await log.close()
  })

  it('truncates from the front: what is below is refused, what is above stays', async () => {
    const log = await openLog(directory, options())
    const payload = Buffer.alloc(10_000)
    for (let i = 0; i < 100; i++) await log.append([{ vchannel: 'x', payload }])
    const segments = log.statistics().segments
    await log.truncateBefore(60)
    expect(log.firstLsn).toBe(60)
    expect(log.statistics().segments).toBeLessThan(segments)
    await expect(records(log, { from: { lsn: 59 } })).rejects.toMatchObject({ code: 'POSITION_TRUNCATED' })
    expect((await records(log)).map(({ lsn }) => lsn)).toEqual(Array.from({ length: 40 }, (_, i) => 60 + i))
    await log.close()
    const again = await openLog(directory, options())
    expect(again.firstLsn).toBe(60)
    expect((await records(again)).length).toBe(40)
    await again.close()
  })

  it('refuses a second opener, and a record beyond its limit before an LSN is given', async () => {
    const log = await openLog(directory, options({ recordBytesMax: 1000 }))
    await expect(openLog(directory, options())).rejects.toMatchObject({ code: 'LOCKED' })
    await expect(log.append([{ vchannel: 'x', payload: Buffer.alloc(1001) }])).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      outcome: 'not-written',
    })
    await expect(log.append([{ vchannel: 'a\nb' }])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect((await log.append([{ vchannel: 'x' }])).firstLsn).toBe(0)
    await log.close()
    await expect(log.append([{ vchannel: 'x' }])).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
  })

  it('opens read-only beside its writer up to the last proven position', async () => {
    const log = await openLog(directory, options())
    for (let i = 0; i < 10; i++) await log.append([{ vchannel: 'x', payload: Buffer.from(String(i)) }])
    const reader = await openLog(directory, { readOnly: true })
    const read = await records(reader)
    expect(read.length).toBeGreaterThanOrEqual(9)
    expect(read.map(text)).toEqual(Array.from({ length: read.length }, (_, i) => String(i)))
    await expect(reader.append([{ vchannel: 'x' }])).rejects.toMatchObject({ code: 'READ_ONLY' })
    await reader.close()
    await log.close()
  })
})
