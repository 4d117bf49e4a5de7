/** The watermark, and barriers. */
import { describe, expect, test } from 'vitest'
import { numberedBody } from '../../log-store/encode-body.ts'
import { collect, type StoreBed, settled } from './store-bed.ts'

export function ticksSuite(bed: StoreBed): void {
  describe('ticks', () => {
    test('the watermark never goes back and covers what is acknowledged', async () => {
      let last = bed.store.watermark()
      for (let round = 0; round < 20; round++) {
        const range = await bed.append('a', 'x', 3)
        const mark = bed.store.watermark()
        expect(mark).toBeGreaterThanOrEqual(range.lastTimeTick)
        expect(mark).toBeGreaterThanOrEqual(last)
        last = mark
      }
    })

    test('no record at or below a published watermark becomes readable after it', async () => {
      const body = await numberedBody('a', 'x', 2)
      for (let round = 0; round < 30; round++) {
        const appends = [bed.store.append(body), bed.store.append(body), bed.store.append(body)]
        const mark = bed.store.watermark()
        const readable = (await collect(bed.store.read({ from: 'earliest' }))).filter((r) => r.timeTick <= mark).length
        for (const range of await Promise.all(appends)) {
          if (range.lastLsn >= readable) expect(range.lastTimeTick).toBeGreaterThan(mark)
        }
        const after = (await collect(bed.store.read({ from: 'earliest' }))).filter((r) => r.timeTick <= mark).length
        expect(after).toBe(readable)
      }
    })

    test('while a flush is held the watermark stays below its records', async () => {
      await bed.append('a', 'x')
      const release = bed.subject.holdFlushes()
      const inFlight = bed.append('a', 'y', 2)
      await settled(100)
      const mark = bed.store.watermark()
      release()
      expect((await inFlight).firstTimeTick).toBeGreaterThan(mark)
    })

    test('a quiet log gives fresh ticks', async () => {
      const { lastTimeTick } = await bed.append('a', 'x')
      const start = bed.store.watermark()
      const deadline = Date.now() + 10_000
      while (bed.store.watermark() <= start && Date.now() < deadline)
        await new Promise((resolve) => setImmediate(resolve))
      expect(bed.store.watermark()).toBeGreaterThan(start)
      expect(bed.store.watermark()).toBeGreaterThan(lastTimeTick)
    })

    test('a barrier is kept, one too far ahead refused', async () => {
      const body = await numberedBody('a', 'x', 1)
      const barrierTick = (await bed.store.append(body)).lastTimeTick + (1_000n << 18n)
      expect((await bed.store.append(body, { barrierTick })).firstTimeTick).toBeGreaterThanOrEqual(barrierTick)
      await expect(bed.store.append(body, { barrierTick: barrierTick + (3_600_000n << 18n) })).rejects.toMatchObject({
        code: 'TICK_TOO_FAR_AHEAD',
        outcome: 'not-written',
      })
      expect(bed.store.nextLsn).toBe(2)
    })
  })
}
