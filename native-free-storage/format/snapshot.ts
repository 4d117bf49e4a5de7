/**
 * A snapshot: opaque bytes that somebody above the log keeps beside it, and the place of the log that they stand behind
 * (FORMAT 12). The file is `SNAPSHOT-<LSN, 20 digits>`.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic, ASCII `TIDESNAP` |
 * | 8 | 4 | format version, 1 |
 * | 12 | 4 | reserved |
 * | 16 | 16 | log id |
 * | 32 | 8 | LSN: everything below it is in the content |
 * | 40 | 8 | base time tick of the frame that ends before it; 0 when there is none |
 * | 48 | 8 | body hash of that frame; 0 when there is none |
 * | 56 | 8 | length of the content |
 * | 64 | 8 | hash of the content |
 * | 72 | 8 | reserved |
 * | 80 | 8 | hash of the 80 bytes before |
 * | 88 | | content |
 *
 * The chain is not in it: it changes when a segment is rewritten, tick and body do not.
 */
import { hash64 } from './checksum.ts'
import { readId128, writeId128 } from './file-names.ts'
import { damaged, unknownFormat } from './format-error.ts'
import { isAllZero, readBigU64, readU64, writeBigU64, writeU64 } from './integers.ts'

export const SNAPSHOT_HEADER_BYTES = 88
/** Of the content. */
export const SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024

const MAGIC = 'TIDESNAP'
const VERSION = 1
const VERSION_AT = 8
const LOG_ID = 16
const LSN = 32
const TICK = 40
const BODY_HASH = 48
const LENGTH = 56
const CONTENT_HASH = 64
const RESERVED = 72
const HEADER_HASH = 80

const NAME = /^SNAPSHOT-(\d{20})$/

export interface SnapshotPlace {
  logId: string
  lsn: number
  baseTimeTick: bigint
  bodyHash: bigint
}

export interface SnapshotHeader extends SnapshotPlace {
  contentLength: number
  contentHash: bigint
}

export function snapshotFileName(lsn: number): string {
  return `SNAPSHOT-${String(lsn).padStart(20, '0')}`
}

/** The LSN, or null for every other name. */
export function parseSnapshotFileName(name: string): number | null {
  const match = name.startsWith('SNAPSHOT-') ? NAME.exec(name) : null
  if (match === null) return null
  const lsn = Number(match[1])
  return Number.isSafeInteger(lsn) ? lsn : null
}

export function encodeSnapshotHeader(place: SnapshotPlace, content: Uint8Array): Buffer {
  const bytes = Buffer.alloc(SNAPSHOT_HEADER_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(VERSION, VERSION_AT)
  writeId128(bytes, LOG_ID, place.logId)
  writeU64(bytes, LSN, place.lsn)
  writeBigU64(bytes, TICK, place.baseTimeTick)
  writeBigU64(bytes, BODY_HASH, place.bodyHash)
  writeU64(bytes, LENGTH, content.length)
  writeBigU64(bytes, CONTENT_HASH, hash64(content))
  writeBigU64(bytes, HEADER_HASH, hash64(bytes.subarray(0, HEADER_HASH)))
  return bytes
}

/** `bytes` begins with the header. Throws DAMAGED, or FORMAT_UNKNOWN with what to upgrade. */
export function decodeSnapshotHeader(bytes: Buffer): SnapshotHeader {
  if (bytes.length < SNAPSHOT_HEADER_BYTES) throw damaged(`a snapshot of ${bytes.length} bytes has no header`, 0)
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) throw damaged('it is no snapshot', 0)
  if (readBigU64(bytes, HEADER_HASH) !== hash64(bytes.subarray(0, HEADER_HASH))) {
    throw damaged('the header of the snapshot does not have its hash', HEADER_HASH)
  }
  const version = bytes.readUInt32LE(VERSION_AT)
  if (version !== VERSION) throw unknownFormat(`a snapshot of version ${version}`, VERSION_AT)
  if (!isAllZero(bytes, VERSION_AT + 4, LOG_ID) || !isAllZero(bytes, RESERVED, HEADER_HASH)) {
    throw damaged('reserved bytes of the snapshot are not zero', VERSION_AT + 4)
  }
  const contentLength = readU64(bytes, LENGTH)
  if (contentLength > SNAPSHOT_BYTES_MAX) throw damaged(`a snapshot of ${contentLength} bytes`, LENGTH)
  return {
    logId: readId128(bytes, LOG_ID),
    lsn: readU64(bytes, LSN),
    baseTimeTick: readBigU64(bytes, TICK),
    bodyHash: readBigU64(bytes, BODY_HASH),
    contentLength,
    contentHash: readBigU64(bytes, CONTENT_HASH),
  }
}
