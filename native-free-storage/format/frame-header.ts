/**
 * The frame header: 96 bytes (FORMAT 3.1).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | checksum: hash of bytes 8 to (header length - 1), seed = salt of the file XOR own position |
 * | 8 | 4 | magic, ASCII `TFRM` |
 * | 12 | 1 | header length in bytes, a multiple of 8, 96 or more |
 * | 13 | 1 | frame version, 1 |
 * | 14 | 1 | kind |
 * | 15 | 1 | flags: bits 0 to 3 may be ignored when unknown, bits 4 to 7 may not |
 * | 16 | 4 | total length: header, body, node section, padding |
 * | 20 | 4 | body length |
 * | 24 | 4 | node section length |
 * | 28 | 4 | record count |
 * | 32 | 4 | owner term |
 * | 36 | 4 | incarnation |
 * | 40 | 8 | base LSN |
 * | 48 | 8 | base time tick |
 * | 56 | 8 | own position in the file |
 * | 64 | 8 | durable position |
 * | 72 | 8 | chain |
 * | 80 | 8 | body hash |
 * | 88 | 8 | node section hash |
 */
import { hash64 } from './checksum.ts'
import { damaged, unknownFormat } from './format-error.ts'
import { isAllZero, readBigU64, readU64OrNegative, U64_MAX, writeBigU64, writeU64 } from './integers.ts'

export const FRAME_HEADER_BYTES = 96
/** No frame, with padding, is longer: the bound for what a decoder allocates. */
export const FRAME_BYTES_MAX = 512 * 1024 * 1024
export const FRAME_RECORDS_MAX = 65_536
/** Positions of frames are multiples of this. */
export const FRAME_STEP_BYTES = 8

export const FrameKind = { records: 0, timeTick: 1, durableMarker: 2, seal: 3, fence: 4, gap: 5 } as const
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind]

const FRAME_VERSION = 1
const KIND_MAX = 5
const INCOMPATIBLE_FLAGS = 0xf0
/** `TFRM` as a little-endian u32. */
const MAGIC = 0x4d52_4654
const SEAL_BODY_BYTES = 88
const GAP_BODY_BYTES = 16
const BASE_TIME_TICK_MAX = U64_MAX - BigInt(FRAME_RECORDS_MAX)

const CHECKSUM = 0
const MAGIC_AT = 8
const HEADER_LENGTH = 12
const VERSION = 13
const KIND = 14
const FLAGS = 15
const TOTAL_LENGTH = 16
const BODY_LENGTH = 20
const NODE_SECTION_LENGTH = 24
const RECORD_COUNT = 28
const OWNER_TERM = 32
const INCARNATION = 36
const BASE_LSN = 40
const BASE_TIME_TICK = 48
const POSITION = 56
const DURABLE_POSITION = 64
const CHAIN = 72
const BODY_HASH = 80
const NODE_HASH = 88

export interface FrameHeaderFields {
  kind: FrameKind
  /** 0 in version 1. */
  flags: number
  totalLength: number
  bodyLength: number
  nodeSectionLength: number
  recordCount: number
  ownerTerm: number
  incarnation: number
  baseLsn: number
  baseTimeTick: bigint
  /** Where the frame stands in its file. */
  position: number
  /** End of the contiguous synced prefix of the file when the frame was built. */
  durablePosition: number
  /** Checksum of the header before this one. */
  chain: bigint
  bodyHash: bigint
  nodeHash: bigint
}

export interface FrameHeader extends FrameHeaderFields {
  headerLength: number
  checksum: bigint
}

