import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Disk } from '../../../native-free-storage/disk/disk.ts'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import { TidelogError } from '../../../native-free-storage/errors.ts'
import { logFilesOf } from '../../../native-free-storage/log/log-files.ts'
import type { ReadOptions } from '../../../native-free-storage/log/read-options.ts'
import { readLog } from '../../../native-free-storage/log/reader.ts'
import type { RecordFrame } from '../../../native-free-storage/log/record-frame.ts'
import { budget } from '../../budget.ts'
import { type TestLog, type TestLogOptions, testLog, type WrittenRecord } from '../segment/build-segment.ts'

function payloadOf(size: number, seed = 0): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + seed * 7 + (i >> 8)) & 0xff
  return bytes
}

async function readAll(log: TestLog, options: ReadOptions = {}): Promise<RecordFrame[]> {
  const frames: RecordFrame[] = []
  for await (const frame of readLog(log, options)) frames.push(frame)
  return frames
}

/** Payloads as text: comparing large buffers byte by byte takes the test runner seconds. */
type ComparedRecord = Omit<WrittenRecord, 'payload'> & { payload: string }

function written(records: readonly WrittenRecord[]): ComparedRecord[] {
  return records.map((record) => ({ ...record, payload: record.payload.toString('latin1') }))
}

function recordsOf(frames: readonly RecordFrame[]): ComparedRecord[] {
  return frames.flatMap((frame) =>
    [...frame].map((record) => ({
      lsn: record.lsn,
      timeTick: record.timeTick,
      vchannel: record.vchannel,
      type: record.type,
      properties: { ...record.properties },
      payload: Buffer.from(record.payload).toString('latin1'),
      isNull: record.isNull,
      isVoid: false,
    })),
  )
}

const lsnsOf = (frames: readonly RecordFrame[]): number[] => recordsOf(frames).map((record) => record.lsn)

async function failureOf(promise: Promise<unknown>): Promise<TidelogError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TidelogError)
  return error as TidelogError
}

/** Three sealed segments and an active one, ten frames each, of mixed vchannels. */
async function someLog(options: TestLogOptions = {}): Promise<TestLog> {
  const log = await testLog(options)
  for (let segment = 0; segment < 4; segment++) {
    for (let frame = 0; frame < 10; frame++) {
      log.append([
        { vchannel: 'a', payload: payloadOf(100, frame), properties: { n: String(frame) } },
        { vchannel: frame % 2 === 0 ? 'b' : 'c', type: 2, payload: payloadOf(3000, frame) },
        { vchannel: 'a', type: frame, payload: frame % 3 === 0 ? null : Buffer.alloc(0) },
      ])
    }
    if (segment < 3) await log.roll()
  }
  return log
}

const servedFrom: [string, TestLogOptions][] = [
  ['the files', {}],
  ['the cache', { cacheBytes: 1 << 26 }],
  ['both', { cacheBytes: 50_000 }],
]

