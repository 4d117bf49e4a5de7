/**
 * The body of a seal frame, 88 bytes (FORMAT 4).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | end: position of the seal frame |
 * | 8 | 8 | frames in the file, the seal not counted |
 * | 16 | 8 | records in the file |
 * | 24 | 8 | first LSN |
 * | 32 | 8 | next LSN |
 * | 40 | 8 | first time tick of a record, 0: there is none |
 * | 48 | 8 | last time tick given in the file, 0: there is none |
 * | 56 | 8 | salt |
 * | 64 | 8 | id of the next segment, 0: not known |
 * | 72 | 8 | chain before the seal |
 * | 80 | 8 | reserved |
 */
import { NO_SEGMENT_ID, readSegmentId, writeSegmentId } from './file-names.ts'
import { damaged } from './format-error.ts'
import { readBigU64, readU64, writeBigU64, writeU64 } from './integers.ts'

export const SEAL_BODY_BYTES = 88

const END = 0
const FRAMES = 8
const RECORDS = 16
const FIRST_LSN = 24
const NEXT_LSN = 32
const FIRST_TIME_TICK = 40
const LAST_TIME_TICK = 48
const SALT = 56
const NEXT_SEGMENT = 64
const CHAIN = 72
const RESERVED = 80

export interface Seal {
  end: number
  frames: number
  records: number
  firstLsn: number
  nextLsn: number
  /** 0n: the file has no record. */
  firstTimeTick: bigint
  /** 0n: none was given. */
  lastTimeTick: bigint
  salt: bigint
  /** Null: not known, the log was closed. */
  nextSegmentId: string | null
  chain: bigint
}

export function encodeSeal(seal: Seal): Buffer {
  const bytes = Buffer.alloc(SEAL_BODY_BYTES)
  writeU64(bytes, END, seal.end)
  writeU64(bytes, FRAMES, seal.frames)
  writeU64(bytes, RECORDS, seal.records)
  writeU64(bytes, FIRST_LSN, seal.firstLsn)
  writeU64(bytes, NEXT_LSN, seal.nextLsn)
  writeBigU64(bytes, FIRST_TIME_TICK, seal.firstTimeTick)
  writeBigU64(bytes, LAST_TIME_TICK, seal.lastTimeTick)
  writeBigU64(bytes, SALT, seal.salt)
  writeSegmentId(bytes, NEXT_SEGMENT, seal.nextSegmentId ?? NO_SEGMENT_ID)
  writeBigU64(bytes, CHAIN, seal.chain)
  return bytes
}

/** The body hash has been compared before. Throws DAMAGED. */
export function decodeSeal(bytes: Buffer): Seal {
  if (bytes.length !== SEAL_BODY_BYTES) throw damaged(`the body of a seal frame has ${bytes.length} bytes`)
  const nextSegmentId = readSegmentId(bytes, NEXT_SEGMENT)
  const seal: Seal = {
    end: readU64(bytes, END),
    frames: readU64(bytes, FRAMES),
    records: readU64(bytes, RECORDS),
    firstLsn: readU64(bytes, FIRST_LSN),
    nextLsn: readU64(bytes, NEXT_LSN),
    firstTimeTick: readBigU64(bytes, FIRST_TIME_TICK),
    lastTimeTick: readBigU64(bytes, LAST_TIME_TICK),
    salt: readBigU64(bytes, SALT),
    nextSegmentId: nextSegmentId === NO_SEGMENT_ID ? null : nextSegmentId,
    chain: readBigU64(bytes, CHAIN),
  }
  if (seal.nextLsn < seal.firstLsn) throw damaged('the seal has its LSNs in the wrong order', NEXT_LSN)
  if (readBigU64(bytes, RESERVED) !== 0n) throw damaged('the seal has bytes where none are defined', RESERVED)
  return seal
}
