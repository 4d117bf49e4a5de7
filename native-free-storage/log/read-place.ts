/** Where a reader stands. */
import { TidelogError } from '../errors.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { DurableEnd, SegmentEntry } from './log-view.ts'

export interface Place {
  segment: SegmentEntry
  position: number
  /** That comes next there. */
  lsn: number
  /** Undefined: not known here. */
  chain: bigint | undefined
}

export function placeAt(end: DurableEnd): Place {
  return { segment: end.segment, position: end.position, lsn: end.nextLsn, chain: undefined }
}

export function startOf(segment: SegmentEntry): Place {
  return { segment, position: SEGMENT_HEADER_BYTES, lsn: segment.baseLsn, chain: undefined }
}

/** `lsn` is asked for, and the log begins behind it. */
export function truncatedAway(lsn: number, firstLsn: number): TidelogError {
  const message = `LSN ${lsn} was truncated away; the log begins with LSN ${firstLsn}`
  return new TidelogError('POSITION_TRUNCATED', message, { lsn, lsnFrom: firstLsn })
}
