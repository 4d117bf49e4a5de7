/** What compaction is asked for: thresholds, deadlines, and their check. */
import { TidelogError } from '../errors.ts'

export interface CompactionThresholds {
  /** A segment is written anew only when that saves so many bytes. Default 65,536. */
  savedBytesMin?: number | undefined
  /** And this part of its bytes, 0 to 1. Default 0.125. */
  savedShareMin?: number | undefined
}

/** Of an open log. */
export interface CompactionSettings extends CompactionThresholds {
  /** In the background: each sealed segment is looked at once, and written anew where it saves enough. Default true. */
  enabled?: boolean | undefined
}

export interface CompactOptions extends CompactionThresholds {
  /** Says what would be done, and does nothing. */
  dryRun?: boolean | undefined
  /** Ends it behind the frames at hand; the segments that are done stay so. */
  signal?: AbortSignal | undefined
  /** Called when a segment is looked at: its file. */
  onSegment?: ((file: string) => void) | undefined
}

export interface CheckedThresholds {
  savedBytesMin: number
  savedShareMin: number
}

export interface CheckedCompaction extends CheckedThresholds {
  enabled: boolean
}

const SAVED_BYTES_MIN = 64 * 1024
const SAVED_SHARE_MIN = 0.125

/** Throws INVALID_ARGUMENT. */
export function checkThresholds(given: CompactionThresholds): CheckedThresholds {
  const { savedBytesMin = SAVED_BYTES_MIN, savedShareMin = SAVED_SHARE_MIN } = given
  if (!Number.isSafeInteger(savedBytesMin) || savedBytesMin < 1) {
    throw new TidelogError('INVALID_ARGUMENT', `savedBytesMin is ${savedBytesMin}; it has to be an integer from 1 on`)
  }
  if (!(savedShareMin >= 0 && savedShareMin <= 1)) {
    throw new TidelogError('INVALID_ARGUMENT', `savedShareMin is ${savedShareMin}; it has to be from 0 to 1`)
  }
  return { savedBytesMin, savedShareMin }
}

/** Throws INVALID_ARGUMENT. */
export function checkCompaction(settings: CompactionSettings): CheckedCompaction {
  const { enabled = true } = settings
  if (typeof enabled !== 'boolean') throw new TidelogError('INVALID_ARGUMENT', 'compaction.enabled is true or false')
  return { enabled, ...checkThresholds(settings) }
}
