/** Openings at owner terms, each of which fences the older ones. */
import { describe, expect, test } from 'vitest'
import { numberedBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, texts } from './store-bed.ts'

export function ownersSuite(bed: StoreBed): void {
  describe('owners', () => {
    test('a newer term goes on where the older stood and fences it', async () => {
      await bed.append('a', 'old', 2)
      const newer = await bed.subject.opener().open('0', 2)
      expect(newer.ownerTerm).toBe(2)
      expect(await texts(newer.read({ from: 'earliest' }))).toEqual(['old-0', 'old-1'])
      await expect(bed.append('a', 'ghost')).rejects.toMatchObject({ code: 'FENCED' })
      const range = await bed.append('a', 'new', 1, newer)
      expect(await texts(newer.read({ from: { lsn: range.firstLsn } }))).toEqual(['new-0'])
      expect(bed.store.status().state).toBe('failed')
      await newer.close()
    })

    test('an older term is refused, for ever', async () => {
      const newer = await bed.subject.opener().open('0', 7)
      await bed.append('a', 'x', 1, newer)
      await expect(bed.subject.opener().open('0', 6)).rejects.toMatchObject({ code: 'TERM_STALE' })
      await newer.close()
      await expect(bed.subject.opener().open('0', 6)).rejects.toMatchObject({ code: 'TERM_STALE' })
      const again = await bed.subject.opener().open('0', 7)
      expect(await texts(again.read({ from: 'earliest' }))).toEqual(['x-0'])
      await again.close()
    })

    test('no acknowledgement of a fenced owner is missing from what the newer one reads', async () => {
      const bodies = await Promise.all(Array.from({ length: 50 }, (_, i) => numberedBody('a', `${i}`, 1)))
      const appends = Promise.allSettled(bodies.map((body) => bed.store.append(body)))
      const newer = await bed.subject.opener().open('0', 2)
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
}
