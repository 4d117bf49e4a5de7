/**
 * Of which logs a log may hold segments: its own, and, when it is a copy, those of its origins (FORMAT 6.1). A copy
 * shares the finished segments of the log that it was copied from; they keep that log's id.
 */
import type { LogOrigin } from '../format/manifest.ts'
import type { SegmentHeader } from '../format/segment-header.ts'

/** A manifest is one. */
export interface Lineage {
  /** 32 hex digits. */
  readonly logId: string
  /** The oldest first, the forks ascending; empty: this log is not a copy. */
  readonly origins: readonly LogOrigin[]
}

/** What a segment that is begun now says in its header. */
export function originOf({ origins }: Lineage): Pick<SegmentHeader, 'originLogId' | 'forkLsn'> {
  const origin = origins.at(-1)
  return { originLogId: origin?.logId ?? null, forkLsn: origin?.forkLsn ?? 0 }
}

/**
 * Whether the header is that of a log of the lineage, in the range of LSNs that are that log's: from the fork before up to
 * its own.
 */
export function belongsTo({ logId, origins }: Lineage, header: Pick<SegmentHeader, 'logId' | 'baseLsn'>): boolean {
  let from = 0
  for (const origin of origins) {
    if (header.logId === origin.logId) return header.baseLsn >= from && header.baseLsn < origin.forkLsn
    from = origin.forkLsn
  }
  return header.logId === logId && header.baseLsn >= from
}
