/**
 * What follows the seal of a segment at leisure: the file is trimmed and its index written. Nothing depends on either,
 * and both cost syncs of the disk that the records need: while the writer keeps it busy they wait. Bounded: the roll
 * that would leave too many segments without their index waits for the oldest. docs/decisions/0004.
 */

/** A crash leaves at most so many sealed segments without an index; the next open makes them. */
export const UNINDEXED_SEGMENTS_MAX = 4

export class SegmentTidying {
  #busy = false
  readonly #waiting: (() => Promise<void>)[] = []
  #running: Promise<void> | null = null

  /** Settles when no more than the segments that may be left untidied are. Then one more may be sealed. */
  async room(): Promise<void> {
    while (this.#open >= UNINDEXED_SEGMENTS_MAX) {
      this.#start()
      await this.#running
    }
  }

  /** `tidy` must not reject. */
  add(tidy: () => Promise<void>): void {
    this.#waiting.push(tidy)
    if (!this.#busy) this.#start()
  }

  /** Whether the writer needs the disk for itself. */
  setBusy(busy: boolean): void {
    this.#busy = busy
    if (!busy) this.#start()
  }

  /** Settles when everything is tidied. */
  async finish(): Promise<void> {
    while (this.#open > 0) {
      this.#start()
      await this.#running
    }
  }

  get #open(): number {
    return this.#waiting.length + (this.#running === null ? 0 : 1)
  }

  /** The oldest that waits; one at a time. */
  #start(): void {
    if (this.#running !== null) return
    const tidy = this.#waiting.shift()
    if (tidy === undefined) return
    this.#running = tidy().finally(() => {
      this.#running = null
      if (!this.#busy) this.#start()
    })
  }
}
