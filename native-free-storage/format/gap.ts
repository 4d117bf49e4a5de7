/**
 * The body of a gap frame, 16 bytes (FORMAT 3.2).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | number of LSNs skipped, 1 or more |
 * | 8 | 4 | reason: 1 void, 2 lost, 3 leased |
 * | 12 | 4 | reserved |
 */
import { damaged, FormatError, unknownFormat } from './format-error.ts'
import { readU64, writeU64 } from './integers.ts'

export const GAP_BODY_BYTES = 16

const COUNT = 0
const REASON = 8
const RESERVED = 12

/** `void`: given and never used; `lost`: acknowledged and gone; `leased`: perhaps given before the machine went down. */
export type GapReason = 'void' | 'lost' | 'leased'

const reasons: readonly (GapReason | undefined)[] = [undefined, 'void', 'lost', 'leased']

export interface Gap {
  /** Number of LSNs skipped. */
  count: number
  reason: GapReason
}

export function encodeGap({ count, reason }: Gap): Buffer {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new FormatError('INVALID_ARGUMENT', `a gap of ${count} LSNs`)
  }
  const bytes = Buffer.alloc(GAP_BODY_BYTES)
  writeU64(bytes, COUNT, count)
  bytes.writeUInt32LE(reasons.indexOf(reason), REASON)
  return bytes
}

/** The body hash has been compared before. Throws DAMAGED, or FORMAT_UNKNOWN for another reason. */
export function decodeGap(bytes: Buffer): Gap {
  if (bytes.length !== GAP_BODY_BYTES) throw damaged(`the body of a gap frame has ${bytes.length} bytes`)
  const count = readU64(bytes, COUNT)
  if (count === 0) throw damaged('a gap of no LSN', COUNT)
  const reason = reasons[bytes.readUInt32LE(REASON)]
  if (reason === undefined) throw unknownFormat(`the gap has the reason ${bytes.readUInt32LE(REASON)}`, REASON)
  if (bytes.readUInt32LE(RESERVED) !== 0) throw damaged('the gap has bytes where none are defined', RESERVED)
  return { count, reason }
}
