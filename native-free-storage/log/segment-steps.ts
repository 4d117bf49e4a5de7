/**
 * The steps from one segment to the next, as the writer takes them: each alone (exclusive-step.ts), each with the room
 * that it needs or not at all for now (segment-cut.ts). What a step does to the files is segment-succession.ts.
 */
import type { Backlog } from './backlog.ts'
import type { DurableMarkers } from './durable-markers.ts'
import type { ExclusiveStep } from './exclusive-step.ts'
import type { FrameNumbering } from './frame-numbering.ts'
import type { GroupCommit } from './group-commit.ts'
import type { QuietSignal } from './quiet-signal.ts'
import type { SegmentCut } from './segment-cut.ts'
import type { SegmentSuccession } from './segment-succession.ts'
import type { WriteWindow } from './write-window.ts'
import type { CarryOver } from './writer-start.ts'

interface Parts {
  segments: SegmentSuccession
  window: WriteWindow
  backlog: Backlog
  numbering: FrameNumbering
  commit: GroupCommit
  markers: DurableMarkers
  step: ExclusiveStep
  cut: SegmentCut
  quiet: QuietSignal
  hasFailed(): boolean
}

export class SegmentSteps {
  readonly #parts: Parts
  /** A step waits until nothing is in flight. */
  #draining = false
  /** A write has passed its deadline while a step was waiting for it: that step gives up, and a cut follows. */
  #stuck = false
  #rolls = 0
  /** Called after each segment that was finished. */
  onRoll: (() => void) | null = null

  constructor(parts: Parts) {
    this.#parts = parts
  }

  get rolls(): number {
    return this.#rolls
  }

  /** What the recovery left to do. */
  carryOver(carryOver: CarryOver): void {
    const { segments, backlog, markers, cut } = this.#parts
    this.#run(async () => {
      await cut.whenSpace(segments.carryOver(carryOver))
      if (segments.active === null) return
      backlog.carriedOver()
      markers.entered(true)
    })
  }

  /** Begins a segment that has room for what is written first. */
  begin(): void {
    this.#run(() => this.#begin())
  }

  /** Finishes the active segment, when all of its writes have returned, and begins one with room for `frameBytes`. */
  roll(frameBytes: number): void {
    const { segments, numbering, cut, hasFailed } = this.#parts
    const drained = async (): Promise<boolean> => {
      await this.#drained()
      return !hasFailed() && !this.#stuck
    }
    this.#run(() =>
      cut.whenSpace(
        segments.roll(numbering.nextLsn, frameBytes, drained).then((rolled) => {
          if (!rolled) return
          this.#rolls++
          this.onRoll?.()
        }),
      ),
    )
  }

  /** A lease is being extended. */
  lease(extended: Promise<void>): void {
    this.#run(() => this.#parts.cut.whenSpace(extended))
  }

  /** The oldest write is late. False: a step is under way that does not wait for it. */
  lateWrite(): boolean {
    if (!this.#parts.step.isRunning) {
      this.#cutStuck()
      return true
    }
    if (!this.#draining) return false
    this.#stuck = true
    this.#parts.quiet.announce()
    return true
  }

  /** Cuts the segment of a write that was late while a step waited for it. False: there is none. */
  cutIfStuck(): boolean {
    if (!this.#stuck) return false
    this.#stuck = false
    this.#cutStuck()
    return true
  }

  #cutStuck(): void {
    this.#run(async () => {
      this.#parts.cut.forStuckWrite()
      await this.#begin()
    })
  }

  async #begin(): Promise<void> {
    const { segments, backlog, numbering, commit, cut } = this.#parts
    const { moving } = backlog
    const baseLsn = moving[0]?.header.baseLsn ?? numbering.nextLsn
    await cut.whenSpace(segments.begin(baseLsn, commit.firstBytes, moving.length > 0))
    if (segments.active !== null) backlog.cutPublished()
  }

  #run(step: () => Promise<void>): void {
    this.#parts.step.run(step())
  }

  /** Settles when nothing is in flight, when everything has failed, or when a write is stuck. */
  async #drained(): Promise<void> {
    const { window, quiet, hasFailed } = this.#parts
    this.#draining = true
    while (!window.isEmpty && !hasFailed() && !this.#stuck) await quiet.next()
    this.#draining = false
  }
}