/** Returns the checksum: the chain behind this frame. */
export function encodeFrameHeader(target: Buffer, offset: number, fields: FrameHeaderFields, salt: bigint): bigint {
  target.writeUInt32LE(MAGIC, offset + MAGIC_AT)
  target[offset + HEADER_LENGTH] = FRAME_HEADER_BYTES
  target[offset + VERSION] = FRAME_VERSION
  target[offset + KIND] = fields.kind
  target[offset + FLAGS] = fields.flags
  target.writeUInt32LE(fields.totalLength, offset + TOTAL_LENGTH)
  target.writeUInt32LE(fields.bodyLength, offset + BODY_LENGTH)
  target.writeUInt32LE(fields.nodeSectionLength, offset + NODE_SECTION_LENGTH)
  target.writeUInt32LE(fields.recordCount, offset + RECORD_COUNT)
  target.writeUInt32LE(fields.ownerTerm, offset + OWNER_TERM)
  target.writeUInt32LE(fields.incarnation, offset + INCARNATION)
  writeU64(target, offset + BASE_LSN, fields.baseLsn)
  writeBigU64(target, offset + BASE_TIME_TICK, fields.baseTimeTick)
  writeU64(target, offset + POSITION, fields.position)
  writeU64(target, offset + DURABLE_POSITION, fields.durablePosition)
  writeBigU64(target, offset + CHAIN, fields.chain)
  writeBigU64(target, offset + BODY_HASH, fields.bodyHash)
  writeBigU64(target, offset + NODE_HASH, fields.nodeHash)
  const checksum = hash64(
    target.subarray(offset + MAGIC_AT, offset + FRAME_HEADER_BYTES),
    salt ^ BigInt(fields.position),
  )
  writeBigU64(target, offset + CHECKSUM, checksum)
  return checksum
}

/** The cheap test for scanning ahead in steps of 8 bytes: the magic of a frame at `offset` stands in `source`. */
export function looksLikeFrame(source: Buffer, offset: number): boolean {
  const at = offset + MAGIC_AT
  return source[at] === 0x54 && source[at + 1] === 0x46 && source[at + 2] === 0x52 && source[at + 3] === 0x4d
}

/**
 * The header at `offset` of `source`, of which the bytes before `end` are there, or null when there is no valid one.
 * Null also for a header of which a part lies beyond `end`; the body need not be there.
 *
 * `position` is where `offset` stands in the file. The caller compares chain and base LSN with what it expects. Throws
 * FORMAT_UNKNOWN when the checksum is right and the frame is of a later version.
 */
export function decodeFrameHeader(
  source: Buffer,
  offset: number,
  end: number,
  salt: bigint,
  position: number,
): FrameHeader | null {
  if (offset + FRAME_HEADER_BYTES > end || end > source.length || !looksLikeFrame(source, offset)) return null
  const headerLength = source[offset + HEADER_LENGTH]!
  if (headerLength < FRAME_HEADER_BYTES || headerLength % 8 !== 0 || offset + headerLength > end) return null
  const checksum = readBigU64(source, offset + CHECKSUM)
  const covered = source.subarray(offset + MAGIC_AT, offset + headerLength)
  if (hash64(covered, salt ^ BigInt(position)) !== checksum) return null
  return readFields(source, offset, headerLength, checksum, position)
}

/**
 * The header at `offset` as `decodeFrameHeader` gives it, but without its checksum: for a file whose salt nobody knows.
 * It is believed no more than its own position, its lengths, and what the caller compares.
 */
export function decodeUnsaltedHeader(source: Buffer, offset: number, position: number): FrameHeader | null {
  if (offset + FRAME_HEADER_BYTES > source.length || !looksLikeFrame(source, offset)) return null
  if (source[offset + HEADER_LENGTH] !== FRAME_HEADER_BYTES || source[offset + VERSION] !== FRAME_VERSION) return null
  if (source[offset + FLAGS] !== 0 || source[offset + KIND]! > KIND_MAX) return null
  return readFields(source, offset, FRAME_HEADER_BYTES, readBigU64(source, offset + CHECKSUM), position)
}

