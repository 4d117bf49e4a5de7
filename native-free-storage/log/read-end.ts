/**
 * How far a read goes: one that follows goes on for ever, any other up to what was durable when it was started.
 */
import type { DurableEnd, SegmentEntry } from './log-view.ts'
import type { Place } from './read-place.ts'
import type { RecordFrame } from './record-frame.ts'

export class ReadEnd {
  readonly #follows: boolean
  /** Stored time ticks are wanted, too. */
  readonly #wantsTicks: boolean
  /** Null: nothing was durable. */
  readonly #end: DurableEnd | null

  constructor(durableEnd: DurableEnd | null, { follow, ticks }: { follow: boolean; ticks: boolean }) {
    this.#end = durableEnd
    this.#follows = follow
    this.#wantsTicks = ticks
  }

  /** There was nothing to read. */
  get isEmpty(): boolean {
    return !this.#follows && this.#end === null
  }

  /** The end, where it lies in the file of `segment`. */
  within(segment: SegmentEntry): DurableEnd | null {
    return !this.#follows && this.#end?.segment === segment ? this.#end : null
  }

  isReached(place: Place): boolean {
    if (this.#follows) return false
    const end = this.#end
    if (end === null || place.lsn > end.nextLsn) return true
    if (place.lsn < end.nextLsn) return false
    if (place.segment === end.segment) return place.position >= end.position
    // Ticks may follow, in a segment that holds no record yet, or in the file that took the place of the one of the end.
    return !(this.#wantsTicks && place.segment.baseLsn <= end.segment.baseLsn)
  }

  /** A file that was replaced since the read began does not say where it was to end; the LSN does. */
  excludes({ kind, baseLsn }: RecordFrame): boolean {
    const end = this.#end
    if (this.#follows || end === null) return false
    return kind === 'tick' ? baseLsn > end.nextLsn : baseLsn >= end.nextLsn
  }
}
