/** Truncation: what goes, what stays, and what readers are told. */
import { describe, expect, test } from 'vitest'
import type { StoreFrame } from '../../../src/log-store/log-store.ts'
import { numberedBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, take, text, texts } from './store-bed.ts'

export function truncationSuite(bed: StoreBed): void {
  describe('truncate', () => {
    test('what is below is gone, what is above keeps its LSNs', async () => {
      for (let index = 0; index < 5; index++) await bed.append('a', `${index}`)
      await bed.store.truncateBefore(3)
      expect([bed.store.firstLsn, bed.store.nextLsn]).toEqual([3, 5])
      expect((await collect(bed.store.read({ from: 'earliest' }))).map((r) => [r.lsn, text(r)])).toEqual([
        [3, '3-0'],
        [4, '4-0'],
      ])
      await bed.store.truncateBefore(1)
      await bed.store.truncateBefore(3)
      expect(bed.store.firstLsn).toBe(3)
      expect((await bed.append('a', 'next')).firstLsn).toBe(5)
    })

    test('inside a frame', async () => {
      await bed.append('a', 'x', 4)
      await bed.store.truncateBefore(2)
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual(['x-2', 'x-3'])
    })

    test('beyond the end: refused, and nothing is removed', async () => {
      await bed.append('a', 'x', 4)
      for (const lsn of [5, -1, 0.5]) {
        await expect(bed.store.truncateBefore(lsn)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
      expect(bed.store.firstLsn).toBe(0)
    })

    test('all of it: the log goes on where it stood', async () => {
      await bed.append('a', 'x', 4)
      await bed.store.truncateBefore(4)
      expect(await texts(bed.store.read({ from: 'earliest' }))).toEqual([])
      expect((await bed.append('a', 'y')).firstLsn).toBe(4)
    })

    test('a read from below is an error that names the first LSN, never a silent skip', async () => {
      await bed.append('a', 'x', 4)
      await bed.store.truncateBefore(2)
      for (const lsn of [0, 1]) {
        await expect(collect(bed.store.read({ from: { lsn } }))).rejects.toMatchObject({ code: 'POSITION_TRUNCATED' })
      }
      expect(await texts(bed.store.read({ from: { lsn: 2 } }))).toEqual(['x-2', 'x-3'])
    })

    test('a reader that is overtaken is told so', async () => {
      await bed.append('a', 'x')
      const iterator = bed.store.read({ from: 'earliest', follow: true })[Symbol.asyncIterator]()
      expect((await take(iterator, 1)).map(text)).toEqual(['x-0'])
      const release = bed.subject.holdFlushes()
      const appended = Promise.all([bed.append('a', 'y', 2), bed.append('a', 'z', 1)])
      release()
      await appended
      await bed.store.truncateBefore(3)
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

    test('truncates no further than the floor allows', async () => {
      for (let frame = 0; frame < 5; frame++) await bed.store.append(await numberedBody('a', 'x', 2))
      bed.store.setTruncationFloor((lsn) => Math.min(lsn, 4))
      await bed.store.truncateBefore(8)
      expect(bed.store.firstLsn).toBe(4)
      bed.store.setTruncationFloor(null)
      await bed.store.truncateBefore(8)
      expect(bed.store.firstLsn).toBe(8)
      // What stands below can no longer be gone on from.
      expect(await bed.store.snapshots.load()).toEqual([])
    })
  })
}
