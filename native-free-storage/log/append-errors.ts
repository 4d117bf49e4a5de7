/** The errors of appends, each with what became of the append. */
import { isDiskError } from '../disk/disk.ts'
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

export function fencedAway(): TidelogError {
  return new TidelogError('FENCED', 'a newer owner has opened the log; nothing is acknowledged any more', {
    outcome: 'unknown',
  })
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

/** What ends a writer. */
export function asFailure(error: unknown): TidelogError {
  if (error instanceof TidelogError) return error
  const path = isDiskError(error) ? error.path : undefined
  return new TidelogError(
    'POISONED',
    `A write or sync failed (${error instanceof Error ? error.message : String(error)}). What was acknowledged before is safe; close the log and open it again.`,
    { file: path, cause: error },
  )
}
