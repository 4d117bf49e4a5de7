/**
 * A log as a repair sees it: one slot after the other, from its first LSN to its last. A slot is what is there of a
 * segment, or a hole where one is missing.
 */
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import type { LsnRange, SegmentBounds } from './repair-frames.ts'
import type { Candidate } from './repair-order.ts'

export interface Slot {
  /** Null: a hole. */
  candidate: Candidate | null
  baseLsn: number
  bounds: SegmentBounds
  /** It can stay as it is, if its neighbours agree. */
  isSound: boolean
  /** In words; of one that is not sound. */
  fault: string
  end: SegmentEnd
  lost: LsnRange[]
  /** Up to here what is not there is lost, and above may have been given. */
  knownNextLsn: number
  nextLsn: number
}

/** `from` up to `behind`, that one left out. */
export function rangeOf(from: number, behind: number): LsnRange {
  return { lsnFrom: from, lsnTo: behind - 1 }
}

/** A segment that is missing. */
export function hole(baseLsn: number, nextLsn: number): Slot {
  return {
    candidate: null,
    baseLsn,
    bounds: { endPosition: SEGMENT_HEADER_BYTES, nextLsn },
    isSound: false,
    fault: 'it is missing',
    end: { position: SEGMENT_HEADER_BYTES, chain: 0n, nextLsn },
    lost: nextLsn > baseLsn ? [rangeOf(baseLsn, nextLsn)] : [],
    knownNextLsn: nextLsn,
    nextLsn,
  }
}

/** What is lost at or above `firstLsn`, ascending, neighbours as one. */
export function lostRanges(slots: readonly Slot[], firstLsn: number): LsnRange[] {
  const merged: LsnRange[] = []
  for (const { lsnFrom: from, lsnTo } of slots.flatMap(({ lost }) => lost)) {
    const lsnFrom = Math.max(from, firstLsn)
    if (lsnFrom > lsnTo) continue
    const last = merged.at(-1)
    if (last !== undefined && last.lsnTo + 1 === lsnFrom) last.lsnTo = lsnTo
    else merged.push({ lsnFrom, lsnTo })
  }
  return merged
}

/** Everything from `lsn` on goes; one gap covers it. */
export function cutAt(slots: readonly Slot[], lsn: number): Slot[] {
  const end = slots.at(-1)!
  const at = slots.findIndex((slot) => lsn < slot.nextLsn || slot === end)
  const cut = slots[at]!
  const { knownNextLsn, nextLsn } = end
  const isWhole = cut.candidate === null || cut.baseLsn >= lsn
  return [
    ...slots.slice(0, at),
    {
      ...cut,
      candidate: isWhole ? null : cut.candidate,
      bounds: { ...cut.bounds, nextLsn: lsn },
      isSound: false,
      fault: `the log is cut at LSN ${lsn}, where its first damage is`,
      lost: [rangeOf(lsn, knownNextLsn)],
      knownNextLsn,
      nextLsn,
    },
  ]
}

/** Where nothing is left of a segment and the next one is missing, one gap takes the place of both: no two begin alike. */
export function withoutEmpty(slots: readonly Slot[]): Slot[] {
  return slots.filter((slot, index) => {
    const next = slots[index + 1]
    return slot.nextLsn > slot.baseLsn || next?.candidate !== null || next.baseLsn !== slot.baseLsn
  })
}
