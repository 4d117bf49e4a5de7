/** Looks whether the oldest write returns in its time. One timer for all of them, armed while any is under way. */
import type { Clock, Timer } from '../environment.ts'
import type { WriteWindow } from './write-window.ts'

export class WriteDeadline {
  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #window: WriteWindow
  readonly #onLate: () => boolean
  #timer: Timer | null = null

  /** `onLate`: the oldest write has not returned in its time. False: nothing was done about it, it is asked again. */
  constructor(clock: Clock, deadlineMs: number, window: WriteWindow, onLate: () => boolean) {
    this.#clock = clock
    this.#deadlineMs = deadlineMs
    this.#window = window
    this.#onLate = onLate
  }

  /** A write was issued. */
  watch(): void {
    if (this.#timer !== null) return
    this.#timer = this.#clock.after(this.#deadlineMs, () => {
      this.#timer = null
      const { oldest } = this.#window
      if (oldest === undefined) return
      const isLate = this.#clock.monotonicMs() - oldest.issuedAtMs >= this.#deadlineMs
      if (!isLate || !this.#onLate()) this.watch()
    })
  }

  /** The writer has ended. */
  cancel(): void {
    this.#timer?.cancel()
  }
}