describe.each(servedFrom)('a reader served from %s', (_name, options) => {
  it('gives every record as it was written', async () => {
    const log = await someLog(options)
    expect(recordsOf(await readAll(log))).toEqual(written(log.records))
  })

  it('gives the records of the vchannels and types that were asked for', async () => {
    const log = await someLog(options)
    for (const vchannels of [['a'], ['b', 'c'], ['nobody']]) {
      const wanted = log.records.filter((record) => vchannels.includes(record.vchannel))
      expect(recordsOf(await readAll(log, { vchannels }))).toEqual(written(wanted))
    }
    const typed = log.records.filter((record) => record.type === 2 && record.vchannel === 'a')
    expect(recordsOf(await readAll(log, { vchannels: ['a'], types: [2] }))).toEqual(written(typed))
  })

  it('starts at every LSN, in the middle of a frame too', async () => {
    const log = await someLog(options)
    for (let lsn = 0; lsn <= log.nextLsn + 1; lsn++) {
      const frames = await readAll(log, { from: { lsn } })
      expect(lsnsOf(frames)).toEqual(log.records.slice(lsn).map((record) => record.lsn))
    }
  })

  it('starts at every time tick', async () => {
    const log = await someLog(options)
    for (const record of log.records) {
      const [first] = await readAll(log, { from: { timeTick: record.timeTick } })
      expect(lsnsOf([first!])[0]).toBe(record.lsn)
    }
    expect(await readAll(log, { from: { timeTick: log.nextTick } })).toEqual([])
    expect(lsnsOf(await readAll(log, { from: { timeTick: 0n } })).length).toBe(log.records.length)
  })

  it('skips void records and keeps records of the empty name for every vchannel', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a', payload: payloadOf(10) }, { vchannel: 'b' }, { vchannel: 'b' }], { voids: [1] })
    log.append([{ vchannel: '', payload: payloadOf(20) }])
    log.append([{ vchannel: 'b' }], { voids: [0] })
    expect(lsnsOf(await readAll(log))).toEqual([0, 2, 3])
    expect(lsnsOf(await readAll(log, { vchannels: ['b'] }))).toEqual([2, 3])
    expect(lsnsOf(await readAll(log, { vchannels: ['other'] }))).toEqual([3])
  })

  it('tells of lost records, and of other gaps when it is asked to', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    log.gap(5, 'lost')
    log.append([{ vchannel: 'b' }])
    log.gap(2, 'leased')
    log.append([{ vchannel: 'a' }])
    const frames = await readAll(log, { vchannels: ['a'] })
    expect(frames.map((frame) => frame.kind)).toEqual(['records', 'gap', 'records'])
    expect(frames[1]!.gap).toEqual({ firstLsn: 1, count: 5, reason: 'lost' })
    expect([...frames[1]!]).toEqual([])
    expect((await readAll(log, { gaps: true })).map((frame) => frame.gap?.reason)).toEqual([
      undefined,
      'lost',
      undefined,
      'leased',
      undefined,
    ])
  })

  it('gives stored time ticks when it is asked to', async () => {
    const log = await testLog(options)
    log.tick()
    log.append([{ vchannel: 'a' }])
    const tick = log.tick()
    log.marker()
    expect((await readAll(log)).length).toBe(1)
    const frames = await readAll(log, { ticks: true })
    expect(frames.map((frame) => frame.kind)).toEqual(['tick', 'records', 'tick'])
    expect(frames[2]!.baseTimeTick).toBe(tick)
  })

  it('follows the log over a roll until it is closed', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    const seen: number[] = []
    const reading = (async () => {
      for await (const frame of readLog(log, { follow: true })) seen.push(...lsnsOf([frame]))
    })()
    for (let i = 0; i < 30; i++) {
      if (i % 10 === 9) await log.roll()
      log.append([{ vchannel: 'a', payload: payloadOf(5000) }])
      if (i % 4 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    log.end(new TidelogError('CLOSED', 'closed'))
    await reading
    expect(seen).toEqual(log.records.map((record) => record.lsn))
    expect(logFilesOf(log).segments.openHandles).toBe(0)
  })

  it('starts at the latest record that comes', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    const reader = readLog(log, { from: 'latest', follow: true })
    const next = reader.next()
    log.append([{ vchannel: 'a', payload: payloadOf(7) }])
    const { value } = await next
    expect(lsnsOf([value!])).toEqual([1])
    await reader.return?.()
  })

  it('waits for an LSN that is not there yet', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    const reader = readLog(log, { from: { lsn: 2 }, follow: true })
    const next = reader.next()
    log.append([{ vchannel: 'a' }])
    log.append([{ vchannel: 'a' }])
    expect(lsnsOf([(await next).value!])).toEqual([2])
    await reader.return?.()
    expect(await readAll(log, { from: { lsn: 5 } })).toEqual([])
  })

  it('follows a log that has nothing yet', async () => {
    const log = await testLog(options)
    expect(await readAll(log)).toEqual([])
    const reader = readLog(log, { follow: true })
    const next = reader.next()
    log.append([{ vchannel: 'a' }])
    expect(lsnsOf([(await next).value!])).toEqual([0])
    await reader.return?.()
  })

  it('ends where the log ended when it was started', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    log.append([{ vchannel: 'a' }])
    const reader = readLog(log)
    await log.roll()
    log.append([{ vchannel: 'a' }])
    const lsns: number[] = []
    for await (const frame of reader) lsns.push(...lsnsOf([frame]))
    expect(lsns).toEqual([0, 1])
  })

  it('refuses a start that was truncated away, and one that is truncated while it reads', async () => {
    const log = await someLog(options)
    const reader = readLog(log)
    await reader.next()
    log.truncateBefore(50)
    const meanwhile = await failureOf(reader.next())
    expect(meanwhile).toMatchObject({ code: 'POSITION_TRUNCATED', lsn: 3, lsnFrom: 50 })
    expect(await failureOf(readAll(log, { from: { lsn: 49 } }))).toMatchObject({ code: 'POSITION_TRUNCATED', lsn: 49 })
    expect(await failureOf(readAll(log, { from: { timeTick: log.records[49]!.timeTick } }))).toMatchObject({
      code: 'POSITION_TRUNCATED',
      lsn: 49,
    })
    expect(lsnsOf(await readAll(log))[0]).toBe(50)
    expect(lsnsOf(await readAll(log, { from: { timeTick: log.records[50]!.timeTick } }))[0]).toBe(50)
    log.truncateBefore(90)
    expect(await failureOf(readAll(log, { from: { timeTick: 0n } }))).toMatchObject({ code: 'POSITION_TRUNCATED' })
    expect(lsnsOf(await readAll(log, { from: { timeTick: log.records[90]!.timeTick } }))[0]).toBe(90)
  })

  it('ends with the reason when it is aborted, and when the log fails', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    const abort = new AbortController()
    const reader = readLog(log, { follow: true, signal: abort.signal })
    await reader.next()
    const waiting = failureOf(reader.next())
    abort.abort(new Error('enough'))
    expect(await waiting).toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } })

    const other = readLog(log, { follow: true })
    await other.next()
    const failing = failureOf(other.next())
    log.end(new TidelogError('POISONED', 'a write failed'))
    expect((await failing).code).toBe('POISONED')
  })

  it('can be ended while it waits', async () => {
    const log = await testLog(options)
    log.append([{ vchannel: 'a' }])
    const reader = readLog(log, { follow: true })
    await reader.next()
    const next = reader.next()
    await reader.return?.()
    expect((await next).done).toBe(true)
    expect(logFilesOf(log).segments.openHandles).toBe(0)
  })
})

