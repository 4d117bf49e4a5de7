/** What a writer works with, and what the recovery hands it. */
import type { BodyLimits } from '../format/body-plan.ts'
import type { SegmentHeader } from '../format/segment-header.ts'
import type { FilePool } from '../segment/file-pool.ts'
import type { WriteMode } from '../segment/segment-writer.ts'
import type { LogDurability } from './log-options.ts'
import type { SegmentEntry } from './log-view.ts'
import type { BegunSegment, SegmentFileSettings } from './segment-files.ts'
import type { Tidy } from './segment-tidying.ts'

export interface WriterSettings extends SegmentFileSettings {
  pool: FilePool
  durability: LogDurability
  mode: WriteMode
  depth: number
  segmentBytes: number
  writeDeadlineMs: number
  queueBytes: number
  whenFull: 'wait' | 'reject'
  limits: BodyLimits
  alignment: number
}

/** The end of what is durable and acknowledged, in the active segment. */
export interface DurablePoint {
  position: number
  chain: bigint
  nextLsn: number
  lastTimeTick: bigint
}

/** A segment that nothing is written to any more, and which the next one follows. */
export interface Predecessor {
  entry: SegmentEntry
  /** The header's own predecessor: what the next one names instead when this one holds no frame. */
  header: Pick<SegmentHeader, 'previous'>
  end: number
  chain: bigint
  /** The id that its seal names for the next one. */
  nextSegmentId: string | null
  /** From here on the file is zeros and may be trimmed; undefined: leave it as it is. */
  zeroFrom: number | undefined
}

export interface CarriedOver {
  segment: BegunSegment
  durable: DurablePoint
}

/** Copies what was not proven into a new segment and publishes it; may be tried again after it failed. */
export type CarryOver = () => Promise<CarriedOver>

export interface WriterStart {
  nextLsn: number
  lastTimeTick: bigint
  predecessor: Predecessor | null
  /** To be done before anything else is written; null: there is nothing to copy. */
  carryOver: CarryOver | null
  /** Of what `carryOver` is going to copy; null: there is nothing. */
  firstUnprovenTick: bigint | null
  /** Written before anything else: LSNs that may have been given and are not in the log. */
  gapCount: number
  /** Indexes that the recovery found missing and could not make. */
  lateIndexes: readonly Tidy[]
}
