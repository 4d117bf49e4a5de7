/** Appends: their order, LSNs and ticks, what a frame holds, and which records are refused. */
import { describe, expect, test } from 'vitest'
import { decodeContext, decodeNodeSection, encodeContext } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../../src/errors.ts'
import type { AppendedRange, StoreFrame } from '../../../src/log-store/log-store.ts'
import { encodeBody, numberedBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, text, texts } from './store-bed.ts'

export function appendingSuite(bed: StoreBed): void {
  describe('order', () => {
    test('an empty log begins at LSN 0 and has nothing to read', async () => {
      expect([bed.store.firstLsn, bed.store.nextLsn, bed.store.ownerTerm]).toEqual([0, 0, 1])
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual([])
    })

    test('LSNs are dense and ticks increase, over frames of any size', async () => {
      const ranges: AppendedRange[] = []
      for (const count of [1, 3, 100, 1]) ranges.push(await bed.append('orders', `of-${count}`, count))
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
      expect(bed.store.nextLsn).toBe(105)
    })

    test('appends that are in flight together keep the order of their calls', async () => {
      const bodies = await Promise.all(Array.from({ length: 64 }, (_, i) => numberedBody('orders', `${i}`, 2)))
      const ranges = await Promise.all(bodies.map((body) => bed.store.append(body)))
      expect(ranges.map((range) => range.firstLsn)).toEqual(ranges.map((_, index) => index * 2))
      const read = await texts(bed.store.read({ from: 'earliest' }))
      expect(read).toEqual(ranges.flatMap((_, index) => [`${index}-0`, `${index}-1`]))
    })

    test('a record comes back as it was given', async () => {
      const payload = Buffer.from([0, 1, 2, 250, 255])
      const body = await encodeBody([
        { vchannel: 'a', type: 2, properties: { k: 'v', ключ: 'значение' }, payload },
        { vchannel: 'b', payload: new Uint8Array(0) },
        { vchannel: 'a', type: 40_000, properties: { __proto__x: '1' } },
      ])
      const range = await bed.store.append(body)
      const records = await collect(bed.store.read({ from: 'earliest' }))
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
      await bed.store.append(body)
      for await (const frame of bed.store.read({ from: 'earliest' })) {
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
      await bed.store.append(body)
      body.bytes.fill(0)
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual(['kept-0'])
    })

    test('logs of different pchannels have LSNs of their own', async () => {
      const other = await bed.subject.opener().open('1', 1)
      await bed.append('a', 'first', 2)
      expect((await bed.append('b', 'second', 1, other)).firstLsn).toBe(0)
      expect(await texts(other.read({ from: 'earliest' }))).toEqual(['second-0'])
      await other.close()
    })
  })

  describe('records, voids, the last question', () => {
    test('records that are encoded here: several are one frame, with their contexts', async () => {
      const contexts = [encodeContext({ transaction: 7n })]
      const range = await bed.store.appendRecords(
        [
          { vchannel: 'a', type: 3, properties: { k: 'v' }, payload: Buffer.from('one'), contextIndex: 0 },
          { vchannel: 'b', payload: null },
        ],
        { contexts },
      )
      expect([range.firstLsn, range.lastLsn]).toEqual([0, 1])
      expect(range.lastTimeTick).toBe(range.firstTimeTick + 1n)
      const frames: StoreFrame[] = []
      for await (const frame of bed.store.read({ from: 'earliest' })) frames.push(frame)
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
          const appended = index % 2 === 0 ? bed.store.append(body) : bed.store.appendRecords(records, options)
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
        await expect(bed.store.appendRecords(records)).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
          outcome: 'not-written',
        })
      }
      expect(bed.store.nextLsn).toBe(0)
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
        bed.store.append(body, ask('first', null)),
        bed.store.append(body, ask('second', refusal)),
        bed.store.appendRecords([{ vchannel: 'a' }], ask('third', refusal)),
        bed.store.appendRecords([{ vchannel: 'a' }], ask('fourth', null)),
      ]
      const results = await Promise.allSettled(appends)
      expect(asked).toEqual(['first', 'second', 'third', 'fourth'])
      expect(results.map((r) => (r.status === 'fulfilled' ? r.value.firstLsn : r.reason))).toEqual([
        0,
        refusal,
        refusal,
        2,
      ])
      expect(bed.store.nextLsn).toBe(3)
    })

    test('void records keep their LSN and tick, and readers skip them', async () => {
      const range = await bed.store.append(await numberedBody('a', 'x', 4), { voids: [0, 2] })
      expect([range.firstLsn, range.lastLsn]).toEqual([0, 3])
      await bed.append('a', 'y')
      const records = await collect(bed.store.read({ from: 'earliest' }))
      expect(records.map((r) => [r.lsn, text(r)])).toEqual([
        [1, 'x-1'],
        [3, 'x-3'],
        [4, 'y-0'],
      ])
      expect(records[0]!.timeTick).toBe(range.firstTimeTick + 1n)
      for await (const frame of bed.store.read({ from: 'earliest' })) {
        const voids = decodeNodeSection(frame.nodeSection, frame.recordCount)
        const expected = frame.baseLsn === 0 ? [true, false, true, false] : [false]
        expect(Array.from({ length: frame.recordCount }, (_, row) => voids.isVoid(row))).toEqual(expected)
      }
    })
  })
}
