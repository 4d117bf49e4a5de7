/** The typed header of a record: fields of Milvus's message in, the text of the property `_h` out, and back. */
import { TidelogError } from '../errors.ts'
import { decodeHeader, encodeHeader } from '../message/message-header.ts'

/** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED, not written, naming the field. */
export function encodeRecordHeader(type: number, header: Readonly<Record<string, unknown>>): string {
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new TidelogError<string>('INVALID_ARGUMENT', 'a header is an object of fields', { outcome: 'not-written' })
  }
  return encodeHeader(type, header)
}

/** Undefined for a type without a typed header. Throws FRAME_DAMAGED. */
export function decodeRecordHeader(
  type: number,
  text: string,
  lsn: number,
): Readonly<Record<string, unknown>> | undefined {
  try {
    return decodeHeader(type, text)
  } catch (cause) {
    throw new TidelogError<string>('FRAME_DAMAGED', `the header of the record at LSN ${lsn} is damaged`, {
      lsn,
      cause,
    })
  }
}
