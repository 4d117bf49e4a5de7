/**
 * Bytes a second, with a burst. Whoever takes more than is there owes it, and waits until the debt is paid; a debt that
 * would take too long is not entered.
 */
export class TokenBucket {
  readonly #nowMs: () => number
  readonly bytesPerSecond: number
  readonly #burstBytes: number
  /** Below 0: owed. */
  #bytes: number
  #countedMs: number

  /** `nowMs`: the monotonic clock. */
  constructor(nowMs: () => number, bytesPerSecond: number, burstBytes: number) {
    this.#nowMs = nowMs
    this.bytesPerSecond = bytesPerSecond
    this.#burstBytes = burstBytes
    this.#bytes = burstBytes
    this.#countedMs = nowMs()
  }

  /** How long whoever takes `bytes` now would have to wait; 0: not at all. */
  waitMs(bytes: number): number {
    this.#fill()
    // A whole burst lets in anything that comes: what is larger than it would never be let in else.
    if (this.#bytes >= this.#burstBytes) return 0
    const missing = bytes - this.#bytes
    return missing <= 0 ? 0 : Math.ceil((missing * 1000) / this.bytesPerSecond)
  }

  take(bytes: number): void {
    this.#bytes -= bytes
  }

  /** Until nothing is owed any more. */
  get debtMs(): number {
    this.#fill()
    return this.#bytes >= 0 ? 0 : Math.ceil((-this.#bytes * 1000) / this.bytesPerSecond)
  }

  #fill(): void {
    const nowMs = this.#nowMs()
    const gained = ((nowMs - this.#countedMs) * this.bytesPerSecond) / 1000
    this.#countedMs = nowMs
    this.#bytes = Math.min(this.#burstBytes, this.#bytes + gained)
  }
}
