/** Between two attempts at what the node refuses: it needs time, and more of it the longer it refuses. */
import type { Settings } from './settings.ts'

/** At most 16 times the first pause. */
const DOUBLINGS_MAX = 4

/** The pause before attempt `attempt`, from 0, without its jitter. */
export function pauseMsOf(backoffMs: number, attempt: number): number {
  return backoffMs * 2 ** Math.min(attempt, DOUBLINGS_MAX)
}

export class RetryPause {
  readonly #settings: Settings
  readonly #onOver: () => void
  #pauses = 0
  #timer: { cancel(): void } | null = null

  constructor(settings: Settings, onOver: () => void) {
    this.#settings = settings
    this.#onOver = onOver
  }

  get isOn(): boolean {
    return this.#timer !== null
  }

  /** Nothing while one is on. */
  begin(): void {
    if (this.#timer !== null) return
    const { clock, backoffMs, random } = this.#settings
    this.#timer = clock.after(
      pauseMsOf(backoffMs, this.#pauses++) * (1 + random()),
      () => {
        this.#timer = null
        this.#onOver()
      },
      true,
    )
  }

  /** Something was taken: the next pause is a short one. */
  reset(): void {
    this.#pauses = 0
  }

  cancel(): void {
    this.#timer?.cancel()
    this.#timer = null
  }
}
