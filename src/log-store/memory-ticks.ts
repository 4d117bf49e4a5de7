/** Time ticks of the in-memory logs: one counter for all of them, as a data directory has one. */

/** Milliseconds since 1970 are shifted by this; below is the logical counter. */
export const LOGICAL_BITS = 18n

/** How far ahead of the clock a barrier may ask a tick to be. */
export const MAX_TICK_LEAD_MS = 10_000

export class MemoryTicks {
  readonly #nowMs: () => number
  #last = 0n
  /** Counts up when ticks are given to frames, and when a log of this clock is opened or ends. */
  stirs = 0

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** The clock as a tick, or the last one given where the clock is behind it. */
  now(): bigint {
    const clock = BigInt(this.#nowMs()) << LOGICAL_BITS
    return clock > this.#last ? clock : this.#last
  }

  /** A tick that every one given before is at or below, and every later one is above. */
  fresh(): bigint {
    this.#last = this.now()
    return this.#last
  }

  /** The first of `count` ticks in a row, above all given before and not below `barrier`. */
  take(count: number, barrier: bigint): bigint {
    const clock = BigInt(this.#nowMs()) << LOGICAL_BITS
    let first = clock > this.#last ? clock : this.#last + 1n
    if (first < barrier) first = barrier
    this.#last = first + BigInt(count) - 1n
    this.stirs++
    return first
  }
}
