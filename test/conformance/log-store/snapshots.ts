/** Snapshots beside a log. */
import { describe, expect, test } from 'vitest'
import { numberedBody } from '../../log-store/encode-body.ts'
import type { StoreBed } from './store-bed.ts'

export function snapshotsSuite(bed: StoreBed): void {
  describe('snapshots', () => {
    test('keeps the newest two snapshots, each behind its LSN, over openings', async () => {
      await bed.store.append(await numberedBody('a', 'x', 3))
      await bed.store.append(await numberedBody('a', 'y', 2))
      expect(await bed.store.snapshots.load()).toEqual([])
      for (const [lsn, content] of [
        [0, 'nothing'],
        [3, 'three'],
        [5, 'five'],
      ] as const) {
        await bed.store.snapshots.save(lsn, Buffer.from(content))
      }
      await bed.store.close()
      bed.store = await bed.subject.opener().open('0', 2)
      const found = await bed.store.snapshots.load()
      expect(found.map(({ lsn, bytes }) => [lsn, bytes.toString()])).toEqual([
        [5, 'five'],
        [3, 'three'],
      ])
    })

    test('takes no snapshot beyond its end, nor inside of a frame', async () => {
      await bed.store.append(await numberedBody('a', 'x', 3))
      for (const lsn of [2, 4]) {
        await expect(bed.store.snapshots.save(lsn, Buffer.alloc(1))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    })
  })
}
