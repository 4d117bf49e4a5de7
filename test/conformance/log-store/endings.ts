/** Failures of a flush, aborts, and the end of a store. */
import { describe, expect, test } from 'vitest'
import { numberedBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, settled, take, text, texts } from './store-bed.ts'

export function endingsSuite(bed: StoreBed): void {
  describe('failures and the end', () => {
    test('an append aborted before it was queued is not written', async () => {
      const body = await numberedBody('a', 'x', 1)
      await expect(bed.store.append(body, { signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: 'ABORTED',
        outcome: 'not-written',
      })
      expect((await bed.append('a', 'y')).firstLsn).toBe(0)
    })

    test('a flush that fails: unknown, the log is failed, readers below go on, opening again goes on', async () => {
      await bed.append('a', 'good', 2)
      bed.subject.failNextFlush()
      await expect(bed.append('a', 'bad')).rejects.toMatchObject({ outcome: 'unknown' })
      expect(bed.store.status().state).toBe('failed')
      expect(bed.store.status().message).not.toBe('')
      await expect(bed.append('a', 'after')).rejects.toMatchObject({ outcome: 'not-written' })
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual(['good-0', 'good-1'])
      await bed.store.close()
      bed.store = await bed.subject.opener().open('0', 2)
      const { firstLsn } = await bed.append('a', 'again')
      const read = await collect(bed.store.read({ from: 'earliest' }))
      expect(read.slice(0, 2).map(text)).toEqual(['good-0', 'good-1'])
      expect(read.at(-1)).toMatchObject({ lsn: firstLsn })
    })

    test('changed() settles when a record became durable, when the front moved and when the log ends', async () => {
      for (const act of [() => bed.append('a', 'x', 2), () => bed.store.truncateBefore(1), () => bed.store.close()]) {
        const changed = bed.store.changed()
        await act()
        await changed
      }
    })

    test('close settles what is in flight as written', async () => {
      const release = bed.subject.holdFlushes()
      const bodies = await Promise.all(Array.from({ length: 10 }, (_, i) => numberedBody('a', `${i}`, 1)))
      const appends = bodies.map((body) => bed.store.append(body))
      const closing = bed.store.close()
      release()
      const ranges = await Promise.all(appends)
      await closing
      expect(ranges.map((range) => range.firstLsn)).toEqual(ranges.map((_, index) => index))
      bed.store = await bed.subject.opener().open('0', 1)
      expect((await texts(bed.store.read({ from: 'earliest' }))).length).toBe(10)
    })

    test('after close nothing is taken, followers end quietly, and closing again is nothing', async () => {
      await bed.append('a', 'x')
      const iterator = bed.store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
      expect((await take(iterator, 1)).map(text)).toEqual(['x-0'])
      const waiting = iterator.next()
      await bed.store.close()
      expect((await waiting).done).toBe(true)
      await bed.store.close()
      await expect(bed.append('a', 'y')).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    })

    test('status counts bytes, and tells whether there is work under way', async () => {
      const before = bed.store.status()
      expect(before).toMatchObject({ state: 'idle', message: '' })
      await bed.append('a', 'x', 100)
      expect(bed.store.status().bytes).toBeGreaterThan(before.bytes)
      const release = bed.subject.holdFlushes()
      const inFlight = bed.append('a', 'y')
      await settled(100)
      expect(bed.store.status()).toMatchObject({ state: 'healthy', message: '' })
      release()
      await inFlight
    })
  })
}
