/**
 * The producer numbers in PRODUCE of one connection (PROTOCOL 5). A connection may use 1,024 different pairs of group and
 * number, and there may be more transactions than that: a lane has a number only while frames of it are in flight.
 */
import { PLAIN_PRODUCER } from './plain-producer.ts'

/** Pairs of group and number that lanes use; every group has one number at least, and plain frames need theirs. */
const PAIRS_MAX = 512

export interface LaneNumber {
  readonly number: number
  /** Counted up by who holds it, never back. */
  generation: number
}

interface Group {
  made: number
  free: LaneNumber[]
  waiting: (() => void)[]
}

export class LaneNumbers {
  readonly #groups = new Map<number, Group>()
  #pairs = 0

  /** Null: all are taken; `onFree` is called once when it is worth asking again. */
  take(group: number, onFree: () => void): LaneNumber | null {
    const of = this.#group(group)
    const free = of.free.pop()
    if (free !== undefined) return free
    if (of.made > 0 && this.#pairs >= PAIRS_MAX) {
      of.waiting.push(onFree)
      return null
    }
    of.made++
    this.#pairs++
    return { number: PLAIN_PRODUCER + of.made, generation: 1 }
  }

  /** Everything that was sent with it is answered. */
  give(group: number, number: LaneNumber): void {
    const of = this.#group(group)
    of.free.push(number)
    of.waiting.shift()?.()
  }

  /** The connection is lost: those who wait look for another one. */
  close(): void {
    for (const { waiting } of this.#groups.values()) for (const onFree of waiting.splice(0)) onFree()
  }

  #group(group: number): Group {
    let of = this.#groups.get(group)
    if (of === undefined) {
      of = { made: 0, free: [], waiting: [] }
      this.#groups.set(group, of)
    }
    return of
  }
}
