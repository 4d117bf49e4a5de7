/** What every log store promises, as tests: run by each implementation with a subject of its own. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { decodeContext, decodeNodeSection, encodeContext } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import type {
  AppendedRange,
  LogStore,
  LogStoreOpener,
  LogStoreRecord,
  StoreFrame,
} from '../../src/log-store/log-store.ts'
import { encodeBody, numberedBody } from '../log-store/encode-body.ts'

export interface LogStoreSubject {
  /** Each one opens the same logs, as another process would that does not see the first one's locks. */
  opener(): LogStoreOpener
  /** From now on no flush becomes durable until the function that it gives is called. */
  holdFlushes(): () => void
  /** The next flush fails. */
  failNextFlush(): void
  dispose(): Promise<void>
}

const text = (record: LogStoreRecord) => Buffer.from(record.payload).toString()

async function collect(frames: AsyncIterable<StoreFrame>): Promise<LogStoreRecord[]> {
  const records: LogStoreRecord[] = []
  for await (const frame of frames) records.push(...frame)
  return records
}

async function texts(frames: AsyncIterable<StoreFrame>): Promise<string[]> {
  return (await collect(frames)).map(text)
}

/** The frames of `iterator` until `count` records were seen. */
async function take(iterator: AsyncIterator<StoreFrame>, count: number): Promise<LogStoreRecord[]> {
  const records: LogStoreRecord[] = []
  while (records.length < count) {
    const { value, done } = await iterator.next()
    if (done) break
    records.push(...(value as StoreFrame))
  }
  return records
}

