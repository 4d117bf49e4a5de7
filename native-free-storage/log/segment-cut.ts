/**
 * A write that cannot be made or does not return: the active segment ends at its durable end, which the next manifest
 * says, and whatever lands behind that lands beyond the end of the log. And a disk that is full: what waits is refused,
 * and the next append tries again.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { noSpace } from './append-errors.ts'
import type { AppendQueue } from './append-queue.ts'
import type { Backlog } from './backlog.ts'
import type { Flush } from './flush.ts'
import type { FrameNumbering } from './frame-numbering.ts'
import type { SegmentSuccession } from './segment-succession.ts'
import type { WriteWindow } from './write-window.ts'

export class SegmentCut {
  readonly #directory: string
  readonly #segments: SegmentSuccession
  readonly #window: WriteWindow
  readonly #queue: AppendQueue
  readonly #backlog: Backlog
  readonly #numbering: FrameNumbering
  #isDiskFull = false
  #cuts = 0

  constructor(
    directory: string,
    segments: SegmentSuccession,
    window: WriteWindow,
    queue: AppendQueue,
    backlog: Backlog,
    numbering: FrameNumbering,
  ) {
    this.#directory = directory
    this.#segments = segments
    this.#window = window
    this.#queue = queue
    this.#backlog = backlog
    this.#numbering = numbering
  }

  /** Segments that were cut. */
  get cuts(): number {
    return this.#cuts
  }

  /** The last step could not be made for want of space: the next append tries again. */
  get isDiskFull(): boolean {
    return this.#isDiskFull
  }

  /** A write found no room: what is in flight is settled, and the next append begins a segment. */
  forSpace(flush: Flush, bytesWritten: number, cause: unknown): void {
    const clean = bytesWritten === 0 && this.#window.oldest === flush && this.#window.length === 1
    const cut = this.#leaveWindow()
    this.#numbering.takeBack(this.#segments.durable.nextLsn)
    this.#segments.leave()
    if (!clean) this.#backlog.cutOff(cut[0]?.frames[0]?.header.baseTimeTick ?? null)
    for (const { frames } of cut) {
      for (const { pending } of frames) {
        if (pending === null) continue
        this.#backlog.keepGap(pending)
        this.#queue.fail(pending, noSpace(clean ? 'cut clean' : 'cut', this.#directory, cause))
      }
    }
  }

  /** A write does not return: what was under way is written again, with the same LSNs and ticks, into the next segment. */
  forStuckWrite(): void {
    this.#backlog.move(this.#leaveWindow())
    this.#segments.leave()
  }

  /** Runs a step that can be made again when there is room: a full disk refuses what waits, and is no failure. */
  async whenSpace(step: Promise<void>): Promise<void> {
    try {
      await step
      this.#isDiskFull = false
    } catch (error) {
      const full = isDiskError(error, 'ENOSPC') || (error instanceof TidelogError && error.code === 'DISK_FULL')
      if (!full) throw error
      this.#refuseAll(error)
    }
  }

  /** A segment could not be begun, or a lease extended: nothing that waits can be written now. */
  #refuseAll(cause: unknown): void {
    const moving = this.#backlog.takeMoving()
    const first = moving[0]?.header
    if (first !== undefined) {
      this.#numbering.takeBack(first.baseLsn)
      this.#backlog.cutOff(first.baseTimeTick)
    }
    for (const { pending } of moving) {
      if (pending === null) continue
      this.#backlog.keepGap(pending)
      this.#queue.fail(pending, noSpace('cannot be moved', this.#directory, cause))
    }
    this.#isDiskFull = true
    this.#queue.rejectAll(() => noSpace('refused', this.#directory, cause))
  }

  #leaveWindow(): Flush[] {
    this.#cuts++
    return this.#window.abandon()
  }
}
