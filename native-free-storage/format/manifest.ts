/**
 * The manifest: what a log consists of (FORMAT 6).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | hash of bytes 8 to the end |
 * | 8 | 8 | magic, ASCII `TIDEMAN1` |
 * | 16 | 24 | versions and feature bits (format-version.ts) |
 * | 40 | 8 | generation |
 * | 48 | 16 | log id |
 * | 64 | 4 | owner term |
 * | 68 | 4 | incarnation |
 * | 72 | 4 | durability: 1 `disk`, 2 `os` |
 * | 76 | 4 | flags: bit 0 the tail is closed |
 * | 80 | 8 | first LSN |
 * | 88 | 16 | first segment: id (0: the log has none), base LSN |
 * | 104 | 16 | tail segment: id (0: the log has none), base LSN |
 * | 120 | 8 | tail segment: synced position |
 * | 128 | 8 | tail segment: chain there |
 * | 136 | 8 | next LSN there |
 * | 144 | 8 | last time tick there |
 * | 152 | 16 | boot id, 0: not known |
 * | 168 | 4 | total length of the file |
 * | 172 | 4 | number of retired segments |
 * | 176 | | retired segments: u64 base LSN, u64 id each |
 * | | | with the incompatible feature bit 0: u32 number of origins, u32 reserved; then 16 bytes log id, u64 fork LSN each |
 */
import { hash64 } from './checksum.ts'
import {
  NO_SEGMENT_ID,
  readBootId,
  readId128,
  readSegmentId,
  type SegmentName,
  writeBootId,
  writeId128,
  writeSegmentId,
} from './file-names.ts'
import { damaged, FormatError, unknownFormat } from './format-error.ts'
import {
  FEATURE_ORIGINS,
  type FormatFeatures,
  hasFeature,
  readFormatFeatures,
  writeFormatFeatures,
} from './format-version.ts'
import { readBigU64, readU64, writeBigU64, writeU64 } from './integers.ts'

export const MANIFEST_HEADER_BYTES = 176
/** Whoever retires more does it in steps. */
export const RETIRED_SEGMENTS_MAX = 65_536
/** So many generations of copies may have segments in one log. */
export const ORIGINS_MAX = 1024
const ORIGINS_HEADER_BYTES = 8
const ORIGIN_BYTES = 24
export const MANIFEST_BYTES_MAX =
  MANIFEST_HEADER_BYTES + 16 * RETIRED_SEGMENTS_MAX + ORIGINS_HEADER_BYTES + ORIGIN_BYTES * ORIGINS_MAX

const MAGIC = 'TIDEMAN1'
const RETIRED_BYTES = 16
const FLAG_TAIL_CLOSED = 1

const CHECKSUM = 0
const MAGIC_AT = 8
const FEATURES = 16
const GENERATION = 40
const LOG_ID = 48
const OWNER_TERM = 64
const INCARNATION = 68
const DURABILITY = 72
const FLAGS = 76
const FIRST_LSN = 80
const FIRST_SEGMENT = 88
const TAIL_SEGMENT = 104
const TAIL_SYNCED_POSITION = 120
const TAIL_CHAIN = 128
const NEXT_LSN = 136
const LAST_TIME_TICK = 144
const BOOT_ID = 152
const TOTAL_LENGTH = 168
const RETIRED_COUNT = 172

/** `disk`: synced before it is acknowledged; `os`: handed to the operating system. */
export type Durability = 'disk' | 'os'

export interface ManifestTail extends SegmentName {
  /** All below it is durable. */
  syncedPosition: number
  chain: bigint
  /** Its end is the synced position. */
  closed: boolean
}

/** A log that this one is a copy of, directly or by way of other copies. */
export interface LogOrigin {
  /** 32 hex digits. */
  logId: string
  /** The first LSN that need not be the same in both: its segments begin below it. */
  forkLsn: number
}

export interface ManifestContent {
  generation: number
  /** 32 hex digits. */
  logId: string
  ownerTerm: number
  incarnation: number
  durability: Durability
  /** Records below it were truncated away. */
  firstLsn: number
  /** Null, together with the tail: the log has no segment. */
  firstSegment: SegmentName | null
  tail: ManifestTail | null
  /** At the synced position of the tail. */
  nextLsn: number
  lastTimeTick: bigint
  /** 16 bytes; all zero: not known. */
  bootId: Uint8Array
  /** Segments that are not part of the log any more. */
  retired: readonly SegmentName[]
  /** The oldest first, so that the last one is the log that was copied; empty: this log is not a copy. */
  origins: readonly LogOrigin[]
}

