/** A frame that is kept until it is answered, and what an answer means for it. */
import { TidelogError } from '../errors.ts'
import type { AppendEntry } from './append-entry.ts'

export interface KeptFrame {
  readonly entries: readonly AppendEntry[]
  readonly first: number
  readonly count: number
  /** Records that were numbered before: its numbers are not the newest ones. */
  readonly isRepeat: boolean
  readonly message: Buffer
  readonly bodyHash: bigint
  readonly barrierTick: bigint
  inFlight: boolean
  mayBeWritten: boolean
  refusal: TidelogError<string> | null
}

/**
 * These judge the frame or its lane: trying again gives the same answer. Everything else that befalls a frame that may be
 * written is tried again until its time is over.
 */
const verdicts: ReadonlySet<string> = new Set([
  'INVALID_ARGUMENT',
  'INVALID_BODY',
  'LIMIT_EXCEEDED',
  'PRODUCER_FENCED',
  'PRODUCER_UNKNOWN',
  'PROTOCOL_VIOLATION',
  'SEQUENCE_FORGOTTEN',
  'SEQUENCE_GAP',
  'SEQUENCE_STRADDLED',
  'TICK_TOO_FAR_AHEAD',
  'TRANSACTION_ABORTED',
  'TRANSACTION_EXPIRED',
  'TRANSACTION_STATE',
  'WINDOW_LOST',
])

/** Whether trying the frame again is of no use. */
export function isVerdict(frame: KeptFrame, error: TidelogError<string>): boolean {
  return verdicts.has(error.code) || (!frame.mayBeWritten && !error.retriable)
}

/** After these a producer can write no more, whatever the record. */
export const endsProducer: ReadonlySet<string> = new Set([
  'PRODUCER_FENCED',
  'PRODUCER_UNKNOWN',
  'SEQUENCE_FORGOTTEN',
  'SEQUENCE_GAP',
  'SEQUENCE_STRADDLED',
  'WINDOW_LOST',
])

export function gap(sequence: number, next: number): TidelogError<string> {
  const message = `the sequence ${sequence} does not follow the last one: ${next} is the next`
  return new TidelogError<string>('SEQUENCE_GAP', message, { outcome: 'not-written' })
}