/** Throws FORMAT_UNKNOWN. */
function readFields(
  source: Buffer,
  offset: number,
  headerLength: number,
  checksum: bigint,
  position: number,
): FrameHeader | null {
  const version = source[offset + VERSION]!
  const kind = source[offset + KIND]!
  const flags = source[offset + FLAGS]!
  if (version !== FRAME_VERSION) throw unknownFormat(`the frame has version ${version}`, offset + VERSION)
  if ((flags & INCOMPATIBLE_FLAGS) !== 0) {
    throw unknownFormat(`the frame has unknown flags 0x${flags.toString(16)}`, offset + FLAGS)
  }
  if (kind > KIND_MAX) throw unknownFormat(`the frame has the unknown kind ${kind}`, offset + KIND)

  const header: FrameHeader = {
    headerLength,
    kind: kind as FrameKind,
    flags,
    totalLength: source.readUInt32LE(offset + TOTAL_LENGTH),
    bodyLength: source.readUInt32LE(offset + BODY_LENGTH),
    nodeSectionLength: source.readUInt32LE(offset + NODE_SECTION_LENGTH),
    recordCount: source.readUInt32LE(offset + RECORD_COUNT),
    ownerTerm: source.readUInt32LE(offset + OWNER_TERM),
    incarnation: source.readUInt32LE(offset + INCARNATION),
    baseLsn: readU64OrNegative(source, offset + BASE_LSN),
    baseTimeTick: readBigU64(source, offset + BASE_TIME_TICK),
    position: readU64OrNegative(source, offset + POSITION),
    durablePosition: readU64OrNegative(source, offset + DURABLE_POSITION),
    chain: readBigU64(source, offset + CHAIN),
    bodyHash: readBigU64(source, offset + BODY_HASH),
    nodeHash: readBigU64(source, offset + NODE_HASH),
    checksum,
  }
  return isConsistent(header) && header.position === position ? header : null
}

function isConsistent(header: FrameHeader): boolean {
  const { totalLength, bodyLength, nodeSectionLength, recordCount } = header
  if (totalLength > FRAME_BYTES_MAX || ((totalLength | bodyLength | nodeSectionLength) & 7) !== 0) return false
  if (header.headerLength + bodyLength + nodeSectionLength > totalLength) return false
  if (bodyLength === 0 && header.bodyHash !== 0n) return false
  if (nodeSectionLength === 0 && header.nodeHash !== 0n) return false
  if (header.baseLsn < 0 || header.baseLsn + recordCount > Number.MAX_SAFE_INTEGER) return false
  if (header.baseTimeTick > BASE_TIME_TICK_MAX) return false
  if (header.durablePosition < 0 || header.durablePosition > header.position) return false
  if (header.kind === FrameKind.records) return recordCount > 0 && recordCount <= FRAME_RECORDS_MAX && bodyLength > 0
  if (recordCount !== 0 || nodeSectionLength !== 0) return false
  if (header.kind === FrameKind.seal) return bodyLength === SEAL_BODY_BYTES
  if (header.kind === FrameKind.gap) return bodyLength === GAP_BODY_BYTES
  return bodyLength === 0
}

/** Whether the padding at the end of a frame is zero: no hash covers it. `frame` is the whole frame. */
export function checkFramePadding(header: FrameHeader, frame: Uint8Array): boolean {
  return isAllZero(frame, header.headerLength + header.bodyLength + header.nodeSectionLength, header.totalLength)
}

/**
 * The LSN that the next frame has to have. `gapCount` is the number of LSNs a gap frame skips, from its body. Throws
 * DAMAGED when that passes 2^53 - 1.
 */
export function nextLsnAfter(header: Pick<FrameHeader, 'kind' | 'baseLsn' | 'recordCount'>, gapCount?: number): number {
  if (header.kind !== FrameKind.gap) return header.baseLsn + header.recordCount
  if (gapCount === undefined)
    throw new Error('invariant broken: the number of LSNs that a gap frame skips is not given')
  const next = header.baseLsn + gapCount
  if (!Number.isSafeInteger(next)) throw damaged(`a gap of ${gapCount} LSNs from ${header.baseLsn}`)
  return next
}

/**
 * The last tick that is taken behind this frame: of its last record, or of the time tick itself. Of the other kinds,
 * whose base only bounds what follows, the one below the base (0 when the base is 0).
 */
export function lastTickOf(header: Pick<FrameHeader, 'kind' | 'baseTimeTick' | 'recordCount'>): bigint {
  if (header.kind === FrameKind.records) return header.baseTimeTick + BigInt(Math.max(header.recordCount, 1) - 1)
  if (header.kind === FrameKind.timeTick) return header.baseTimeTick
  return header.baseTimeTick === 0n ? 0n : header.baseTimeTick - 1n
}

/** The smallest base time tick that the next frame may have. */
export function nextTickFloor(header: Pick<FrameHeader, 'kind' | 'baseTimeTick' | 'recordCount'>): bigint {
  if (header.kind === FrameKind.records) return header.baseTimeTick + BigInt(Math.max(header.recordCount, 1))
  return header.kind === FrameKind.timeTick ? header.baseTimeTick + 1n : header.baseTimeTick
}
