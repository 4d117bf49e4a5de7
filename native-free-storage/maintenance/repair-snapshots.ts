/**
 * Snapshots (FORMAT 12) of a log that is repaired. Each stands behind a frame: as long as that is in the log it stays,
 * also where records below it are lost, which were acknowledged and count as written. Where the frame is gone, as
 * everything is behind the cut of a point-in-time repair, it speaks of a log that is no more, and goes to the quarantine.
 */
import { parseSnapshotFileName } from '../format/snapshot.ts'
import type { LsnRange } from './repair-frames.ts'

/** Names of those that stand behind an LSN of these ranges. */
export function snapshotsBehind(names: readonly string[], gone: readonly LsnRange[]): string[] {
  return names.filter((name) => {
    const lsn = parseSnapshotFileName(name)
    return lsn !== null && gone.some(({ lsnFrom, lsnTo }) => lsn - 1 >= lsnFrom && lsn - 1 <= lsnTo)
  })
}
