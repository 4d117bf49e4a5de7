/**
 * The segment header: the first 4,096 bytes of a log segment (FORMAT 2).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | hash of bytes 8 to 4,095 |
 * | 8 | 8 | magic, ASCII `TIDESEG1` |
 * | 16 | 24 | versions and feature bits (format-version.ts) |
 * | 40 | 16 | log id |
 * | 56 | 8 | segment id, not 0 |
 * | 64 | 8 | base LSN |
 * | 72 | 8 | base time tick |
 * | 80 | 4 | owner term |
 * | 84 | 4 | incarnation |
 * | 88 | 8 | salt |
 * | 96 | 4 | alignment of flushes |
 * | 100 | 4 | reserved |
 * | 104 | 24 | previous segment: id (0: none), end, chain |
 * | 128 | 24 | replaced segment: id (0: none), end, chain |
 * | 152 | 8 | begin LSN of the oldest open transaction, 2^64-1: none |
 * | 160 | 16 | origin log id, 0: none |
 * | 176 | 8 | fork LSN |
 * | 184 | 8 | wall clock at creation, ms |
 * | 192 | 8 | bytes prepared, 0: the file grows |
 * | 200 | 3,896 | reserved |
 */
import { hash64 } from './checksum.ts'
import { NO_ID_128, NO_SEGMENT_ID, readId128, readSegmentId, writeId128, writeSegmentId } from './file-names.ts'
import { damaged, FormatError } from './format-error.ts'
import { type FormatFeatures, readFormatFeatures, writeFormatFeatures } from './format-version.ts'
import { readBigU64, readU64, U64_MAX, writeBigU64, writeU64 } from './integers.ts'

export const SEGMENT_HEADER_BYTES = 4096
export const ALIGNMENT_MIN = 512
export const ALIGNMENT_MAX = 4096

const MAGIC = 'TIDESEG1'

const CHECKSUM = 0
const MAGIC_AT = 8
const FEATURES = 16
const LOG_ID = 40
const SEGMENT_ID = 56
const BASE_LSN = 64
const BASE_TIME_TICK = 72
const OWNER_TERM = 80
const INCARNATION = 84
const SALT = 88
const ALIGNMENT = 96
const PREVIOUS = 104
const REPLACED = 128
const OLDEST_OPEN_TRANSACTION = 152
const ORIGIN_LOG_ID = 160
const FORK_LSN = 176
const CREATED_MS = 184
const PREPARED_BYTES = 192

/** A segment as its neighbour knows it: where its data ends, and the chain there. */
export interface SegmentEnd {
  id: string
  end: number
  chain: bigint
}

export interface SegmentHeader {
  /** 32 hex digits. */
  logId: string
  /** 16 hex digits. */
  segmentId: string
  baseLsn: number
  baseTimeTick: bigint
  ownerTerm: number
  incarnation: number
  salt: bigint
  /** A power of two from 512 to 4,096. */
  alignment: number
  /** Null: this is the first segment. */
  previous: SegmentEnd | null
  /** Null: this file is not a rewritten one. */
  replaced: SegmentEnd | null
  /** Its begin LSN. */
  oldestOpenTransaction: number | null
  /** 32 hex digits; null: this log is not a copy. */
  originLogId: string | null
  /** 0 where there is no origin. */
  forkLsn: number
  createdMs: number
  /** 0: the file grows. */
  preparedBytes: number
}

export interface EncodedSegmentHeader {
  bytes: Buffer
  /** The chain at position 4,096. */
  checksum: bigint
}