export function logStoreConformance(name: string, makeSubject: () => Promise<LogStoreSubject>): void {
  describe(`log store: ${name}`, () => {
    let subject: LogStoreSubject
    let store: LogStore

    beforeEach(async () => {
      subject = await makeSubject()
      store = await subject.opener().open('0', 1)
    })

    afterEach(async () => {
      await store.close().catch(() => {})
      await subject.dispose()
    })

    const append = async (vchannel: string, prefix: string, count = 1, target = store): Promise<AppendedRange> =>
      target.append(await numberedBody(vchannel, prefix, count))

    describe('order', () => {
      test('an empty log begins at LSN 0 and has nothing to read', async () => {
        expect([store.firstLsn, store.nextLsn, store.ownerTerm]).toEqual([0, 0, 1])
        expect(await texts(store.read({ from: 'earliest' }))).toEqual([])
      })

      test('LSNs are dense and ticks increase, over frames of any size', async () => {
        const ranges: AppendedRange[] = []
        for (const count of [1, 3, 100, 1]) ranges.push(await append('orders', `of-${count}`, count))
        let next = 0
        let tick = 0n
        for (const [index, count] of [1, 3, 100, 1].entries()) {
          const range = ranges[index]!
          expect([range.firstLsn, range.lastLsn]).toEqual([next, next + count - 1])
          expect(range.firstTimeTick).toBeGreaterThan(tick)
          expect(range.lastTimeTick).toBe(range.firstTimeTick + BigInt(count - 1))
          next += count
          tick = range.lastTimeTick
        }
        expect(store.nextLsn).toBe(105)
      })

      test('appends that are in flight together keep the order of their calls', async () => {
        const bodies = await Promise.all(Array.from({ length: 64 }, (_, i) => numberedBody('orders', `${i}`, 2)))
        const ranges = await Promise.all(bodies.map((body) => store.append(body)))
        expect(ranges.map((range) => range.firstLsn)).toEqual(ranges.map((_, index) => index * 2))
        const read = await texts(store.read({ from: 'earliest' }))
        expect(read).toEqual(ranges.flatMap((_, index) => [`${index}-0`, `${index}-1`]))
      })

      test('a record comes back as it was given', async () => {
        const payload = Buffer.from([0, 1, 2, 250, 255])
        const body = await encodeBody([
          { vchannel: 'a', type: 2, properties: { k: 'v', ключ: 'значение' }, payload },
          { vchannel: 'b', payload: new Uint8Array(0) },
          { vchannel: 'a', type: 40_000, properties: { __proto__x: '1' } },
        ])
        const range = await store.append(body)
        const records = await collect(store.read({ from: 'earliest' }))
        expect(records.map((r) => [r.lsn, r.timeTick, r.vchannel, r.type])).toEqual([
          [0, range.firstTimeTick, 'a', 2],
          [1, range.firstTimeTick + 1n, 'b', 0],
          [2, range.firstTimeTick + 2n, 'a', 40_000],
        ])
        expect({ ...records[0]!.properties }).toEqual({ k: 'v', ключ: 'значение' })
        expect(Buffer.from(records[0]!.payload)).toEqual(payload)
        expect(records[1]!.payload.length).toBe(0)
        expect({ ...records[2]!.properties }).toEqual({ __proto__x: '1' })
      })

      test('the body that is read is byte for byte the one that was appended', async () => {
        const body = await encodeBody([
          { vchannel: 'a', payload: Buffer.from('one') },
          { vchannel: 'b', payload: Buffer.from('two') },
        ])
        await store.append(body)
        for await (const frame of store.read({ from: 'earliest' })) {
          expect(frame.kind).toBe('records')
          expect(frame.bodyHash).toBe(body.hash)
          expect(frame.bodyLength).toBe(body.bytes.length)
          expect(frame.head!.vchannels).toEqual(['a', 'b'])
          expect(Buffer.from(frame.section(0)!).toString()).toBe('one')
          expect(Buffer.from(frame.section(1)!).toString()).toBe('two')
        }
      })

      test('the caller may use its buffer again once the append has settled', async () => {
        const body = await numberedBody('a', 'kept', 1)
        await store.append(body)
        body.bytes.fill(0)
        expect(await texts(store.read({ from: 'earliest' }))).toEqual(['kept-0'])
      })

      test('logs of different pchannels have LSNs of their own', async () => {
        const other = await subject.opener().open('1', 1)
        await append('a', 'first', 2)
        expect((await append('b', 'second', 1, other)).firstLsn).toBe(0)
        expect(await texts(other.read({ from: 'earliest' }))).toEqual(['second-0'])
        await other.close()
      })
    })

    describe('records, voids, the last question', () => {
      test('records that are encoded here: several are one frame, with their contexts', async () => {
        const contexts = [encodeContext({ transaction: 7n })]
        const range = await store.appendRecords(
          [
            { vchannel: 'a', type: 3, properties: { k: 'v' }, payload: Buffer.from('one'), contextIndex: 0 },
            { vchannel: 'b', payload: null },
          ],
          { contexts },
        )
        expect([range.firstLsn, range.lastLsn]).toEqual([0, 1])
        expect(range.lastTimeTick).toBe(range.firstTimeTick + 1n)
        const frames: StoreFrame[] = []
        for await (const frame of store.read({ from: 'earliest' })) frames.push(frame)
        expect(frames.map((frame) => [...frame].map((r) => [r.lsn, r.vchannel, r.type, text(r)]))).toEqual([
          [
            [0, 'a', 3, 'one'],
            [1, 'b', 0, ''],
          ],
        ])
        const head = frames[0]!.head!
        expect([head.contextIndex(0), head.contextIndex(1), head.hasNullPayload(1)]).toEqual([0, -1, true])
        expect(decodeContext(head.context(0))).toEqual({ transaction: 7n })
      })

      test('records and bodies share one order, which is that of the calls; they settle in it', async () => {
        const body = await numberedBody('a', 'body', 1)
        const settled: number[] = []
        await Promise.all(
          Array.from({ length: 40 }, (_, index) => {
            const records = [{ vchannel: 'a', payload: Buffer.from(`r${index}`) }]
            const options = index % 4 === 1 ? { ownFrame: true } : undefined
            const appended = index % 2 === 0 ? store.append(body) : store.appendRecords(records, options)
            return appended.then(({ firstLsn }) => {
              expect(firstLsn).toBe(index)
              settled.push(index)
            })
          }),
        )
        expect(settled).toEqual(settled.toSorted((a, b) => a - b))
        expect(settled.length).toBe(40)
      })

      test('wrong records are refused, not written', async () => {
        for (const records of [[], [{ vchannel: 'a', type: 70_000 }], [{ vchannel: 'a', contextIndex: 3 }]]) {
          await expect(store.appendRecords(records)).rejects.toMatchObject({
            code: 'INVALID_ARGUMENT',
            outcome: 'not-written',
          })
        }
        expect(store.nextLsn).toBe(0)
      })

      test('a frame that is refused as the last question takes no LSN; those behind it move up', async () => {
        const body = await numberedBody('a', 'x', 2)
        const refusal = new TidelogError('CLOSED', 'not this one', { outcome: 'not-written' })
        const asked: string[] = []
        const ask = (name: string, answer: TidelogError | null) => ({
          admit: () => {
            asked.push(name)
            return answer
          },
        })
        const appends = [
          store.append(body, ask('first', null)),
          store.append(body, ask('second', refusal)),
          store.appendRecords([{ vchannel: 'a' }], ask('third', refusal)),
          store.appendRecords([{ vchannel: 'a' }], ask('fourth', null)),
        ]
        const results = await Promise.allSettled(appends)
        expect(asked).toEqual(['first', 'second', 'third', 'fourth'])
        expect(results.map((r) => (r.status === 'fulfilled' ? r.value.firstLsn : r.reason))).toEqual([
          0,
          refusal,
          refusal,
          2,
        ])
        expect(store.nextLsn).toBe(3)
      })

      test('void records keep their LSN and tick, and readers skip them', async () => {
        const range = await store.append(await numberedBody('a', 'x', 4), { voids: [0, 2] })
        expect([range.firstLsn, range.lastLsn]).toEqual([0, 3])
        await append('a', 'y')
        const records = await collect(store.read({ from: 'earliest' }))
        expect(records.map((r) => [r.lsn, text(r)])).toEqual([
          [1, 'x-1'],
          [3, 'x-3'],
          [4, 'y-0'],
        ])
        expect(records[0]!.timeTick).toBe(range.firstTimeTick + 1n)
        for await (const frame of store.read({ from: 'earliest' })) {
          const voids = decodeNodeSection(frame.nodeSection, frame.recordCount)
          const expected = frame.baseLsn === 0 ? [true, false, true, false] : [false]
          expect(Array.from({ length: frame.recordCount }, (_, row) => voids.isVoid(row))).toEqual(expected)
        }
      })
    })

    describe('read', () => {
      test('some vchannels: the others are left out, the empty name belongs to all', async () => {
        await store.append(
          await encodeBody([
            { vchannel: 'a', payload: Buffer.from('a1') },
            { vchannel: 'b', payload: Buffer.from('b1') },
            { vchannel: '', payload: Buffer.from('all') },
          ]),
        )
        await append('b', 'only-b')
        await append('', 'only-all')
        const frames: StoreFrame[] = []
        for await (const frame of store.read({ from: 'earliest', vchannels: ['a'] })) frames.push(frame)
        expect(frames.map((frame) => [...frame].map(text))).toEqual([['a1', 'all'], ['only-all-0']])
        const first = frames[0]!
        // The others may be there too, where leaving them out would have cost more than it saved.
        expect([0, 2].map((index) => first.section(index) !== null)).toEqual([true, true])
        expect(first.head!.vchannels).toEqual(['a', 'b', ''])
        expect(await texts(store.read({ from: 'earliest', vchannels: ['unheard-of'] }))).toEqual(['all', 'only-all-0'])
      })

      test('some types', async () => {
        await store.append(
          await encodeBody([1, 2, 3, 2].map((type, i) => ({ vchannel: 'a', type, payload: Buffer.from(`${i}`) }))),
        )
        await store.append(await encodeBody([{ vchannel: 'a', type: 9 }]))
        expect(await texts(store.read({ from: 'earliest', types: [2] }))).toEqual(['1', '3'])
        expect(await texts(store.read({ from: 'earliest', vchannels: ['a'], types: [1, 3] }))).toEqual(['0', '2'])
      })

      test('from an LSN, also inside a frame, and from the position that a frame names as the next one', async () => {
        await append('a', 'x', 4)
        await append('a', 'y', 2)
        expect(await texts(store.read({ from: { lsn: 2 } }))).toEqual(['x-2', 'x-3', 'y-0', 'y-1'])
        for await (const frame of store.read({ from: 'earliest' })) {
          expect(await texts(store.read({ from: frame.next }))).toEqual(frame.baseLsn === 0 ? ['y-0', 'y-1'] : [])
        }
        expect(await texts(store.read({ from: { lsn: 6 } }))).toEqual([])
      })

      test('from a time tick: the first record at or after it', async () => {
        const first = await append('a', 'x', 3)
        const second = await append('a', 'y', 1)
        expect(await texts(store.read({ from: { timeTick: 0n } }))).toEqual(['x-0', 'x-1', 'x-2', 'y-0'])
        expect(await texts(store.read({ from: { timeTick: first.firstTimeTick + 1n } }))).toEqual(['x-1', 'x-2', 'y-0'])
        expect(await texts(store.read({ from: { timeTick: first.lastTimeTick + 1n } }))).toEqual(['y-0'])
        expect(await texts(store.read({ from: { timeTick: second.lastTimeTick + 1n } }))).toEqual([])
      })

      test('without follow it ends at what was durable when it began', async () => {
        await append('a', 'before', 2)
        const read: string[] = []
        for await (const frame of store.read({ from: 'earliest' })) {
          read.push(...[...frame].map(text))
          await append('a', 'later')
        }
        expect(read).toEqual(['before-0', 'before-1'])
      })

      test('follow is pushed what comes, to any number of readers', async () => {
        await append('a', 'old')
        const all = store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
        const news = store.read({ from: 'latest', follow: true })[Symbol.asyncIterator]()
        const onlyB = store.read({ from: 'earliest', vchannels: ['b'], follow: true })[Symbol.asyncIterator]()
        const pushed = take(news, 2)
        const pushedB = take(onlyB, 1)
        expect((await take(all, 1)).map(text)).toEqual(['old-0'])
        await append('a', 'new')
        await append('b', 'other')
        expect((await pushed).map(text)).toEqual(['new-0', 'other-0'])
        expect((await pushedB).map(text)).toEqual(['other-0'])
        expect((await take(all, 2)).map(text)).toEqual(['new-0', 'other-0'])
        for (const iterator of [all, news, onlyB]) await iterator.return?.()
      })

      test('what is in flight is not seen before it is durable', async () => {
        await append('a', 'durable')
        const release = subject.holdFlushes()
        const inFlight = append('a', 'in-flight')
        await settled(100)
        expect(await texts(store.read({ from: 'earliest' }))).toEqual(['durable-0'])
        expect(store.nextLsn).toBe(1)
        release()
        await inFlight
        expect(await texts(store.read({ from: 'earliest' }))).toEqual(['durable-0', 'in-flight-0'])
      })

      test('an abort ends a read with ABORTED, before it began and while it waits', async () => {
        await append('a', 'x')
        const early = AbortSignal.abort(new Error('not wanted'))
        await expect(collect(store.read({ from: 'earliest', signal: early }))).rejects.toMatchObject({
          code: 'ABORTED',
        })
        const controller = new AbortController()
        const iterator = store.read({ from: 'latest', follow: true, signal: controller.signal })[Symbol.asyncIterator]()
        const waiting = iterator.next()
        const reason = new Error('enough')
        controller.abort(reason)
        await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: reason })
      })
    })

    describe('truncate', () => {
      test('what is below is gone, what is above keeps its LSNs', async () => {
        for (let index = 0; index < 5; index++) await append('a', `${index}`)
        await store.truncateBefore(3)
        expect([store.firstLsn, store.nextLsn]).toEqual([3, 5])
        expect((await collect(store.read({ from: 'earliest' }))).map((r) => [r.lsn, text(r)])).toEqual([
          [3, '3-0'],
          [4, '4-0'],
        ])
        await store.truncateBefore(1)
        await store.truncateBefore(3)
        expect(store.firstLsn).toBe(3)
        expect((await append('a', 'next')).firstLsn).toBe(5)
      })

      test('inside a frame', async () => {
        await append('a', 'x', 4)
        await store.truncateBefore(2)
        expect(await texts(store.read({ from: 'earliest' }))).toEqual(['x-2', 'x-3'])
      })

      test('beyond the end: refused, and nothing is removed', async () => {
        await append('a', 'x', 4)
        for (const lsn of [5, -1, 0.5]) {
          await expect(store.truncateBefore(lsn)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
        }
        expect(store.firstLsn).toBe(0)
      })

      test('all of it: the log goes on where it stood', async () => {
        await append('a', 'x', 4)
        await store.truncateBefore(4)
        expect(await texts(store.read({ from: 'earliest' }))).toEqual([])
        expect((await append('a', 'y')).firstLsn).toBe(4)
      })

      test('a read from below is an error that names the first LSN, never a silent skip', async () => {
        await append('a', 'x', 4)
        await store.truncateBefore(2)
        for (const lsn of [0, 1]) {
          await expect(collect(store.read({ from: { lsn } }))).rejects.toMatchObject({ code: 'POSITION_TRUNCATED' })
        }
        expect(await texts(store.read({ from: { lsn: 2 } }))).toEqual(['x-2', 'x-3'])
      })

      test('a reader that is overtaken is told so', async () => {
        await append('a', 'x')
        const iterator = store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
        expect((await take(iterator, 1)).map(text)).toEqual(['x-0'])
        const release = subject.holdFlushes()
        const appended = Promise.all([append('a', 'y', 2), append('a', 'z', 1)])
        release()
        await appended
        await store.truncateBefore(3)
        // A frame that it already had in hand may still come, but nothing behind a hole.
        const rest = (async () => {
          const seen: number[] = []
          for (;;) {
            const { value, done } = await iterator.next()
            if (done) return seen
            for (const record of value as StoreFrame) {
              seen.push(record.lsn)
              expect(record.lsn).toBe(seen.length)
              if (record.lsn === 3) return seen
            }
          }
        })()
        await rest.then(
          (seen) => expect(seen).toEqual([1, 2, 3]),
          (error) => expect(error).toMatchObject({ code: 'POSITION_TRUNCATED' }),
        )
        await iterator.return?.()
      })
    })

    describe('owners', () => {
      test('a newer term goes on where the older stood and fences it', async () => {
        await append('a', 'old', 2)
        const newer = await subject.opener().open('0', 2)
        expect(newer.ownerTerm).toBe(2)
        expect(await texts(newer.read({ from: 'earliest' }))).toEqual(['old-0', 'old-1'])
        await expect(append('a', 'ghost')).rejects.toMatchObject({ code: 'FENCED' })
        const range = await append('a', 'new', 1, newer)
        expect(await texts(newer.read({ from: { lsn: range.firstLsn } }))).toEqual(['new-0'])
        expect(store.status().state).toBe('failed')
        await newer.close()
      })

      test('an older term is refused, for ever', async () => {
        const newer = await subject.opener().open('0', 7)
        await append('a', 'x', 1, newer)
        await expect(subject.opener().open('0', 6)).rejects.toMatchObject({ code: 'TERM_STALE' })
        await newer.close()
        await expect(subject.opener().open('0', 6)).rejects.toMatchObject({ code: 'TERM_STALE' })
        const again = await subject.opener().open('0', 7)
        expect(await texts(again.read({ from: 'earliest' }))).toEqual(['x-0'])
        await again.close()
      })

      test('no acknowledgement of a fenced owner is missing from what the newer one reads', async () => {
        const bodies = await Promise.all(Array.from({ length: 50 }, (_, i) => numberedBody('a', `${i}`, 1)))
        const appends = Promise.allSettled(bodies.map((body) => store.append(body)))
        const newer = await subject.opener().open('0', 2)
        const acknowledged: number[] = []
        for (const result of await appends) {
          if (result.status === 'fulfilled') acknowledged.push(result.value.firstLsn)
          // The newer owner may have taken a file from under a write: then that is what the older one saw.
          else expect(['FENCED', 'POISONED']).toContain(result.reason.code)
        }
        const read = new Set((await collect(newer.read({ from: 'earliest' }))).map((record) => record.lsn))
        for (const lsn of acknowledged) expect(read.has(lsn)).toBe(true)
        await newer.close()
      })
    })

    describe('ticks', () => {
      test('the watermark never goes back and covers what is acknowledged', async () => {
        let last = store.watermark()
        for (let round = 0; round < 20; round++) {
          const range = await append('a', 'x', 3)
          const mark = store.watermark()
          expect(mark).toBeGreaterThanOrEqual(range.lastTimeTick)
          expect(mark).toBeGreaterThanOrEqual(last)
          last = mark
        }
      })

      test('no record at or below a published watermark becomes readable after it', async () => {
        const body = await numberedBody('a', 'x', 2)
        for (let round = 0; round < 30; round++) {
          const appends = [store.append(body), store.append(body), store.append(body)]
          const mark = store.watermark()
          const readable = (await collect(store.read({ from: 'earliest' }))).filter((r) => r.timeTick <= mark).length
          for (const range of await Promise.all(appends)) {
            if (range.lastLsn >= readable) expect(range.lastTimeTick).toBeGreaterThan(mark)
          }
          const after = (await collect(store.read({ from: 'earliest' }))).filter((r) => r.timeTick <= mark).length
          expect(after).toBe(readable)
        }
      })

      test('while a flush is held the watermark stays below its records', async () => {
        await append('a', 'x')
        const release = subject.holdFlushes()
        const inFlight = append('a', 'y', 2)
        await settled(100)
        const mark = store.watermark()
        release()
        expect((await inFlight).firstTimeTick).toBeGreaterThan(mark)
      })

      test('a quiet log gives fresh ticks', async () => {
        const { lastTimeTick } = await append('a', 'x')
        const start = store.watermark()
        const deadline = Date.now() + 10_000
        while (store.watermark() <= start && Date.now() < deadline)
          await new Promise((resolve) => setImmediate(resolve))
        expect(store.watermark()).toBeGreaterThan(start)
        expect(store.watermark()).toBeGreaterThan(lastTimeTick)
      })

      test('a barrier is kept, one too far ahead refused', async () => {
        const body = await numberedBody('a', 'x', 1)
        const barrierTick = (await store.append(body)).lastTimeTick + (1_000n << 18n)
        expect((await store.append(body, { barrierTick })).firstTimeTick).toBeGreaterThanOrEqual(barrierTick)
        await expect(store.append(body, { barrierTick: barrierTick + (3_600_000n << 18n) })).rejects.toMatchObject({
          code: 'TICK_TOO_FAR_AHEAD',
          outcome: 'not-written',
        })
        expect(store.nextLsn).toBe(2)
      })
    })

    describe('failures and the end', () => {
      test('an append aborted before it was queued is not written', async () => {
        const body = await numberedBody('a', 'x', 1)
        await expect(store.append(body, { signal: AbortSignal.abort() })).rejects.toMatchObject({
          code: 'ABORTED',
          outcome: 'not-written',
        })
        expect((await append('a', 'y')).firstLsn).toBe(0)
      })

      test('a flush that fails: unknown, the log is failed, readers below go on, opening again goes on', async () => {
        await append('a', 'good', 2)
        subject.failNextFlush()
        await expect(append('a', 'bad')).rejects.toMatchObject({ outcome: 'unknown' })
        expect(store.status().state).toBe('failed')
        expect(store.status().message).not.toBe('')
        await expect(append('a', 'after')).rejects.toMatchObject({ outcome: 'not-written' })
        expect(await texts(store.read({ from: 'earliest' }))).toEqual(['good-0', 'good-1'])
        await store.close()
        store = await subject.opener().open('0', 2)
        const { firstLsn } = await append('a', 'again')
        const read = await collect(store.read({ from: 'earliest' }))
        expect(read.slice(0, 2).map(text)).toEqual(['good-0', 'good-1'])
        expect(read.at(-1)).toMatchObject({ lsn: firstLsn })
      })

      test('changed() settles when a record became durable, when the front moved and when the log ends', async () => {
        for (const act of [() => append('a', 'x', 2), () => store.truncateBefore(1), () => store.close()]) {
          const changed = store.changed()
          await act()
          await changed
        }
      })

      test('close settles what is in flight as written', async () => {
        const release = subject.holdFlushes()
        const bodies = await Promise.all(Array.from({ length: 10 }, (_, i) => numberedBody('a', `${i}`, 1)))
        const appends = bodies.map((body) => store.append(body))
        const closing = store.close()
        release()
        const ranges = await Promise.all(appends)
        await closing
        expect(ranges.map((range) => range.firstLsn)).toEqual(ranges.map((_, index) => index))
        store = await subject.opener().open('0', 1)
        expect((await texts(store.read({ from: 'earliest' }))).length).toBe(10)
      })

      test('after close nothing is taken, followers end quietly, and closing again is nothing', async () => {
        await append('a', 'x')
        const iterator = store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
        expect((await take(iterator, 1)).map(text)).toEqual(['x-0'])
        const waiting = iterator.next()
        await store.close()
        expect((await waiting).done).toBe(true)
        await store.close()
        await expect(append('a', 'y')).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
      })

      test('status counts bytes, and tells whether there is work under way', async () => {
        const before = store.status()
        expect(before).toMatchObject({ state: 'idle', message: '' })
        await append('a', 'x', 100)
        expect(store.status().bytes).toBeGreaterThan(before.bytes)
        const release = subject.holdFlushes()
        const inFlight = append('a', 'y')
        await settled(100)
        expect(store.status()).toMatchObject({ state: 'healthy', message: '' })
        release()
        await inFlight
      })
    })

    test('keeps the newest two snapshots, each behind its LSN, over openings', async () => {
      await store.append(await numberedBody('a', 'x', 3))
      await store.append(await numberedBody('a', 'y', 2))
      expect(await store.snapshots.load()).toEqual([])
      for (const [lsn, content] of [
        [0, 'nothing'],
        [3, 'three'],
        [5, 'five'],
      ] as const) {
        await store.snapshots.save(lsn, Buffer.from(content))
      }
      await store.close()
      store = await subject.opener().open('0', 2)
      const found = await store.snapshots.load()
      expect(found.map(({ lsn, bytes }) => [lsn, bytes.toString()])).toEqual([
        [5, 'five'],
        [3, 'three'],
      ])
    })

    test('takes no snapshot beyond its end, nor inside of a frame', async () => {
      await store.append(await numberedBody('a', 'x', 3))
      for (const lsn of [2, 4]) {
        await expect(store.snapshots.save(lsn, Buffer.alloc(1))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    })

    test('truncates no further than the floor allows', async () => {
      for (let frame = 0; frame < 5; frame++) await store.append(await numberedBody('a', 'x', 2))
      store.setTruncationFloor((lsn) => Math.min(lsn, 4))
      await store.truncateBefore(8)
      expect(store.firstLsn).toBe(4)
      store.setTruncationFloor(null)
      await store.truncateBefore(8)
      expect(store.firstLsn).toBe(8)
      // What stands below can no longer be gone on from.
      expect(await store.snapshots.load()).toEqual([])
    })
  })
}

/** Lets everything run that can run without the flush that is held: a bounded number of turns of the event loop. */
async function settled(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
}
