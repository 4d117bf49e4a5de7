/**
 * The flushes between their write and their acknowledgement, in the order of the log. Writes return in any order; a
 * flush leaves the window only together with all before it.
 *
 * `#writing` counts those of `#flushes` whose write has not returned.
 */
import type { Flush } from './flush.ts'

/** While writes are in flight, a further one leaves only with this much: small ones gather better than they overlap. */
const OVERLAP_BYTES_MIN = 128 * 1024
/**
 * A write that returns before an earlier one frees its slot, but is not acknowledged: so many depths of flushes may be
 * under way together. It bounds what is acknowledged and not yet provable.
 */
const WINDOW_DEPTHS = 2

export class WriteWindow {
  readonly #depth: number
  #flushes: Flush[] = []
  #writing = 0

  constructor(depth: number) {
    this.#depth = depth
  }

  get isEmpty(): boolean {
    return this.#flushes.length === 0
  }

  get length(): number {
    return this.#flushes.length
  }

  get oldest(): Flush | undefined {
    return this.#flushes[0]
  }

  /** Whether a write of what waits may leave now. */
  mayLeave(waitingBytes: number): boolean {
    if (this.#writing >= this.#depth || this.#flushes.length >= WINDOW_DEPTHS * this.#depth) return false
    return this.#flushes.length === 0 || waitingBytes >= OVERLAP_BYTES_MIN
  }

  add(flush: Flush): void {
    this.#flushes.push(flush)
    this.#writing++
  }

  /** Its write has returned and is durable. True: it is the oldest, so that it can be acknowledged. */
  returned(flush: Flush): boolean {
    this.#writing--
    flush.done = true
    return this.#flushes[0] === flush
  }

  /** The oldest flush can be acknowledged. */
  get hasFinished(): boolean {
    return this.#flushes[0]?.done === true
  }

  /** Takes what can be acknowledged: those that have returned and before which none is missing. */
  takeFinished(): Flush[] {
    const finished: Flush[] = []
    while (this.#flushes[0]?.done === true) finished.push(this.#flushes.shift()!)
    return finished
  }

  /** Takes all: their segment is left, or the writer has ended, and what returns later of their writes is nobody's. */
  abandon(): Flush[] {
    const flushes = this.#flushes
    this.#flushes = []
    this.#writing = 0
    return flushes
  }
}
