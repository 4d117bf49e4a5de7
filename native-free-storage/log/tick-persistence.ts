/**
 * Stores a time tick now and then, for whoever reads the files of an idle log: at most one each `everyMs`, and only when
 * no record came since the last look. A tick that falls together with records is not written: their frame says more.
 */
import type { Clock, Timer } from '../environment.ts'

export interface TickedLog {
  /** One above the last durable LSN. */
  readonly nextLsn: number
  /** It has a segment, and nothing waits or is under way. */
  readonly isIdle: boolean
  /** Settles when the tick is durable. */
  appendTick(): Promise<bigint>
}

export class TickPersistence {
  readonly #clock: Clock
  readonly #everyMs: number
  readonly #log: TickedLog
  #timer: Timer | null = null
  #seenLsn: number
  #stopped = false

  constructor(clock: Clock, everyMs: number, log: TickedLog) {
    this.#clock = clock
    this.#everyMs = everyMs
    this.#log = log
    this.#seenLsn = log.nextLsn
    this.#arm()
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #arm(): void {
    if (!this.#stopped) this.#timer = this.#clock.after(this.#everyMs, () => void this.#look())
  }

  async #look(): Promise<void> {
    const { nextLsn, isIdle } = this.#log
    const wasIdle = isIdle && nextLsn === this.#seenLsn
    this.#seenLsn = nextLsn
    if (wasIdle) {
      try {
        await this.#log.appendTick()
      } catch {
        // A full disk, or a log that has failed: its status says so, and the next look tries again.
      }
    }
    this.#arm()
  }
}