export function encodeManifest(manifest: ManifestContent): Buffer {
  const { firstSegment, tail, retired, origins } = manifest
  if (retired.length > RETIRED_SEGMENTS_MAX) {
    throw new FormatError('LIMIT_EXCEEDED', `${retired.length} retired segments pass ${RETIRED_SEGMENTS_MAX}`)
  }
  if (origins.length > ORIGINS_MAX) {
    throw new FormatError('LIMIT_EXCEEDED', `${origins.length} origins pass ${ORIGINS_MAX}`)
  }
  if ((firstSegment === null) !== (tail === null)) {
    throw new FormatError('INVALID_ARGUMENT', 'a log has a first and a tail segment, or neither')
  }
  const originsBytes = origins.length === 0 ? 0 : ORIGINS_HEADER_BYTES + ORIGIN_BYTES * origins.length
  const bytes = Buffer.alloc(MANIFEST_HEADER_BYTES + RETIRED_BYTES * retired.length + originsBytes)
  bytes.write(MAGIC, MAGIC_AT, 'latin1')
  writeFormatFeatures(bytes, FEATURES, origins.length === 0 ? 0 : FEATURE_ORIGINS)
  writeU64(bytes, GENERATION, manifest.generation)
  writeId128(bytes, LOG_ID, manifest.logId)
  bytes.writeUInt32LE(manifest.ownerTerm, OWNER_TERM)
  bytes.writeUInt32LE(manifest.incarnation, INCARNATION)
  bytes.writeUInt32LE(manifest.durability === 'disk' ? 1 : 2, DURABILITY)
  bytes.writeUInt32LE(tail?.closed ? FLAG_TAIL_CLOSED : 0, FLAGS)
  writeU64(bytes, FIRST_LSN, manifest.firstLsn)
  writeSegment(bytes, FIRST_SEGMENT, firstSegment)
  writeSegment(bytes, TAIL_SEGMENT, tail)
  writeU64(bytes, TAIL_SYNCED_POSITION, tail?.syncedPosition ?? 0)
  writeBigU64(bytes, TAIL_CHAIN, tail?.chain ?? 0n)
  writeU64(bytes, NEXT_LSN, manifest.nextLsn)
  writeBigU64(bytes, LAST_TIME_TICK, manifest.lastTimeTick)
  writeBootId(bytes, BOOT_ID, manifest.bootId)
  bytes.writeUInt32LE(bytes.length, TOTAL_LENGTH)
  bytes.writeUInt32LE(retired.length, RETIRED_COUNT)
  let at = MANIFEST_HEADER_BYTES
  for (const segment of retired) {
    writeU64(bytes, at, segment.baseLsn)
    writeSegmentId(bytes, at + 8, segment.id)
    at += RETIRED_BYTES
  }
  if (origins.length > 0) bytes.writeUInt32LE(origins.length, at)
  at += ORIGINS_HEADER_BYTES
  for (const origin of origins) {
    writeId128(bytes, at, origin.logId)
    writeU64(bytes, at + 16, origin.forkLsn)
    at += ORIGIN_BYTES
  }
  writeBigU64(bytes, CHECKSUM, hash64(bytes.subarray(MAGIC_AT)))
  return bytes
}