export function encodeSegmentHeader(header: SegmentHeader): EncodedSegmentHeader {
  if (!isAlignment(header.alignment)) {
    throw new FormatError(
      'INVALID_ARGUMENT',
      `the alignment ${header.alignment} is not a power of two from 512 to 4,096`,
    )
  }
  if (header.segmentId === NO_SEGMENT_ID) throw new FormatError('INVALID_ARGUMENT', 'the segment id is 0')
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  bytes.write(MAGIC, MAGIC_AT, 'latin1')
  writeFormatFeatures(bytes, FEATURES)
  writeId128(bytes, LOG_ID, header.logId)
  writeSegmentId(bytes, SEGMENT_ID, header.segmentId)
  writeU64(bytes, BASE_LSN, header.baseLsn)
  writeBigU64(bytes, BASE_TIME_TICK, header.baseTimeTick)
  bytes.writeUInt32LE(header.ownerTerm, OWNER_TERM)
  bytes.writeUInt32LE(header.incarnation, INCARNATION)
  writeBigU64(bytes, SALT, header.salt)
  bytes.writeUInt32LE(header.alignment, ALIGNMENT)
  writeSegmentEnd(bytes, PREVIOUS, header.previous)
  writeSegmentEnd(bytes, REPLACED, header.replaced)
  if (header.oldestOpenTransaction === null) writeBigU64(bytes, OLDEST_OPEN_TRANSACTION, U64_MAX)
  else writeU64(bytes, OLDEST_OPEN_TRANSACTION, header.oldestOpenTransaction)
  writeId128(bytes, ORIGIN_LOG_ID, header.originLogId ?? NO_ID_128)
  writeU64(bytes, FORK_LSN, header.forkLsn)
  writeU64(bytes, CREATED_MS, header.createdMs)
  writeU64(bytes, PREPARED_BYTES, header.preparedBytes)
  const checksum = hash64(bytes.subarray(MAGIC_AT))
  writeBigU64(bytes, CHECKSUM, checksum)
  return { bytes, checksum }
}

export type DecodedSegmentHeader = SegmentHeader & FormatFeatures & { checksum: bigint }

/** `bytes` begins with the header. Throws DAMAGED, or FORMAT_UNKNOWN with what to upgrade. */
export function decodeSegmentHeader(bytes: Buffer): DecodedSegmentHeader {
  if (bytes.length < SEGMENT_HEADER_BYTES) throw damaged(`a segment header of ${bytes.length} bytes is too short`)
  if (bytes.toString('latin1', MAGIC_AT, MAGIC_AT + 8) !== MAGIC) {
    throw damaged('the file does not begin as a log segment does', MAGIC_AT)
  }
  const checksum = readBigU64(bytes, CHECKSUM)
  if (hash64(bytes.subarray(MAGIC_AT, SEGMENT_HEADER_BYTES)) !== checksum) {
    throw damaged('the segment header does not have its hash', CHECKSUM)
  }
  const features = readFormatFeatures(bytes, FEATURES, 'segment')
  const alignment = bytes.readUInt32LE(ALIGNMENT)
  if (!isAlignment(alignment)) throw damaged(`the segment header has the alignment ${alignment}`, ALIGNMENT)
  const segmentId = readSegmentId(bytes, SEGMENT_ID)
  if (segmentId === NO_SEGMENT_ID) throw damaged('the segment header has the segment id 0', SEGMENT_ID)
  const originLogId = readId128(bytes, ORIGIN_LOG_ID)
  return {
    ...features,
    checksum,
    logId: readId128(bytes, LOG_ID),
    segmentId,
    baseLsn: readU64(bytes, BASE_LSN),
    baseTimeTick: readBigU64(bytes, BASE_TIME_TICK),
    ownerTerm: bytes.readUInt32LE(OWNER_TERM),
    incarnation: bytes.readUInt32LE(INCARNATION),
    salt: readBigU64(bytes, SALT),
    alignment,
    previous: readSegmentEnd(bytes, PREVIOUS),
    replaced: readSegmentEnd(bytes, REPLACED),
    oldestOpenTransaction:
      readBigU64(bytes, OLDEST_OPEN_TRANSACTION) === U64_MAX ? null : readU64(bytes, OLDEST_OPEN_TRANSACTION),
    originLogId: originLogId === NO_ID_128 ? null : originLogId,
    forkLsn: readU64(bytes, FORK_LSN),
    createdMs: readU64(bytes, CREATED_MS),
    preparedBytes: readU64(bytes, PREPARED_BYTES),
  }
}

function isAlignment(alignment: number): boolean {
  return alignment >= ALIGNMENT_MIN && alignment <= ALIGNMENT_MAX && (alignment & (alignment - 1)) === 0
}

function writeSegmentEnd(target: Buffer, offset: number, segment: SegmentEnd | null): void {
  writeSegmentId(target, offset, segment?.id ?? NO_SEGMENT_ID)
  writeU64(target, offset + 8, segment?.end ?? 0)
  writeBigU64(target, offset + 16, segment?.chain ?? 0n)
}

function readSegmentEnd(source: Buffer, offset: number): SegmentEnd | null {
  const id = readSegmentId(source, offset)
  if (id === NO_SEGMENT_ID) return null
  return { id, end: readU64(source, offset + 8), chain: readBigU64(source, offset + 16) }
}