describe('a reader of files', () => {
  it('finds the ends of segments in the headers behind them', async () => {
    const log = await testLog()
    for (let i = 0; i < 3; i++) {
      log.append([{ vchannel: 'a', payload: payloadOf(200) }])
      await log.roll({ seal: i !== 1, forgetEnd: true, index: false })
    }
    log.append([{ vchannel: 'a' }])
    expect(lsnsOf(await readAll(log))).toEqual([0, 1, 2, 3])
    expect(lsnsOf(await readAll(log, { from: { lsn: 2 } }))).toEqual([2, 3])
  })

  it('names the records of a segment that is missing', async () => {
    const log = await someLog()
    log.segments = [log.segments[0]!, log.segments[2]!, log.segments[3]!]
    const error = await failureOf(readAll(log))
    expect(error).toMatchObject({ code: 'SEGMENT_MISSING', lsnTo: 59 })
  })

  it('reads frames that are larger than its reads, and many in one', async () => {
    const log = await testLog()
    for (const size of [10, 3_000_000, 20, 200_000, 64 * 1024 - 96, 1_000_000, 5, 5, 5, 1_500_000]) {
      log.append([{ vchannel: 'a', payload: payloadOf(size) }])
    }
    for (const readAheadBytes of [64 * 1024, 256 * 1024, 1024 * 1024]) {
      expect(recordsOf(await readAll(log, { readAheadBytes }))).toEqual(written(log.records))
    }
  })

  it('reads only the sections that are wanted of large frames', async () => {
    const log = await testLog()
    for (let frame = 0; frame < 5; frame++) {
      const inputs = Array.from({ length: 200 }, (_, i) => ({
        vchannel: `v${i % 50}`,
        payload: payloadOf(4000, i + frame),
        properties: { i: String(i) },
      }))
      log.append(inputs, { voids: [7], stamps: [{ record: 3, key: 1, value: Buffer.from('x') }] })
    }
    const vchannels = ['v7', 'v9']
    const frames = await readAll(log, { vchannels })
    const wanted = log.records.filter((record) => vchannels.includes(record.vchannel) && !record.isVoid)
    expect(recordsOf(frames)).toEqual(written(wanted))
    expect(frames[0]!.body).toBeNull()
    expect(frames[0]!.section(7)).not.toBeNull()
    expect(frames[0]!.section(8)).toBeNull()
  })

  it('reads one vchannel of a thousand for little more than its own bytes', async () => {
    const node = nodeEnvironment()
    let bytesRead = 0
    const open = node.disk.open.bind(node.disk)
    const counting: Disk['open'] = async (...args) => {
      const file = await open(...args)
      const read = file.read.bind(file)
      file.read = async (...rest) => {
        const got = await read(...rest)
        bytesRead += got
        return got
      }
      return file
    }
    node.disk.open = counting
    const log = await testLog({ environment: node })
    for (let i = 0; i < 3000; i++) {
      log.append(Array.from({ length: 10 }, () => ({ vchannel: `v${i % 1000}`, payload: payloadOf(1000, i) })))
    }
    await log.roll()
    log.append([{ vchannel: 'v5' }])
    const wanted = log.records.filter((record) => record.vchannel === 'v500')
    bytesRead = 0
    expect(recordsOf(await readAll(log, { vchannels: ['v500'] }))).toEqual(written(wanted))
    // Three frames of 10 KiB; two headers of segments and a few blocks of the index come on top.
    expect(bytesRead).toBeLessThan(3 * 10_752 * 2 + 12 * 4096)
  })

  it('gives all frames with any filter as a look at every frame does', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.tuple(fc.nat(6), fc.nat(3), fc.nat(30_000)), { minLength: 1, maxLength: 5 }), {
          minLength: 1,
          maxLength: 60,
        }),
        fc.array(fc.nat(7), { maxLength: 3 }),
        fc.nat(150),
        fc.boolean(),
        async (batches, names, start, cached) => {
          const log = await testLog({ cacheBytes: cached ? 100_000 : 0 })
          for (const [i, batch] of batches.entries()) {
            if (i % 15 === 14) await log.roll({ index: i % 2 === 0 })
            log.append(
              batch.map(([v, type, size]) => ({ vchannel: v === 6 ? '' : `v${v}`, type, payload: payloadOf(size) })),
            )
            if (i % 7 === 6) log.gap(3, 'void')
          }
          const vchannels = names.map((n) => `v${n}`)
          const wanted = log.records.filter(
            (record) => record.lsn >= start && (record.vchannel === '' || vchannels.includes(record.vchannel)),
          )
          const got = recordsOf(await readAll(log, { vchannels, from: { lsn: start } }))
          expect(got).toEqual(written(wanted))
          log.closeFile()
        },
      ),
      { numRuns: budget({ small: 40, ci: 300 }) },
    )
  })
})

