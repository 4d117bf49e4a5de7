/**
 * The node section of a records frame: what only the node that received it knows (FORMAT 3.4). Nothing at all, or:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | number of stamps |
 * | 4 | 4 | length of the void bitmap without padding: 0, or (record count + 7) >> 3 |
 * | 8 | | stamps: u32 record index, u16 key, u16 value length, value, zeros to a multiple of 8 |
 * | | | void bitmap: bit (i & 7) of byte (i >> 3); zeros to a multiple of 8 |
 *
 * Stamps are in ascending order of record index, then key; no pair stands twice.
 */
import { damaged, FormatError } from './format-error.ts'
import { asBuffer, isAllZero, paddedTo8 } from './integers.ts'

const STAMP_COUNT = 0
const BITMAP_LENGTH = 4
const HEADER_BYTES = 8

const STAMP_RECORD = 0
const STAMP_KEY = 4
const STAMP_VALUE_LENGTH = 6
const STAMP_HEADER_BYTES = 8

export interface Stamp {
  /** Index of the record in its frame. */
  record: number
  /** u16 */
  key: number
  /** At most 65,535 bytes. */
  value: Uint8Array
}

export interface NodeSectionInput {
  recordCount: number
  stamps: readonly Stamp[]
  /** Indexes of void records. */
  voids: readonly number[]
}

/** Without stamps and voids: no bytes. */
export function encodeNodeSection({ recordCount, stamps, voids }: NodeSectionInput): Buffer {
  if (stamps.length === 0 && voids.length === 0) return Buffer.alloc(0)
  const ordered = stamps.toSorted(compareStamps)
  const bitmapLength = voids.length === 0 ? 0 : (recordCount + 7) >> 3
  let length = HEADER_BYTES + paddedTo8(bitmapLength)
  for (const stamp of ordered) length += STAMP_HEADER_BYTES + paddedTo8(stamp.value.length)
  const bytes = Buffer.alloc(length)
  bytes.writeUInt32LE(ordered.length, STAMP_COUNT)
  bytes.writeUInt32LE(bitmapLength, BITMAP_LENGTH)
  let at = HEADER_BYTES
  let previous: Stamp | undefined
  for (const stamp of ordered) {
    checkRecordIndex(stamp.record, recordCount)
    if (previous !== undefined && compareStamps(previous, stamp) === 0) {
      throw new FormatError('INVALID_ARGUMENT', `record ${stamp.record} has two stamps of key ${stamp.key}`)
    }
    bytes.writeUInt32LE(stamp.record, at + STAMP_RECORD)
    bytes.writeUInt16LE(stamp.key, at + STAMP_KEY)
    bytes.writeUInt16LE(stamp.value.length, at + STAMP_VALUE_LENGTH)
    bytes.set(stamp.value, at + STAMP_HEADER_BYTES)
    at += STAMP_HEADER_BYTES + paddedTo8(stamp.value.length)
    previous = stamp
  }
  for (const record of voids) {
    checkRecordIndex(record, recordCount)
    bytes[at + (record >> 3)]! |= 1 << (record & 7)
  }
  return bytes
}

export class NodeSection {
  readonly stamps: readonly Stamp[]
  private readonly bitmap: Uint8Array

  constructor(stamps: readonly Stamp[], bitmap: Uint8Array) {
    this.stamps = stamps
    this.bitmap = bitmap
  }

  /** A void record keeps its LSN and tick; readers skip it. */
  isVoid(record: number): boolean {
    return ((this.bitmap[record >> 3] ?? 0) & (1 << (record & 7))) !== 0
  }

  get hasVoids(): boolean {
    return this.bitmap.length > 0
  }
}

/** The hash has been compared before. The values of the stamps are views of `bytes`. Throws DAMAGED. */
export function decodeNodeSection(bytes: Uint8Array, recordCount: number): NodeSection {
  const source = asBuffer(bytes)
  if (source.length === 0) return new NodeSection([], source)
  if (source.length < HEADER_BYTES) throw damaged(`a node section of ${source.length} bytes`, 0)
  const stampCount = source.readUInt32LE(STAMP_COUNT)
  const bitmapLength = source.readUInt32LE(BITMAP_LENGTH)
  if (bitmapLength !== 0 && bitmapLength !== (recordCount + 7) >> 3) {
    throw damaged(`a void bitmap of ${bitmapLength} bytes for ${recordCount} records`, BITMAP_LENGTH)
  }
  if (HEADER_BYTES + stampCount * STAMP_HEADER_BYTES + paddedTo8(bitmapLength) > source.length) {
    throw damaged(`${stampCount} stamps do not fit the node section`, STAMP_COUNT)
  }
  const stamps: Stamp[] = []
  let at = HEADER_BYTES
  let previous: Stamp | undefined
  for (let index = 0; index < stampCount; index++) {
    if (at + STAMP_HEADER_BYTES > source.length) throw damaged(`stamp ${index} lies beyond the node section`, at)
    const valueAt = at + STAMP_HEADER_BYTES
    const valueEnd = valueAt + source.readUInt16LE(at + STAMP_VALUE_LENGTH)
    const end = paddedTo8(valueEnd)
    if (end > source.length) throw damaged(`stamp ${index} lies beyond the node section`, at)
    const value = source.subarray(valueAt, valueEnd)
    const stamp: Stamp = {
      record: source.readUInt32LE(at + STAMP_RECORD),
      key: source.readUInt16LE(at + STAMP_KEY),
      value,
    }
    if (stamp.record >= recordCount) throw damaged(`stamp ${index} is for record ${stamp.record}`, at)
    if (previous !== undefined && compareStamps(previous, stamp) >= 0) throw damaged('the stamps are out of order', at)
    if (!isAllZero(source, valueEnd, end)) throw damaged(`the padding of stamp ${index} is not zero`, valueEnd)
    stamps.push(stamp)
    previous = stamp
    at = end
  }
  if (at + paddedTo8(bitmapLength) !== source.length || !isAllZero(source, at + bitmapLength, source.length)) {
    throw damaged('the node section does not end with its void bitmap', at)
  }
  const bitmap = source.subarray(at, at + bitmapLength)
  const lastBits = recordCount & 7
  if (bitmapLength > 0 && lastBits !== 0 && bitmap[bitmapLength - 1]! >> lastBits !== 0) {
    throw damaged('the void bitmap names records that are not there', at)
  }
  return new NodeSection(stamps, bitmap)
}

function compareStamps(a: Stamp, b: Stamp): number {
  return a.record - b.record || a.key - b.key
}

function checkRecordIndex(record: number, recordCount: number): void {
  if (!Number.isInteger(record) || record < 0 || record >= recordCount) {
    throw new FormatError('INVALID_ARGUMENT', `record ${record} is not one of the ${recordCount} of the frame`)
  }
}
