/** The errors of appends, each with what became of the append. */
import { type Disk, type DiskError, isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { FormatError } from '../format/format-error.ts'

/** Of an append that waits when the log fails. */
export function notWritten(error: TidelogError): TidelogError {
  return new TidelogError(error.code, error.message, {
    outcome: 'not-written',
    retriable: error.retriable,
    cause: error,
  })
}

/** Of an append that is under way when the log fails. */
export function unknownOutcome(error: TidelogError): TidelogError {
  return new TidelogError(error.code, `${error.message} It is not known whether this append is durable.`, {
    outcome: 'unknown',
    cause: error,
  })
}

/** What `planBody` refuses, in the terms of the engine's border. */
export function refused(error: unknown): TidelogError {
  if (error instanceof TidelogError) return error
  if (error instanceof FormatError && (error.code === 'INVALID_ARGUMENT' || error.code === 'LIMIT_EXCEEDED')) {
    return new TidelogError(error.code, error.message, { outcome: 'not-written', cause: error })
  }
  return new TidelogError('INVALID_ARGUMENT', String(error), { outcome: 'not-written', cause: error })
}

export function payloadChanged(): TidelogError {
  return new TidelogError(
    'INVALID_ARGUMENT',
    'a payload was changed in length (or its buffer was given away) before its append settled',
    { outcome: 'not-written' },
  )
}

export function fencedAway(directory: string): TidelogError {
  return new TidelogError(
    'FENCED',
    `a newer owner has opened the log in ${directory}; nothing is acknowledged any more`,
    { outcome: 'unknown' },
  )
}

/** Whether there is nothing at the path; in doubt not. */
export function isGone(disk: Disk, directory: string): boolean {
  try {
    return !disk.existsSync(directory)
  } catch {
    return false
  }
}

/** The directory was removed or moved while the log was open. */
export function directoryGone(directory: string): TidelogError {
  return new TidelogError(
    'IO_FAILED',
    `the directory ${directory} is gone, and the log with it. Nothing is acknowledged any more. Put the directory back where it was, or restore it from a backup, then open the log again.`,
    { file: directory, outcome: 'unknown' },
  )
}

export function diskDoesNotAnswer(directory: string): TidelogError {
  return new TidelogError('TIMEOUT', `the disk under ${directory} does not answer`, { outcome: 'unknown' })
}

/** `what` happened for want of space; `unknown` when a crash may still bring the records to light. */
export function noSpace(
  what: 'refused' | 'cut clean' | 'cut' | 'cannot be moved',
  directory: string,
  cause: unknown,
): TidelogError {
  const message = {
    refused: `no space for the log in ${directory}. Nothing was written; make room and send again.`,
    'cut clean': `no space in ${directory}; make room and send again`,
    cut: `no space in ${directory}; make room and look whether the records are there`,
    'cannot be moved': `a write did not return, and there is no space to write it again in ${directory}; make room and look whether the records are there`,
  }[what]
  const outcome = what === 'refused' || what === 'cut clean' ? 'not-written' : 'unknown'
  return new TidelogError('DISK_FULL', message, { outcome, retriable: true, cause })
}

/**
 * What ends a writer: which call on which file failed with what, in which log, what is safe, and what to do. `file`: where
 * the file is now; one that came from the pool was opened under another name.
 */
export function asFailure(error: unknown, directory: string, file?: string): TidelogError {
  if (error instanceof TidelogError) return error
  const path = isDiskError(error) ? (file ?? error.path) : undefined
  const what = isDiskError(error)
    ? `${error.operation} of ${path} failed with ${error.code}`
    : `the writer failed (${error instanceof Error ? error.message : String(error)})`
  return new TidelogError(
    'POISONED',
    `${what}; the log in ${directory} takes no more writes. What was acknowledged is safe and can be read; what was under way may or may not be in the log. Look at the disk and at the kernel's log, then open the log again (restart the daemon): that recovers it.`,
    { file: path, cause: error },
  )
}

/** The failure of the disk beneath an error; null where there is none. */
export function diskErrorOf(error: unknown): DiskError | null {
  let at = error
  for (let depth = 0; depth < 8 && at instanceof Error; depth++) {
    if (isDiskError(at)) return at
    at = at.cause
  }
  return null
}