describe('readers that follow', () => {
  it('give every record once and in order, however far they fall behind', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 200_000 }),
        fc.array(fc.record({ bytes: fc.nat(40_000), roll: fc.nat(12), wait: fc.nat(3) }), {
          minLength: 1,
          maxLength: 80,
        }),
        fc.array(fc.record({ pause: fc.nat(4), names: fc.nat(3) }), { minLength: 1, maxLength: 4 }),
        async (cacheBytes, writes, readers) => {
          const log = await testLog({ cacheBytes })
          const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
          const reading = readers.map(async ({ pause, names }) => {
            const vchannels = names === 0 ? undefined : [`v${names - 1}`]
            const seen: number[] = []
            for await (const frame of readLog(log, { follow: true, vchannels })) {
              seen.push(...lsnsOf([frame]))
              for (let i = 0; i < pause; i++) await turn()
            }
            return { vchannels, seen }
          })
          for (const [i, { bytes, roll, wait }] of writes.entries()) {
            if (roll === 0) await log.roll({ index: i % 2 === 0 })
            log.append([{ vchannel: `v${i % 3}`, payload: payloadOf(bytes, i) }, { vchannel: 'other' }])
            for (let n = 0; n < wait; n++) await turn()
          }
          log.end(new TidelogError('CLOSED', 'closed'))
          for (const { vchannels, seen } of await Promise.all(reading)) {
            const wanted = log.records.filter(({ vchannel }) => vchannels?.includes(vchannel) ?? true)
            expect(seen).toEqual(wanted.map(({ lsn }) => lsn))
          }
          expect(logFilesOf(log).segments.openHandles).toBe(0)
          log.closeFile()
        },
      ),
      { numRuns: budget({ small: 30, ci: 300 }) },
    )
  })
})

