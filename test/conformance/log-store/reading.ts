/** Reads: from where, of what, up to where, and pushed. */
import { describe, expect, test } from 'vitest'
import type { StoreFrame } from '../../../src/log-store/log-store.ts'
import { encodeBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, settled, take, text, texts } from './store-bed.ts'

export function readingSuite(bed: StoreBed): void {
  describe('read', () => {
    test('some vchannels: the others are left out, the empty name belongs to all', async () => {
      await bed.store.append(
        await encodeBody([
          { vchannel: 'a', payload: Buffer.from('a1') },
          { vchannel: 'b', payload: Buffer.from('b1') },
          { vchannel: '', payload: Buffer.from('all') },
        ]),
      )
      await bed.append('b', 'only-b')
      await bed.append('', 'only-all')
      const frames: StoreFrame[] = []
      for await (const frame of bed.store.read({ from: 'earliest', vchannels: ['a'] })) frames.push(frame)
      expect(frames.map((frame) => [...frame].map(text))).toEqual([['a1', 'all'], ['only-all-0']])
      const first = frames[0]!
      // The others may be there too, where leaving them out would have cost more than it saved.
      expect([0, 2].map((index) => first.section(index) !== null)).toEqual([true, true])
      expect(first.head!.vchannels).toEqual(['a', 'b', ''])
      expect(await texts(bed.store.read({ from: 'earliest', vchannels: ['unheard-of'] }))).toEqual([
        'all',
        'only-all-0',
      ])
    })

    test('some types', async () => {
      await bed.store.append(
        await encodeBody([1, 2, 3, 2].map((type, i) => ({ vchannel: 'a', type, payload: Buffer.from(`${i}`) }))),
      )
      await bed.store.append(await encodeBody([{ vchannel: 'a', type: 9 }]))
      expect(await texts(bed.store.read({ from: 'earliest', types: [2] }))).toEqual(['1', '3'])
      expect(await texts(bed.store.read({ from: 'earliest', vchannels: ['a'], types: [1, 3] }))).toEqual(['0', '2'])
    })

    test('from an LSN, also inside a frame, and from the position that a frame names as the next one', async () => {
      await bed.append('a', 'x', 4)
      await bed.append('a', 'y', 2)
      expect(await texts(bed.store.read({ from: { lsn: 2 } }))).toEqual(['x-2', 'x-3', 'y-0', 'y-1'])
      for await (const frame of bed.store.read({ from: 'earliest' })) {
        expect(await texts(bed.store.read({ from: frame.next }))).toEqual(frame.baseLsn === 0 ? ['y-0', 'y-1'] : [])
      }
      expect(await texts(bed.store.read({ from: { lsn: 6 } }))).toEqual([])
    })

    test('from a time tick: the first record at or after it', async () => {
      const first = await bed.append('a', 'x', 3)
      const second = await bed.append('a', 'y', 1)
      expect(await texts(bed.store.read({ from: { timeTick: 0n } }))).toEqual(['x-0', 'x-1', 'x-2', 'y-0'])
      expect(await texts(bed.store.read({ from: { timeTick: first.firstTimeTick + 1n } }))).toEqual([
        'x-1',
        'x-2',
        'y-0',
      ])
      expect(await texts(bed.store.read({ from: { timeTick: first.lastTimeTick + 1n } }))).toEqual(['y-0'])
      expect(await texts(bed.store.read({ from: { timeTick: second.lastTimeTick + 1n } }))).toEqual([])
    })

    test('without follow it ends at what was durable when it began', async () => {
      await bed.append('a', 'before', 2)
      const read: string[] = []
      for await (const frame of bed.store.read({ from: 'earliest' })) {
        read.push(...[...frame].map(text))
        await bed.append('a', 'later')
      }
      expect(read).toEqual(['before-0', 'before-1'])
    })

    test('follow is pushed what comes, to any number of readers', async () => {
      await bed.append('a', 'old')
      const all = bed.store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
      const news = bed.store.read({ from: 'latest', follow: true })[Symbol.asyncIterator]()
      const onlyB = bed.store.read({ from: 'earliest', vchannels: ['b'], follow: true })[Symbol.asyncIterator]()
      const pushed = take(news, 2)
      const pushedB = take(onlyB, 1)
      expect((await take(all, 1)).map(text)).toEqual(['old-0'])
      await bed.append('a', 'new')
      await bed.append('b', 'other')
      expect((await pushed).map(text)).toEqual(['new-0', 'other-0'])
      expect((await pushedB).map(text)).toEqual(['other-0'])
      expect((await take(all, 2)).map(text)).toEqual(['new-0', 'other-0'])
      for (const iterator of [all, news, onlyB]) await iterator.return?.()
    })

    test('what is in flight is not seen before it is durable', async () => {
      await bed.append('a', 'durable')
      const release = bed.subject.holdFlushes()
      const inFlight = bed.append('a', 'in-flight')
      await settled(100)
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual(['durable-0'])
      expect(bed.store.nextLsn).toBe(1)
      release()
      await inFlight
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual(['durable-0', 'in-flight-0'])
    })

    test('an abort ends a read with ABORTED, before it began and while it waits', async () => {
      await bed.append('a', 'x')
      const early = AbortSignal.abort(new Error('not wanted'))
      await expect(collect(bed.store.read({ from: 'earliest', signal: early }))).rejects.toMatchObject({
        code: 'ABORTED',
      })
      const controller = new AbortController()
      const iterator = bed.store
        .read({ from: 'latest', follow: true, signal: controller.signal })
        [Symbol.asyncIterator]()
      const waiting = iterator.next()
      const reason = new Error('enough')
      controller.abort(reason)
      await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: reason })
    })
  })
}
