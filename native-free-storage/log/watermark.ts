/** T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. */
import type { Backlog } from './backlog.ts'
import type { FrameNumbering } from './frame-numbering.ts'
import type { SegmentSuccession } from './segment-succession.ts'
import type { WriteWindow } from './write-window.ts'

export class Watermark {
  readonly #segments: SegmentSuccession
  readonly #window: WriteWindow
  readonly #backlog: Backlog
  readonly #numbering: FrameNumbering
  #last = 0n

  constructor(segments: SegmentSuccession, window: WriteWindow, backlog: Backlog, numbering: FrameNumbering) {
    this.#segments = segments
    this.#window = window
    this.#backlog = backlog
    this.#numbering = numbering
  }

  /**
   * `hasEnded`: no tick will be given any more. `shared` above 0: a tick that this log's oracle gave at any time before,
   * in the place of a fresh one.
   */
  read(hasEnded: boolean, shared: bigint): bigint {
    const { moving, uncutTick } = this.#backlog
    // Frames keep their order from the window into the backlog: the first that is not durable bounds all.
    const oldest = moving[0]?.header ?? this.#window.oldest?.frames[0]?.header
    let tick: bigint | null
    if (oldest !== undefined) tick = oldest.baseTimeTick - 1n
    else if (uncutTick !== null) tick = uncutTick - 1n
    else if (hasEnded) tick = this.#segments.durable.lastTimeTick
    else tick = shared > 0n ? shared : this.#numbering.now()
    if (tick !== null && tick > this.#last) this.#last = tick
    return this.#last
  }
}
