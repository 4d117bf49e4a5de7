/**
 * What the next flush is made of: the backlog, and then as much of the queue as one write takes, as far as the segment
 * and the leases reach. Frames get their LSNs and ticks here, and their bytes.
 */
import { TidelogError } from '../errors.ts'
import type { AppendQueue } from './append-queue.ts'
import type { Backlog } from './backlog.ts'
import { buildFlush, type Flush, frameBytes, moveFrames, type Ownership, type Placement } from './flush.ts'
import type { FlushBuffers } from './flush-buffers.ts'
import type { FrameNumbering } from './frame-numbering.ts'
import type { BegunSegment } from './segment-files.ts'

/** One write takes at most this, unless a single frame is larger. */
const FLUSH_BYTES_MAX = 1024 * 1024
/** More names than this in the index of the active segment: a new one is begun. */
const SEGMENT_VCHANNELS_MAX = 131_072

/** What has to happen before the first waiting frame can be placed. */
interface Obstacles {
  /** The segment is full for a frame of `frameLength` bytes. */
  onFull(frameLength: number): void
  /** A lease is being extended. */
  onLease(extended: Promise<void>): void
}

export class GroupCommit {
  readonly #queue: AppendQueue
  readonly #backlog: Backlog
  readonly #numbering: FrameNumbering
  readonly #owner: Ownership
  readonly #buffers: FlushBuffers
  readonly #obstacles: Obstacles

  constructor(
    queue: AppendQueue,
    backlog: Backlog,
    numbering: FrameNumbering,
    owner: Ownership,
    buffers: FlushBuffers,
    obstacles: Obstacles,
  ) {
    this.#queue = queue
    this.#backlog = backlog
    this.#numbering = numbering
    this.#owner = owner
    this.#buffers = buffers
    this.#obstacles = obstacles
  }

  /** There is nothing that a flush could be made of. */
  get isEmpty(): boolean {
    return this.#backlog.gap === null && this.#backlog.moving.length === 0 && this.#queue.isEmpty
  }

  /** Bytes that the first write into a new segment needs. */
  get firstBytes(): number {
    const { moving, gap } = this.#backlog
    if (moving.length > 0) return moving.reduce((sum, frame) => sum + frame.bytes.length, 0)
    const pending = gap ?? this.#queue.peek()
    return pending === undefined ? 0 : frameBytes(pending)
  }

  /** Null: nothing could be placed; either all that waited was refused, or one of the obstacles is being removed. */
  next({ entry, writer }: BegunSegment, nowMs: number): Flush | null {
    if (this.#backlog.moving.length > 0) return moveFrames(this.#backlog.takeMoving(), writer, nowMs)
    const placements: Placement[] = []
    let bytes = 0
    while (true) {
      const { gap } = this.#backlog
      const pending = gap ?? this.#queue.peek()
      if (pending === undefined) break
      const length = frameBytes(pending)
      if (bytes > 0 && bytes + length > FLUSH_BYTES_MAX) break
      const fits = bytes + length <= writer.room && entry.building.vchannelCount < SEGMENT_VCHANNELS_MAX
      if (!fits) {
        // What was placed is written first: a full segment is finished when nothing of it is under way.
        if (placements.length === 0) this.#obstacles.onFull(length)
        break
      }
      const numbered = this.#numbering.number(pending)
      if (numbered instanceof Promise) {
        this.#obstacles.onLease(numbered)
        break
      }
      if (gap !== null) this.#backlog.gapPlaced()
      else this.#queue.shift()
      if (numbered instanceof TidelogError) {
        this.#queue.fail(pending, numbered)
        continue
      }
      placements.push(numbered)
      bytes += length
    }
    if (placements.length === 0) return null
    return buildFlush(placements, bytes, writer, this.#owner, this.#buffers, nowMs)
  }
}
