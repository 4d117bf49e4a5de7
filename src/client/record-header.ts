/** The typed header of a record: fields of Milvus's message in, the text of the property `_h` out, and back. */
import { TidelogError } from '../errors.ts'

/** Throws INVALID_ARGUMENT, not written, naming the field. */
export function encodeRecordHeader(type: number, _header: Readonly<Record<string, unknown>>): string {
  throw new TidelogError<string>('INVALID_ARGUMENT', `records of type ${type} have no header`, {
    outcome: 'not-written',
  })
}

/** Throws FRAME_DAMAGED. */
export function decodeRecordHeader(type: number, _text: string, lsn: number): Readonly<Record<string, unknown>> {
  throw new TidelogError<string>('FRAME_DAMAGED', `the header of the record at LSN ${lsn} of type ${type}`, { lsn })
}
