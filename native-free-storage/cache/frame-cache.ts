/**
 * The write-ahead cache: the newest durable frames of a log, in log order, from which any number of tailing readers
 * are served with the same bytes.
 *
 * One `CacheBudget` is shared by the logs of a node. A log may use more than its share as long as the others leave
 * room; when the budget is full, the log that uses most gives up its oldest frames.
 */
import { type BodyHead, openBodyHead } from '../format/body-head.ts'
import { type FrameHeader, FrameKind, nextLsnAfter } from '../format/frame-header.ts'
import { decodeGap } from '../format/gap.ts'

/** A view of a larger allocation is copied when it is below this part of it, and the allocation is not a small one. */
const COPY_BELOW_PART = 0.5
const SMALL_ALLOCATION_BYTES = 1024 * 1024
const COMPACT_AFTER = 1024

/** The file that a cached frame stands in. Compared by identity. */
export interface CachedSegment {
  readonly id: string
  readonly baseLsn: number
  readonly name: string
}

export interface StoredFrame {
  readonly header: FrameHeader
  /** The whole frame as it stands in the file: header, body, node section, padding. Never written to again. */
  readonly bytes: Buffer
  readonly segment: CachedSegment
}

/** A frame in the cache. What is decoded of it is decoded once, for all readers. */
export class CachedFrame {
  readonly header: FrameHeader
  readonly bytes: Buffer
  readonly segment: CachedSegment
  /** The LSN that the frame behind this one has. */
  readonly nextLsn: number
  /** Bytes that this frame keeps from being freed: 0 when an older frame of the same allocation counts them. */
  heldBytes: number
  /** A reader has been given it, or an older frame of the same allocation. */
  isLent = false
  #head: BodyHead | undefined

  constructor(frame: StoredFrame, bytes: Buffer, heldBytes: number) {
    this.header = frame.header
    this.segment = frame.segment
    this.bytes = bytes
    this.heldBytes = heldBytes
    this.nextLsn = nextLsnAfter(
      frame.header,
      frame.header.kind === FrameKind.gap ? decodeGap(this.body()).count : undefined,
    )
  }

  /** Of a records frame. */
  head(): BodyHead {
    this.#head ??= openBodyHead(this.body(), this.header.bodyLength, this.header.recordCount, null)
    return this.#head
  }

  body(): Buffer {
    const { headerLength, bodyLength } = this.header
    return this.bytes.subarray(headerLength, headerLength + bodyLength)
  }

  nodeSection(): Buffer {
    const start = this.header.headerLength + this.header.bodyLength
    return this.bytes.subarray(start, start + this.header.nodeSectionLength)
  }
}

export class CacheBudget {
  readonly bytes: number
  #usedBytes = 0
  readonly #caches = new Set<FrameCache>()

