/**
 * Metas of PRODUCE and PRODUCED (PROTOCOL 5).
 *
 * PRODUCE:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | group |
 * | 4 | 4 | producer |
 * | 8 | 4 | generation |
 * | 12 | 4 | record count |
 * | 16 | 8 | body hash |
 * | 24 | 8 | barrier tick, 0: none |
 * | 32 | 8 | first tried at: a tick, 0: none |
 * | 40 | 8 | index, in its transaction, of the first record; 0 without a transaction |
 *
 * PRODUCED:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | first LSN |
 * | 8 | 8 | last LSN |
 * | 16 | 8 | first time tick |
 * | 24 | 8 | last time tick |
 * | 32 | 4 | flags: bit 0: the whole frame was in the log before |
 * | 36 | 4 | number of records that were in the log before |
 * | 40 | | of each of those, ascending: u32 its index in the frame, u32 reserved, u64 LSN, u64 time tick |
 */
import { KEYED_RECORDS_MAX, RECORDS_MAX } from './limits.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, MessageType, writeHeader } from './message.ts'
import { readBigU64, readU64, writeBigU64, writeU64 } from './u64.ts'
import { violation } from './violation.ts'

export const PRODUCE_META_BYTES = 48
const PRODUCED_FIXED_BYTES = 40
const DUPLICATE_BYTES = 24
const FLAG_DUPLICATE = 1
/** Where the body stands in a PRODUCE that is one buffer. */
export const PRODUCE_BODY_AT = MESSAGE_HEADER_BYTES + PRODUCE_META_BYTES

export interface Produce {
  group: number
  producer: number
  generation: number
  recordCount: number
  bodyHash: bigint
  /** 0n: none. */
  barrierTick: bigint
  /** A tick that the caller knew when it first tried the keys of this frame; 0n: not said. */
  firstTriedAt: bigint
  /** How many records of its transaction were sent before; 0 without a transaction. */
  transactionIndex: number
}

/** Completes a message whose body stands at `PRODUCE_BODY_AT` already. */
export function writeProduce(
  target: Buffer,
  requestId: number,
  produce: Omit<Produce, 'firstTriedAt' | 'transactionIndex'> & Partial<Produce>,
): void {
  const at = MESSAGE_HEADER_BYTES
  target.writeUInt32LE(produce.group, at)
  target.writeUInt32LE(produce.producer, at + 4)
  target.writeUInt32LE(produce.generation, at + 8)
  target.writeUInt32LE(produce.recordCount, at + 12)
  writeBigU64(target, at + 16, produce.bodyHash)
  writeBigU64(target, at + 24, produce.barrierTick)
  writeBigU64(target, at + 32, produce.firstTriedAt ?? 0n)
  writeU64(target, at + 40, produce.transactionIndex ?? 0)
  writeHeader(target, MessageType.produce, requestId, PRODUCE_META_BYTES, target.length - PRODUCE_BODY_AT)
}

export function decodeProduce(meta: Buffer): Produce {
  if (meta.length !== PRODUCE_META_BYTES) throw violation(`a PRODUCE has a meta of ${meta.length} bytes`)
  const recordCount = meta.readUInt32LE(12)
  const generation = meta.readUInt32LE(8)
  if (recordCount < 1 || recordCount > RECORDS_MAX) throw violation(`a PRODUCE of ${recordCount} records`)
  if (generation === 0) throw violation('a PRODUCE of generation 0')
  return {
    group: meta.readUInt32LE(0),
    producer: meta.readUInt32LE(4),
    generation,
    recordCount,
    bodyHash: readBigU64(meta, 16),
    barrierTick: readBigU64(meta, 24),
    firstTriedAt: readBigU64(meta, 32),
    transactionIndex: readU64(meta, 40),
  }
}

/** A record that was in the log before. */
export interface DuplicateRecord {
  /** Its index in the frame. */
  row: number
  lsn: number
  timeTick: bigint
}

export interface Produced {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
  /** The whole frame was in the log before: nothing was written, and the range is that of the first. */
  duplicate: boolean
  /** By `row`, ascending: their places are these, not those of the range. */
  duplicates: readonly DuplicateRecord[]
}

export function encodeProduced(
  requestId: number,
  range: Omit<Produced, 'duplicate' | 'duplicates'> & Partial<Produced>,
): Buffer {
  const duplicates = range.duplicates ?? []
  const meta = Buffer.allocUnsafe(PRODUCED_FIXED_BYTES + DUPLICATE_BYTES * duplicates.length)
  writeU64(meta, 0, range.firstLsn)
  writeU64(meta, 8, range.lastLsn)
  writeBigU64(meta, 16, range.firstTimeTick)
  writeBigU64(meta, 24, range.lastTimeTick)
  meta.writeUInt32LE(range.duplicate === true ? FLAG_DUPLICATE : 0, 32)
  meta.writeUInt32LE(duplicates.length, 36)
  let at = PRODUCED_FIXED_BYTES
  for (const { row, lsn, timeTick } of duplicates) {
    meta.writeUInt32LE(row, at)
    meta.writeUInt32LE(0, at + 4)
    writeU64(meta, at + 8, lsn)
    writeBigU64(meta, at + 16, timeTick)
    at += DUPLICATE_BYTES
  }
  return encodeMessage(MessageType.produced, requestId, meta)
}

export function decodeProduced(meta: Buffer): Produced {
  if (meta.length < PRODUCED_FIXED_BYTES) throw violation(`a PRODUCED has a meta of ${meta.length} bytes`)
  const flags = meta.readUInt32LE(32)
  const count = meta.readUInt32LE(36)
  if (flags > FLAG_DUPLICATE) throw violation(`a PRODUCED has the flags ${flags}`)
  if (count > KEYED_RECORDS_MAX || meta.length !== PRODUCED_FIXED_BYTES + DUPLICATE_BYTES * count) {
    throw violation(`a PRODUCED of ${count} repeated records has a meta of ${meta.length} bytes`)
  }
  const duplicates: DuplicateRecord[] = []
  let previous = -1
  for (let at = PRODUCED_FIXED_BYTES; at < meta.length; at += DUPLICATE_BYTES) {
    const row = meta.readUInt32LE(at)
    if (row <= previous || row >= RECORDS_MAX || meta.readUInt32LE(at + 4) !== 0) {
      throw violation('the repeated records of a PRODUCED are out of order')
    }
    previous = row
    duplicates.push({ row, lsn: readU64(meta, at + 8), timeTick: readBigU64(meta, at + 16) })
  }
  return {
    firstLsn: readU64(meta, 0),
    lastLsn: readU64(meta, 8),
    firstTimeTick: readBigU64(meta, 16),
    lastTimeTick: readBigU64(meta, 24),
    duplicate: flags === FLAG_DUPLICATE,
    duplicates,
  }
}
