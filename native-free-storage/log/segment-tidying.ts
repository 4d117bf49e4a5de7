/**
 * What follows the seal of a segment at leisure: the file is trimmed and its index written. Nothing depends on either,
 * and both cost syncs of the disk that the records need: while the writer keeps it busy they wait. Bounded: the roll
 * that would leave too many segments without their index waits for the oldest. docs/decisions/0004.
 */

/** A crash leaves at most so many sealed segments without an index; the next open makes them. */
export const UNINDEXED_SEGMENTS_MAX = 4

/** False: its index could not be written. Must not reject. */
export type Tidy = () => Promise<boolean>

export class SegmentTidying {
  #busy = false
  readonly #waiting: Tidy[] = []
  /** What could not be done, mostly for want of room: tried again behind the next that can, and at the close. */
  readonly #late: Tidy[]
  #running: Promise<void> | null = null

  /** `late`: what the open of the log could not do. */
  constructor(late: readonly Tidy[]) {
    this.#late = [...late]
  }

  /** Settles when no more than the segments that may be left untidied are. Then one more may be sealed. */
  async room(): Promise<void> {
    while (this.#open >= UNINDEXED_SEGMENTS_MAX) {
      this.#start()
      await this.#running
    }
  }

  add(tidy: Tidy): void {
    this.#waiting.push(tidy)
    if (!this.#busy) this.#start()
  }

  /** Behind the next one that can be done: there is no room for it now. */
  addLate(tidy: Tidy): void {
    this.#late.push(tidy)
  }

  /** Whether the writer needs the disk for itself. */
  setBusy(busy: boolean): void {
    this.#busy = busy
    if (!busy) this.#start()
  }

  /** Settles when everything is tidied that can be. */
  async finishAll(): Promise<void> {
    await this.finish()
    this.#waiting.push(...this.#late.splice(0))
    await this.finish()
  }

  /** Settles when everything was tried. */
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
    this.#running = this.#run(tidy).finally(() => {
      this.#running = null
      if (!this.#busy) this.#start()
    })
  }

  async #run(tidy: Tidy): Promise<void> {
    if (await tidy()) this.#waiting.push(...this.#late.splice(0))
    else this.#late.push(tidy)
  }
}