  constructor(bytes: number) {
    this.bytes = bytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  /** What each of the logs gets when all want as much as they can. */
  get shareBytes(): number {
    return Math.floor(this.bytes / Math.max(1, this.#caches.size))
  }

  join(cache: FrameCache): void {
    this.#caches.add(cache)
  }

  leave(cache: FrameCache): void {
    this.#caches.delete(cache)
  }

  /** Called by a cache for what it takes (or, below 0, gives back). */
  count(bytes: number): void {
    this.#usedBytes += bytes
  }

  /** Takes from whoever holds most until the budget is kept. */
  enforce(newest: FrameCache): void {
    const share = this.shareBytes
    while (this.#usedBytes > this.bytes) {
      let largest = newest
      // A log above its share pays for its own frames; only otherwise are the others looked at.
      if (newest.usedBytes <= share) {
        for (const cache of this.#caches) if (cache.usedBytes > largest.usedBytes) largest = cache
      }
      if (!largest.dropOldest()) return
    }
  }
}

export class FrameCache {
  readonly #budget: CacheBudget
  /** A ring as an array with a moving start; frame number n is at `n - #numberOfFirst`. */
  #frames: (CachedFrame | undefined)[] = []
  #start = 0
  /** Number of the frame at `#frames[0]`, there or gone. */
  #numberOfFirst = 0
  #usedBytes = 0
  #newestAllocation: ArrayBufferLike | undefined
  /** Told of each allocation that the cache lets go and of which no reader has been given a part. */
  onUnused: ((allocation: ArrayBufferLike) => void) | null = null

  constructor(budget: CacheBudget) {
    this.#budget = budget
    budget.join(this)
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get frameCount(): number {
    return this.#frames.length - this.#start
  }

  /** Number of the oldest frame that is there. Numbers count the frames added, from 0, and are never reused. */
  get firstNumber(): number {
    return this.#numberOfFirst + this.#start
  }

  /** One above the number of the newest frame. */
  get endNumber(): number {
    return this.#numberOfFirst + this.#frames.length
  }

  /**
   * Adds the next durable frame of the log, also one without records. Frames of one flush may share an allocation:
   * it is counted once. A frame that is larger than the share of its log is left out, and readers find it in the file.
   * Returns whether the cache keeps these very bytes.
   */
  add(frame: StoredFrame): boolean {
    const { length } = frame.bytes
    if (length > this.#budget.shareBytes) return false
    let { bytes } = frame
    let heldBytes = 0
    if (bytes.buffer !== this.#newestAllocation) {
      const allocated = bytes.buffer.byteLength
      const wasteful = length < allocated * COPY_BELOW_PART && allocated > SMALL_ALLOCATION_BYTES
      if (wasteful || allocated > this.#budget.shareBytes) {
        bytes = Buffer.allocUnsafeSlow(length)
        frame.bytes.copy(bytes)
      }
      this.#newestAllocation = bytes.buffer
      heldBytes = bytes.buffer.byteLength
    }
    this.#frames.push(new CachedFrame(frame, bytes, heldBytes))
    this.#count(heldBytes)
    this.#budget.enforce(this)
    return bytes === frame.bytes
  }

  /** The frame with this number; undefined when it is gone, or not there yet. */
  at(number: number): CachedFrame | undefined {
    const frame = number < this.firstNumber ? undefined : this.#frames[number - this.#numberOfFirst]
    if (frame !== undefined) frame.isLent = true
    return frame
  }

  /**
   * Number of the first frame behind which the next LSN is above `lsn`: the one that holds the record `lsn` or, when
   * that has gone or is not there, a later one (the caller compares). -1: no frame reaches so far.
   */
  numberOf(lsn: number): number {
    let low = this.#start
    let high = this.#frames.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#frames[middle]!.nextLsn > lsn) high = middle
      else low = middle + 1
    }
    return low === this.#frames.length ? -1 : this.#numberOfFirst + low
  }

  /** Number of the frame at exactly this place of the log, or -1. `lsn` is the LSN that is expected there. */
  numberAt(segment: CachedSegment, position: number, lsn: number): number {
    let low = this.#start
    let high = this.#frames.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const frame = this.#frames[middle]!
      const behind =
        frame.segment === segment
          ? frame.header.position >= position
          : frame.segment.baseLsn !== segment.baseLsn
            ? frame.segment.baseLsn > segment.baseLsn
            : frame.header.baseLsn >= lsn
      if (behind) high = middle
      else low = middle + 1
    }
    const found = this.#frames[low]
    if (low === this.#frames.length || found === undefined) return -1
    return found.segment === segment && found.header.position === position ? this.#numberOfFirst + low : -1
  }

  /** Gives all memory back to the budget, for good. */
  close(): void {
    while (this.dropOldest()) {
      // one after the other
    }
    this.#budget.leave(this)
  }

  /** False when nothing is left. */
  dropOldest(): boolean {
    const oldest = this.#frames[this.#start]
    if (oldest === undefined) return false
    this.#frames[this.#start] = undefined
    this.#start++
    const next = this.#frames[this.#start]
    // The allocation lives on with the next frame that is a part of it.
    if (next !== undefined && next.bytes.buffer === oldest.bytes.buffer) {
      next.heldBytes = oldest.heldBytes
      next.isLent ||= oldest.isLent
    } else {
      this.#count(-oldest.heldBytes)
      if (!oldest.isLent) this.onUnused?.(oldest.bytes.buffer)
      if (next === undefined) this.#newestAllocation = undefined
    }
    if (this.#start >= COMPACT_AFTER && this.#start * 2 >= this.#frames.length) {
      this.#frames.splice(0, this.#start)
      this.#numberOfFirst += this.#start
      this.#start = 0
    }
    return true
  }

  #count(bytes: number): void {
    this.#usedBytes += bytes
    this.#budget.count(bytes)
  }
}