describe('damage', () => {
  const damageAt: [string, (log: TestLog) => { name: string; position: number }][] = [
    ['a frame header', (log) => ({ name: log.segments[1]!.name, position: 4096 + 20 })],
    ['a body', (log) => ({ name: log.segments[1]!.name, position: 4096 + 100 })],
    ['a section', (log) => ({ name: log.segments[1]!.name, position: 4096 + 400 })],
  ]
  it.each(damageAt)('in %s ends the read with the place and the LSNs', async (_name, place) => {
    const log = await someLog()
    const { name, position } = place(log)
    log.damage(name, position)
    const seen: number[] = []
    const error = await failureOf(
      (async () => {
        for await (const frame of readLog(log)) seen.push(...lsnsOf([frame]))
      })(),
    )
    expect(seen.length).toBe(30)
    expect(error).toMatchObject({ code: 'FRAME_DAMAGED', file: name, position: 4096, lsnFrom: 30 })
    expect(error.lsnTo).toBeGreaterThanOrEqual(32)
  })

  it('of an index costs a rebuild and nothing else', async () => {
    const log = await testLog()
    for (let segment = 0; segment < 3; segment++) {
      for (let i = 0; i < 200; i++) log.append([{ vchannel: `v${i % 10}`, payload: payloadOf(2000, i) }])
      await log.roll()
    }
    const wanted = log.records.filter((record) => record.vchannel === 'v3')
    const idx = log.segments.slice(0, 3).map((segment) => segment.name.replace('.seg', '.idx'))
    log.damage(idx[0]!, 100)
    log.damage(idx[1]!, 3 * 4096 + 8)
    log.damage(idx[2]!, 4096 + 30)
    expect(recordsOf(await readAll(log, { vchannels: ['v3'] }))).toEqual(written(wanted))
    for (const lsn of [0, 150, 350, 599]) {
      expect(lsnsOf(await readAll(log, { from: { lsn } }))[0]).toBe(lsn)
    }
  })

  it('of a frame behind the start is found, though the index is right', async () => {
    const log = await testLog()
    for (let i = 0; i < 300; i++) log.append([{ vchannel: `v${i % 3}`, payload: payloadOf(2000, i) }])
    await log.roll()
    log.append([{ vchannel: 'v1' }])
    const position = 4096 + 30 * 2560
    log.damage(log.segments[0]!.name, position + 150)
    const error = await failureOf(readAll(log, { vchannels: ['v0'] }))
    expect(error).toMatchObject({ code: 'FRAME_DAMAGED', position, lsnFrom: 30 })
    expect((await readAll(log, { vchannels: ['v1'] })).length).toBe(101)
  })

  it('of a header is told with its file', async () => {
    const log = await someLog()
    log.damage(log.segments[2]!.name, 70)
    expect(await failureOf(readAll(log))).toMatchObject({ code: 'LOG_DAMAGED', file: log.segments[2]!.name })
  })
})
