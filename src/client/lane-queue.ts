/** Appends of a lane that are in no frame yet, in the order in which they go. */
import type { AppendEntry } from './append-entry.ts'
import { gap } from './kept-frame.ts'

/** Singles are gathered up to here: larger frames gain nothing more. */
const GATHER_BYTES = 1024 * 1024
const GATHER_RECORDS = 8192
/** Of places in front that are used up; then they are cut off. */
const USED_MAX = 4096

export class LaneQueue {
  #entries: AppendEntry[] = []
  #head = 0

  get isEmpty(): boolean {
    return this.#head === this.#entries.length
  }

  push(entry: AppendEntry): void {
    this.#entries.push(entry)
  }

  /** They go before all others. */
  putBack(entries: readonly AppendEntry[]): void {
    this.#entries = entries.concat(this.#entries.slice(this.#head))
    this.#head = 0
  }

  /**
   * Takes what the next frame is made of: a batch, one that goes alone, or singles up to a bound; empty: there is nothing.
   * Those that cannot go any more fail: a number behind `next`, the one of the next record, leaves a gap.
   */
  gather(next: number, bodyBytesMax: number): AppendEntry[] {
    const gathered: AppendEntry[] = []
    const bytesMax = Math.min(GATHER_BYTES, bodyBytesMax / 2)
    let bytes = 0
    let number = next
    while (this.#head < this.#entries.length) {
      const entry = this.#entries[this.#head]!
      if (entry.doomed && !entry.settled) entry.failBehind()
      if (!entry.settled && entry.sequence > number) entry.fail(gap(entry.sequence, number))
      if (entry.settled) {
        this.#head++
        continue
      }
      const isRepeat = entry.sequence > 0 && entry.sequence < number
      const single = entry.isBatch || entry.alone || entry.barrierTick > 0n || isRepeat
      if (gathered.length > 0 && (single || bytes + entry.bytes > bytesMax || gathered.length >= GATHER_RECORDS)) break
      gathered.push(entry)
      bytes += entry.bytes
      number += entry.count
      this.#head++
      if (single) break
    }
    return gathered
  }

  /** Lets go of those that were taken, now and then. */
  trim(): void {
    if (this.#head <= USED_MAX || this.#head * 2 <= this.#entries.length) return
    this.#entries = this.#entries.slice(this.#head)
    this.#head = 0
  }

  /** Those that still wait and whose time is over. */
  late(nowMs: number): AppendEntry[] {
    const late: AppendEntry[] = []
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index]!
      if (!entry.settled && entry.deadlineMs <= nowMs) late.push(entry)
    }
    return late
  }

  /** Takes all. */
  drain(): AppendEntry[] {
    const entries = this.#entries.slice(this.#head)
    this.#entries = []
    this.#head = 0
    return entries
  }
}