/** `bytes` is the whole file. Throws DAMAGED, or FORMAT_UNKNOWN with what to upgrade. */
export function decodeManifest(bytes: Buffer): ManifestContent & FormatFeatures {
  if (bytes.length < MANIFEST_HEADER_BYTES) throw damaged(`a manifest of ${bytes.length} bytes is too short`)
  if (bytes.toString('latin1', MAGIC_AT, MAGIC_AT + 8) !== MAGIC) {
    throw damaged('the file does not begin as a manifest does', MAGIC_AT)
  }
  if (hash64(bytes.subarray(MAGIC_AT)) !== readBigU64(bytes, CHECKSUM)) {
    throw damaged('the manifest does not have its hash', CHECKSUM)
  }
  const features = readFormatFeatures(bytes, FEATURES, 'manifest', FEATURE_ORIGINS)
  const retiredCount = bytes.readUInt32LE(RETIRED_COUNT)
  if (retiredCount > RETIRED_SEGMENTS_MAX || bytes.readUInt32LE(TOTAL_LENGTH) !== bytes.length) {
    throw damaged('the manifest does not have its length', TOTAL_LENGTH)
  }
  const retiredEnd = MANIFEST_HEADER_BYTES + RETIRED_BYTES * retiredCount
  const hasOrigins = hasFeature(bytes, FEATURES, FEATURE_ORIGINS)
  if (hasOrigins ? bytes.length < retiredEnd : bytes.length !== retiredEnd) {
    throw damaged(`${retiredCount} retired segments do not fill the manifest`, RETIRED_COUNT)
  }
  const origins = hasOrigins ? readOrigins(bytes, retiredEnd) : []
  const durability = bytes.readUInt32LE(DURABILITY)
  if (durability !== 1 && durability !== 2) throw unknownFormat(`the durability is ${durability}`, DURABILITY)
  const flags = bytes.readUInt32LE(FLAGS)
  if ((flags & ~FLAG_TAIL_CLOSED) !== 0)
    throw unknownFormat(`the manifest has the flags 0x${flags.toString(16)}`, FLAGS)

  const firstSegment = readSegment(bytes, FIRST_SEGMENT)
  const tailSegment = readSegment(bytes, TAIL_SEGMENT)
  if ((firstSegment === null) !== (tailSegment === null)) {
    throw damaged('the manifest has only one of the first and the tail segment', FIRST_SEGMENT)
  }
  const tail = tailSegment && {
    ...tailSegment,
    syncedPosition: readU64(bytes, TAIL_SYNCED_POSITION),
    chain: readBigU64(bytes, TAIL_CHAIN),
    closed: (flags & FLAG_TAIL_CLOSED) !== 0,
  }
  const retired: SegmentName[] = []
  for (let at = MANIFEST_HEADER_BYTES; at < retiredEnd; at += RETIRED_BYTES) {
    retired.push({ baseLsn: readU64(bytes, at), id: readSegmentId(bytes, at + 8) })
  }
  return {
    ...features,
    generation: readU64(bytes, GENERATION),
    logId: readId128(bytes, LOG_ID),
    ownerTerm: bytes.readUInt32LE(OWNER_TERM),
    incarnation: bytes.readUInt32LE(INCARNATION),
    durability: durability === 1 ? 'disk' : 'os',
    firstLsn: readU64(bytes, FIRST_LSN),
    firstSegment,
    tail,
    nextLsn: readU64(bytes, NEXT_LSN),
    lastTimeTick: readBigU64(bytes, LAST_TIME_TICK),
    bootId: readBootId(bytes, BOOT_ID),
    retired,
    origins,
  }
}

function readOrigins(bytes: Buffer, start: number): LogOrigin[] {
  const count = bytes.length < start + ORIGINS_HEADER_BYTES ? 0 : bytes.readUInt32LE(start)
  if (count === 0 || count > ORIGINS_MAX || bytes.length !== start + ORIGINS_HEADER_BYTES + ORIGIN_BYTES * count) {
    throw damaged(`${count} origins do not fill the manifest`, start)
  }
  const origins: LogOrigin[] = []
  for (let at = start + ORIGINS_HEADER_BYTES; at < bytes.length; at += ORIGIN_BYTES) {
    const forkLsn = readU64(bytes, at + 16)
    if (forkLsn < (origins.at(-1)?.forkLsn ?? 0)) throw damaged('the fork LSNs of the origins do not ascend', at + 16)
    origins.push({ logId: readId128(bytes, at), forkLsn })
  }
  return origins
}

function writeSegment(target: Buffer, offset: number, segment: SegmentName | null): void {
  writeSegmentId(target, offset, segment?.id ?? NO_SEGMENT_ID)
  writeU64(target, offset + 8, segment?.baseLsn ?? 0)
}

function readSegment(source: Buffer, offset: number): SegmentName | null {
  const id = readSegmentId(source, offset)
  return id === NO_SEGMENT_ID ? null : { baseLsn: readU64(source, offset + 8), id }
}
