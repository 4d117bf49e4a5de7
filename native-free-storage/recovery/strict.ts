/**
 * `recovery: strict`: a log is opened only when all that its last writer may have acknowledged is provably there. The
 * rule stands beside the table of docs/FORMAT.md section 10, and is judged before anything is changed.
 */
import { TidelogError } from '../errors.ts'
import { FrameKind } from '../format/frame-header.ts'
import type { TailVerdict } from './classify.ts'
import type { FoundTail } from './find-tail.ts'

/** What speaks against an opening without recovery; null: nothing. A damaged tail is refused in every mode. */
export function strictObjection(
  verdict: Exclude<TailVerdict, 'damaged'>,
  closed: boolean,
  hasUnprovenRecords: boolean,
): 'torn' | 'unproven' | null {
  // The manifest or a seal says where it ends, and that all of it is durable.
  if (closed || verdict === 'sealed') return null
  if (verdict === 'torn') return 'torn'
  return hasUnprovenRecords ? 'unproven' : null
}

/** Throws RECOVERY_REFUSED. */
export function refuseRecovery(tail: FoundTail): void {
  const { entry, end, proven, closed, verdict, because, nextLsnBehind } = tail
  // A marker and a fence say something of the frames before them; they are nothing that can be lost.
  const records = tail.unproven.filter(
    ({ header: { kind } }) => kind !== FrameKind.durableMarker && kind !== FrameKind.fence,
  )
  const objection = strictObjection(verdict, closed, records.length > 0)
  if (objection === null) return
  const place = objection === 'torn' ? end.position : proven.position
  const upTo = Math.max(end.nextLsn, nextLsnBehind)
  const what =
    objection === 'torn'
      ? `ends at position ${place} with bytes that are no frame: ${because}`
      : `holds frames from position ${place} on of which nothing proves that they are all`
  const lsns = upTo > proven.nextLsn ? ` (LSN ${proven.nextLsn} to ${upTo - 1})` : ` (proven up to LSN ${upTo - 1})`
  throw new TidelogError(
    'RECOVERY_REFUSED',
    `${entry.name} ${what}${lsns}. Its last writer did not close the log, and recovery is "strict". Nothing was changed. Run "tidelog verify"; then open it with --recovery tail, which keeps every whole frame.`,
    {
      file: entry.name,
      position: place,
      lsnFrom: proven.nextLsn,
      lsnTo: upTo > proven.nextLsn ? upTo - 1 : undefined,
    },
  )
}
