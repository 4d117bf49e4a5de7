/**
 * What goes into the log before anything of the queue: what the recovery left to copy, the gap that is owed for LSNs of
 * a former lease, and the frames of a segment that was cut under them. In this order of right, and seldom any of it.
 *
 * A crash may bring frames to light that were cut off: until a manifest says so (`uncutTick`), no watermark passes them.
 */
import type { Flush, MovedFrame } from './flush.ts'
import { ControlFrame, type PendingFrame } from './pending-frame.ts'
import type { CarryOver, WriterStart } from './writer-start.ts'

export class Backlog {
  #carryOver: CarryOver | null
  #gap: PendingFrame | null
  /** They have their LSNs and ticks. */
  #moving: readonly MovedFrame[] = []
  #uncutTick: bigint | null

  constructor(start: Pick<WriterStart, 'carryOver' | 'gapCount' | 'firstUnprovenTick'>) {
    this.#carryOver = start.carryOver
    this.#gap = start.gapCount > 0 ? ControlFrame.gap({ count: start.gapCount, reason: 'leased' }) : null
    this.#uncutTick = start.firstUnprovenTick
  }

  get carryOver(): CarryOver | null {
    return this.#carryOver
  }

  get gap(): PendingFrame | null {
    return this.#gap
  }

  get moving(): readonly MovedFrame[] {
    return this.#moving
  }

  /** First tick of frames that a crash may bring to light; null: there are none. */
  get uncutTick(): bigint | null {
    return this.#uncutTick
  }

  /** The recovery left something to do that has not been done. */
  get owesRecovery(): boolean {
    return this.#carryOver !== null || this.#gap !== null
  }

  carriedOver(): void {
    this.#carryOver = null
    this.#uncutTick = null
  }

  /** A manifest names a later segment: nothing that was cut off before can come to light. */
  cutPublished(): void {
    this.#uncutTick = null
  }

  /** Frames from this tick on were cut off, and no manifest says so yet. */
  cutOff(firstTick: bigint | null): void {
    this.#uncutTick ??= firstTick
  }

  gapPlaced(): void {
    this.#gap = null
  }

  /** A gap whose frame found no room is written first when there is: its LSNs are not given again. */
  keepGap(pending: PendingFrame | null): void {
    if (pending !== null && pending.lsnCount > pending.recordCount) this.#gap = pending
  }

  /** They are written again, with the same LSNs and ticks, into the next segment. */
  move(flushes: readonly Flush[]): void {
    const moving = [...this.#moving]
    for (const flush of flushes) {
      // The kernel may still read the buffer of the stuck write: the frames are copied from it, never changed in it.
      for (const { pending, header, vchannels, nextLsn, offset } of flush.frames) {
        const bytes = flush.bytes.subarray(offset, offset + header.totalLength)
        moving.push({ pending, header, vchannels, nextLsn, bytes })
      }
    }
    this.#moving = moving
  }

  takeMoving(): readonly MovedFrame[] {
    const moving = this.#moving
    this.#moving = []
    return moving
  }
}
