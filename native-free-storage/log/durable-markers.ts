/**
 * What is acknowledged is provable when a later frame says so: each carries the durable position of its time. Behind the
 * last one, when the log has been quiet for a while, a durable marker says it.
 */
import type { Clock, Timer } from '../environment.ts'

/** Idle this long, what was acknowledged last is made provable by a durable marker. */
const MARKER_DELAY_MS = 100

export class DurableMarkers {
  readonly #clock: Clock
  readonly #write: () => void
  /** The last durable frame is a marker, or there is none of this writer: all that was acknowledged is provable. */
  #isProven = true
  #timer: Timer | null = null
  #isStopped: boolean

  /** `write`: puts a marker into the log, if that is still quiet. `wanted` false: no frame proves anything (level `os`). */
  constructor(clock: Clock, wanted: boolean, write: () => void) {
    this.#clock = clock
    this.#write = write
    this.#isStopped = !wanted
  }

  /** The frames up to one of this sort are durable. */
  entered(isMarker: boolean): void {
    this.#isProven = isMarker
  }

  /** Nothing waits and nothing is under way. */
  quiet(): void {
    if (this.#isProven || this.#timer !== null || this.#isStopped) return
    this.#timer = this.#clock.after(MARKER_DELAY_MS, () => {
      this.#timer = null
      if (!this.#isProven) this.#write()
    })
  }

  /** The log ends: its end is published otherwise. */
  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }
}
