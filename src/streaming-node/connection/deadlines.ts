/**
 * When a silent or slow client is given up: hello, a message that has begun, silence. One timer a connection. While the
 * node itself does not read, nothing counts.
 */
import type { ConnectionClock } from '../../protocol/clock.ts'
import { slowAllowanceMs } from '../../protocol/limits.ts'

export interface DeadlineOptions {
  clock: ConnectionClock
  helloTimeoutMs: number
  messageTimeoutMs: number
  idleTimeoutMs: number
  /** Length of the message that has begun, 0 when none has. */
  expectedBytes: () => number
  onLate: (message: string) => void
}

export class Deadlines {
  readonly #options: DeadlineOptions
  readonly #openedMs: number
  #greeted = false
  #paused = false
  #lastMs: number
  #partialSinceMs: number | null = null
  #timer: { cancel(): void } | null = null
  #timerMs = Number.POSITIVE_INFINITY

  constructor(options: DeadlineOptions) {
    this.#options = options
    this.#openedMs = options.clock.monotonicMs()
    this.#lastMs = this.#openedMs
    this.#arm()
  }

  greeted(): void {
    this.#greeted = true
    this.#lastMs = this.#options.clock.monotonicMs()
    this.#arm()
  }

  /** Bytes came; `messages`: how many messages they completed. */
  received(messages: number): void {
    const now = this.#options.clock.monotonicMs()
    this.#lastMs = now
    if (this.#options.expectedBytes() === 0) this.#partialSinceMs = null
    else if (this.#partialSinceMs === null || messages > 0) {
      this.#partialSinceMs = now
      this.#arm()
    }
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    const now = this.#options.clock.monotonicMs()
    this.#lastMs = now
    if (this.#partialSinceMs !== null) this.#partialSinceMs = now
    this.#arm()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
    this.#paused = true
  }

  #next(): { ms: number; message: string } {
    const { helloTimeoutMs, messageTimeoutMs, idleTimeoutMs, expectedBytes } = this.#options
    if (!this.#greeted) return { ms: this.#openedMs + helloTimeoutMs, message: `no HELLO within ${helloTimeoutMs} ms` }
    const idle = { ms: this.#lastMs + idleTimeoutMs, message: `nothing was received for ${idleTimeoutMs} ms` }
    if (this.#partialSinceMs === null) return idle
    const allowedMs = messageTimeoutMs + slowAllowanceMs(expectedBytes())
    const partial = {
      ms: this.#partialSinceMs + allowedMs,
      message: `a message was not complete after ${allowedMs} ms`,
    }
    return partial.ms < idle.ms ? partial : idle
  }

  #arm(): void {
    if (this.#paused) return
    const { clock } = this.#options
    const { ms } = this.#next()
    if (this.#timer !== null && this.#timerMs <= ms) return
    this.#timer?.cancel()
    this.#timerMs = ms
    this.#timer = clock.after(Math.max(1, ms - clock.monotonicMs()), () => {
      this.#timer = null
      this.#timerMs = Number.POSITIVE_INFINITY
      if (this.#paused) return
      const late = this.#next()
      if (late.ms <= clock.monotonicMs()) this.#options.onLate(late.message)
      else this.#arm()
    })
  }
}
