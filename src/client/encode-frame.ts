/** From entries to the bytes of a PRODUCE, but for its header and meta: the only time that a record is encoded. */
import { planBody, type RecordInput, writeBody } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { BODY_BYTES_MAX, RECORDS_MAX } from '../protocol/limits.ts'
import { PRODUCE_BODY_AT } from '../protocol/produce-messages.ts'
import { fromFormatError } from '../protocol/wire-error.ts'
import { type AppendEntry, withOutcome } from './append-entry.ts'
import type { ClientConnection } from './connection.ts'

export interface EncodedFrame {
  /** The whole message; header and meta are not written yet. */
  message: Buffer
  recordCount: number
  bodyHash: bigint
}

/** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED, not written, when one of the entries cannot be encoded. */
export function encodeFrame(
  connection: ClientConnection,
  entries: readonly AppendEntry[],
  contexts: readonly Uint8Array[],
): EncodedFrame {
  const limits = {
    recordBytesMax: connection.welcome.recordBytesMax,
    recordsMax: RECORDS_MAX,
    bodyBytesMax: Math.min(connection.welcome.bodyBytesMax, BODY_BYTES_MAX),
    vchannelBytesMax: 255,
  }
  try {
    const plan = planBody(recordsOf(entries), limits, contexts)
    const message = Buffer.allocUnsafe(PRODUCE_BODY_AT + plan.bodyBytes)
    const bodyHash = writeBody(plan, message, PRODUCE_BODY_AT)
    return { message, recordCount: plan.recordCount, bodyHash }
  } catch (error) {
    throw asNotWritten(fromFormatError(error))
  }
}

function recordsOf(entries: readonly AppendEntry[]): readonly RecordInput[] {
  if (entries.length === 1 && entries[0]!.isBatch) return entries[0]!.records as readonly RecordInput[]
  const records: RecordInput[] = []
  for (const entry of entries) {
    if (entry.isBatch) for (const record of entry.records as readonly RecordInput[]) records.push(record)
    else records.push(entry.records as RecordInput)
  }
  return records
}

function asNotWritten(error: unknown): TidelogError<string> {
  if (error instanceof TidelogError) return withOutcome(error as TidelogError<string>, 'not-written')
  return new TidelogError<string>('INVALID_ARGUMENT', (error as Error).message, {
    outcome: 'not-written',
    cause: error,
  })
}
