import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CacheBudget, FrameCache, type StoredFrame } from '../../../native-free-storage/cache/frame-cache.ts'
import { type FrameHeader, FrameKind } from '../../../native-free-storage/format/frame-header.ts'
import { budget } from '../../budget.ts'

const segment = { id: 'a'.repeat(16), baseLsn: 0, name: 'one' }

function frameAt(position: number, baseLsn: number, recordCount: number, bytes: Buffer): StoredFrame {
  const header: FrameHeader = {
    headerLength: 96,
    checksum: BigInt(position),
    kind: recordCount === 0 ? FrameKind.durableMarker : FrameKind.records,
    flags: 0,
    totalLength: bytes.length,
    bodyLength: 0,
    nodeSectionLength: 0,
    recordCount,
    ownerTerm: 0,
    incarnation: 0,
    baseLsn,
    baseTimeTick: BigInt(baseLsn),
    position,
    durablePosition: 0,
    chain: 0n,
    bodyHash: 0n,
    nodeHash: 0n,
  }
  return { header, bytes, segment }
}

class Feed {
  position = 4096
  lsn = 0
  add(cache: FrameCache, recordCount: number, bytes: Buffer): void {
    cache.add(frameAt(this.position, this.lsn, recordCount, bytes))
    this.position += bytes.length
    this.lsn += recordCount
  }
}

describe('the write-ahead cache', () => {
  it('keeps the newest frames within its budget, and finds them by LSN, place and number', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 12, max: 100 })), { minLength: 1, maxLength: 3000 }),
        fc.integer({ min: 1000, max: 20_000 }),
        (shapes, bytesMax) => {
          const cache = new FrameCache(new CacheBudget(bytesMax))
          const feed = new Feed()
          const all: { position: number; lsn: number; next: number; length: number }[] = []
          for (const [count, words] of shapes) {
            const bytes = Buffer.allocUnsafeSlow(words * 8)
            all.push({ position: feed.position, lsn: feed.lsn, next: feed.lsn + count, length: bytes.length })
            feed.add(cache, count, bytes)
            expect(cache.usedBytes).toBeLessThanOrEqual(bytesMax)
          }
          const kept = all.slice(all.length - cache.frameCount)
          expect(cache.usedBytes).toBe(kept.reduce((sum, frame) => sum + frame.length, 0))
          expect(kept.length === all.length || cache.usedBytes > bytesMax - 800).toBe(true)
          for (const [i, frame] of kept.entries()) {
            expect(cache.at(cache.firstNumber + i)!.header.position).toBe(frame.position)
            expect(cache.numberAt(segment, frame.position, frame.lsn)).toBe(cache.firstNumber + i)
            expect(cache.numberAt(segment, frame.position + 8, frame.lsn)).toBe(-1)
          }
          for (let lsn = kept[0]!.lsn; lsn <= feed.lsn; lsn++) {
            const index = kept.findIndex((frame) => frame.next > lsn)
            expect(cache.numberOf(lsn)).toBe(index < 0 ? -1 : cache.firstNumber + index)
          }
        },
      ),
      { numRuns: budget({ small: 20, ci: 100 }) },
    )
  })

  it('leaves out a frame that is larger than its share', () => {
    const total = new CacheBudget(10_000)
    const cache = new FrameCache(total)
    const other = new FrameCache(total)
    const feed = new Feed()
    feed.add(cache, 1, Buffer.allocUnsafeSlow(1000))
    feed.add(cache, 1, Buffer.allocUnsafeSlow(6000))
    feed.add(cache, 1, Buffer.allocUnsafeSlow(1000))
    expect(cache.frameCount).toBe(2)
    expect(cache.at(cache.numberOf(1))!.header.baseLsn).toBe(2)
    other.close()
    feed.add(cache, 1, Buffer.allocUnsafeSlow(6000))
    expect(cache.frameCount).toBe(3)
  })

  it('lets a busy log use what the others leave, and gives each its share when all want it', () => {
    const total = new CacheBudget(100_000)
    const [a, b, c] = [new FrameCache(total), new FrameCache(total), new FrameCache(total)] as const
    const feeds = [new Feed(), new Feed(), new Feed()] as const
    for (let i = 0; i < 200; i++) feeds[0].add(a, 1, Buffer.allocUnsafeSlow(1000))
    expect(a.usedBytes).toBe(100_000)
    for (let i = 0; i < 20; i++) feeds[1].add(b, 1, Buffer.allocUnsafeSlow(1000))
    expect([a.usedBytes, b.usedBytes]).toEqual([80_000, 20_000])
    for (let i = 0; i < 300; i++) {
      feeds[0].add(a, 1, Buffer.allocUnsafeSlow(1000))
      feeds[1].add(b, 1, Buffer.allocUnsafeSlow(1000))
      feeds[2].add(c, 1, Buffer.allocUnsafeSlow(1000))
    }
    for (const cache of [a, b, c]) expect(Math.abs(cache.usedBytes - 33_333)).toBeLessThan(1500)
    expect(total.usedBytes).toBeLessThanOrEqual(100_000)
    a.close()
    b.close()
    c.close()
    expect(total.usedBytes).toBe(0)
  })

  it('counts an allocation that several frames share once, and copies out of one that is much larger', () => {
    const cache = new FrameCache(new CacheBudget(64 * 1024 * 1024))
    const feed = new Feed()
    const flush = Buffer.allocUnsafeSlow(64 * 1024)
    for (let i = 0; i < 64; i++) feed.add(cache, 1, flush.subarray(i * 1024, (i + 1) * 1024))
    expect(cache.usedBytes).toBe(64 * 1024)
    for (let i = 0; i < 63; i++) cache.dropOldest()
    expect(cache.usedBytes).toBe(64 * 1024)
    cache.dropOldest()
    expect(cache.usedBytes).toBe(0)
    const arena = Buffer.allocUnsafeSlow(16 * 1024 * 1024)
    feed.add(cache, 1, arena.subarray(0, 4096))
    expect(cache.usedBytes).toBe(4096)
    expect(cache.at(cache.firstNumber)!.bytes.buffer.byteLength).toBe(4096)
  })
})
