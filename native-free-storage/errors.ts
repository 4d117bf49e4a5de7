/**
 * The one error class of the engine. Its code is stable and closed; docs/ERRORS.md lists each code with what it
 * means, what is still safe and what to do.
 */

/** Every code that the engine throws. Kept in step with docs/ERRORS.md by a test. */
export const storageErrorCodes = [
  'ABORTED',
  'BACKUP_INCOMPLETE',
  'CLOSED',
  'DIRECTORY_UNFIT',
  'DISK_FULL',
  'DISK_NEARLY_FULL',
  'FENCED',
  'FORMAT_UNKNOWN',
  'FRAME_DAMAGED',
  'FRAME_INVALID',
  'INVALID_ARGUMENT',
  'IO_FAILED',
  'LIMIT_EXCEEDED',
  'LOCKED',
  'LOG_DAMAGED',
  'LOG_MISSING',
  'MANIFEST_DAMAGED',
  'MANIFEST_MISSING',
  'PLATFORM_UNSUPPORTED',
  'POISONED',
  'POSITION_TRUNCATED',
  'QUEUE_FULL',
  'READ_ONLY',
  'RECOVERY_REFUSED',
  'SEGMENT_MISSING',
  'TERM_STALE',
  'TICK_TOO_FAR_AHEAD',
  'TIMEOUT',
  'UNDO_REFUSED',
] as const

export type StorageErrorCode = (typeof storageErrorCodes)[number]

/**
 * What an append that failed has left behind: `not-written` (safe to send again) or `unknown` (it may or may not
 * be in the log).
 */
export type AppendOutcome = 'not-written' | 'unknown'

export interface ErrorDetails {
  /** Path of the file, relative to the log's directory where it has one. */
  file?: string | undefined
  /** Byte position in `file`. */
  position?: number | undefined
  lsn?: number | undefined
  lsnFrom?: number | undefined
  lsnTo?: number | undefined
  outcome?: AppendOutcome | undefined
  /** Whether the same call can succeed later without anything being repaired. */
  retriable?: boolean | undefined
  cause?: unknown
}

export class TidelogError<Code extends string = StorageErrorCode> extends Error {
  readonly code: Code
  readonly retriable: boolean
  readonly outcome: AppendOutcome | undefined
  readonly file: string | undefined
  readonly position: number | undefined
  readonly lsn: number | undefined
  readonly lsnFrom: number | undefined
  readonly lsnTo: number | undefined

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    // What the platform calls an error by which an AbortSignal ends a wait.
    this.name = code === 'ABORTED' ? 'AbortError' : 'TidelogError'
    this.code = code
    this.retriable = details.retriable ?? false
    this.outcome = details.outcome
    this.file = details.file
    this.position = details.position
    this.lsn = details.lsn
    this.lsnFrom = details.lsnFrom
    this.lsnTo = details.lsnTo
  }
}

/** Reports a broken invariant of our own code: never an answer to bad input. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`)
}
