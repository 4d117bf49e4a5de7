/**
 * What the readers of a log see of it: the border between the writing side (append, roll, open, truncate) and the
 * reading side (files, index, cache, readers). The writing side owns and changes it; readers only look.
 */
import type { FrameCache } from '../cache/frame-cache.ts'
import type { Environment } from '../environment.ts'
import type { TidelogError } from '../errors.ts'
import type { LogOrigin } from '../format/manifest.ts'
import type { SegmentIndexBuilder } from '../segment/sparse-index.ts'

/** Where a segment ends, for readers: nothing at or behind `position` belongs to the log. */
export interface SegmentEnd {
  position: number
  /** Header checksum of the last frame before `position` (of the segment header when there is none). */
  chain: bigint
  nextLsn: number
}

/** A file of the log. One object a file for as long as the log is open; compared by identity. */
export interface SegmentEntry {
  /** 16 lower-case hex digits. */
  readonly id: string
  readonly baseLsn: number
  /** File name in the log's directory. */
  readonly name: string
  /** Undefined: the active segment, or not looked up yet (then the successor's header tells it). */
  end: SegmentEnd | undefined
  /** The index in memory: of the active segment, and of a sealed one until its file is written. */
  building: SegmentIndexBuilder | undefined
  /**
   * Set when another file has taken its place in the log, with the same records: it was compacted, or held no LSN when
   * the next one was begun. Who has the file open reads it to its end; everybody else goes on in the other one.
   */
  replacedBy?: SegmentEntry | undefined
}

/** The end of what may be read: every frame before it is durable at the log's level of durability. */
export interface DurableEnd {
  readonly segment: SegmentEntry
  readonly position: number
  readonly nextLsn: number
  /** The last tick given to a record or a stored time tick at or before this end; 0n if there is none. */
  readonly lastTimeTick: bigint
}

export interface LogView {
  readonly environment: Environment
  readonly directory: string
  /** 32 hex digits. */
  readonly logId: string
  /** The logs that this one is a copy of: their segments are its own up to the fork. */
  readonly origins: readonly LogOrigin[]
  /** In LSN order. Replaced when it changes, never mutated: a reader may hold a snapshot. */
  readonly segments: readonly SegmentEntry[]
  /** Null while the log has no segment. Replaced as a whole. */
  readonly durableEnd: DurableEnd | null
  /** Records below it have been truncated away. */
  readonly firstLsn: number
  readonly cache: FrameCache
  /** Set once: why nothing more will come (closed, failed, fenced). Readers drain what is durable, then stop: `CLOSED` ends them quietly, any other error is thrown. */
  readonly ended: TidelogError | null
  /**
   * Settles as soon as `durableEnd`, `firstLsn` or `ended` differs from what it was when this was called. One shared
   * promise for all who wait. Never polls.
   */
  changed(): Promise<void>
}
