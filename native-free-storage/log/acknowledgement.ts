/**
 * What becomes of a flush that is durable, in this order: the durable position moves, its frames enter the index and the
 * cache, readers are woken, the promises settle. Owns the buffers of flushes: one comes back when the cache lets it go.
 */
import { FrameKind } from '../format/frame-header.ts'
import type { AppendQueue } from './append-queue.ts'
import { type Flush, lastTickOfFlush } from './flush.ts'
import { FlushBuffers } from './flush-buffers.ts'
import type { LogState } from './log-state.ts'
import type { BegunSegment } from './segment-files.ts'
import type { SegmentSuccession } from './segment-succession.ts'

export class Acknowledgement {
  readonly #state: LogState
  readonly #segments: SegmentSuccession
  readonly #queue: AppendQueue
  readonly buffers = new FlushBuffers()
  /** The buffer whose frames are entering the cache: not used again before all of them have. */
  #entering: ArrayBufferLike | null = null
  readonly #counts = { appendedRecords: 0, appendedFrames: 0, appendedBytes: 0, flushes: 0, flushMs: 0 }

  constructor(state: LogState, segments: SegmentSuccession, queue: AppendQueue) {
    this.#state = state
    this.#segments = segments
    this.#queue = queue
    state.cache.onUnused = (allocation) => {
      if (allocation !== this.#entering) this.buffers.give(allocation)
    }
  }

  get counts() {
    return this.#counts
  }

  /** The flushes are durable, in the order of the log, and nothing before them is missing. */
  acknowledge(finished: readonly Flush[], segment: BegunSegment, nowMs: number): void {
    const { entry } = segment
    for (const flush of finished) this.#enter(flush, segment, nowMs)
    const { position, nextLsn, lastTimeTick } = this.#segments.durable
    this.#state.setDurableEnd({ segment: entry, position, nextLsn, lastTimeTick }, nextLsn)
    this.#state.announce()
    for (const flush of finished) {
      for (const { pending, header } of flush.frames) {
        if (pending !== null) this.#queue.settle(pending, header.baseLsn, header.baseTimeTick)
      }
    }
  }

  #enter(flush: Flush, { entry, writer }: BegunSegment, nowMs: number): void {
    const last = flush.frames[flush.frames.length - 1]!
    const end = flush.position + flush.bytes.length
    writer.markDurable(end)
    this.#segments.advance({
      position: end,
      chain: last.header.checksum,
      nextLsn: last.nextLsn,
      lastTimeTick: lastTickOfFlush(flush, this.#segments.durable.lastTimeTick),
    })
    this.#counts.flushes++
    this.#counts.flushMs += nowMs - flush.issuedAtMs
    this.#counts.appendedBytes += flush.bytes.length
    const allocation = flush.bytes.buffer
    let isCached = false
    this.#entering = allocation
    for (const { header, vchannels, offset } of flush.frames) {
      if (header.kind === FrameKind.records) this.#counts.appendedFrames++
      this.#counts.appendedRecords += header.recordCount
      entry.building.addFrame({
        position: header.position,
        baseLsn: header.baseLsn,
        baseTimeTick: header.baseTimeTick,
        recordCount: header.recordCount,
        kind: header.kind,
        vchannels,
      })
      const bytes = flush.bytes.subarray(offset, offset + header.totalLength)
      if (this.#state.cache.add({ header, bytes, segment: entry })) isCached = true
    }
    this.#entering = null
    if (!isCached) this.buffers.give(allocation)
  }
}
