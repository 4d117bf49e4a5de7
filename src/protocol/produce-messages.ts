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
 * | 32 | 16 | reserved |
 *
 * PRODUCED:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | first LSN |
 * | 8 | 8 | last LSN |
 * | 16 | 8 | first time tick |
 * | 24 | 8 | last time tick |
 * | 32 | 8 | reserved |
 */
import { RECORDS_MAX } from './limits.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, MessageType, writeHeader } from './message.ts'
import { readBigU64, readU64, writeBigU64, writeU64 } from './u64.ts'
import { violation } from './violation.ts'

export const PRODUCE_META_BYTES = 48
const PRODUCED_META_BYTES = 40
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
}

/** Completes a message whose body stands at `PRODUCE_BODY_AT` already. */
export function writeProduce(target: Buffer, requestId: number, produce: Produce): void {
  const at = MESSAGE_HEADER_BYTES
  target.writeUInt32LE(produce.group, at)
  target.writeUInt32LE(produce.producer, at + 4)
  target.writeUInt32LE(produce.generation, at + 8)
  target.writeUInt32LE(produce.recordCount, at + 12)
  writeBigU64(target, at + 16, produce.bodyHash)
  writeBigU64(target, at + 24, produce.barrierTick)
  target.fill(0, at + 32, at + PRODUCE_META_BYTES)
  writeHeader(target, MessageType.produce, requestId, PRODUCE_META_BYTES, target.length - PRODUCE_BODY_AT)
}

export function decodeProduce(meta: Buffer): Produce {
  if (meta.length !== PRODUCE_META_BYTES) throw violation(`a PRODUCE has a meta of ${meta.length} bytes`)
  const recordCount = meta.readUInt32LE(12)
  const generation = meta.readUInt32LE(8)
  if (recordCount < 1 || recordCount > RECORDS_MAX) throw violation(`a PRODUCE of ${recordCount} records`)
  if (generation === 0) throw violation('a PRODUCE of generation 0')
  for (let at = 32; at < PRODUCE_META_BYTES; at++) if (meta[at] !== 0) throw violation('reserved bytes are not 0')
  return {
    group: meta.readUInt32LE(0),
    producer: meta.readUInt32LE(4),
    generation,
    recordCount,
    bodyHash: readBigU64(meta, 16),
    barrierTick: readBigU64(meta, 24),
  }
}

export interface Produced {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
}

export function encodeProduced(requestId: number, range: Produced): Buffer {
  const meta = Buffer.allocUnsafe(PRODUCED_META_BYTES)
  writeU64(meta, 0, range.firstLsn)
  writeU64(meta, 8, range.lastLsn)
  writeBigU64(meta, 16, range.firstTimeTick)
  writeBigU64(meta, 24, range.lastTimeTick)
  writeU64(meta, 32, 0)
  return encodeMessage(MessageType.produced, requestId, meta)
}

export function decodeProduced(meta: Buffer): Produced {
  if (meta.length !== PRODUCED_META_BYTES) throw violation(`a PRODUCED has a meta of ${meta.length} bytes`)
  return {
    firstLsn: readU64(meta, 0),
    lastLsn: readU64(meta, 8),
    firstTimeTick: readBigU64(meta, 16),
    lastTimeTick: readBigU64(meta, 24),
  }
}
