/**
 * Binary metas of CREDIT, FRAME, CAUGHT_UP and TICK (PROTOCOL 6).
 *
 * FRAME:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | base LSN |
 * | 8 | 8 | base time tick |
 * | 16 | 8 | body hash |
 * | 24 | 8 | hash of the node section |
 * | 32 | 4 | record count |
 * | 36 | 4 | head length |
 * | 40 | 4 | node section length |
 * | 44 | 4 | length of the body as it was produced |
 * | 48 | 1 | kind: 0 records, 1 gap, 2 part of a transaction |
 * | 49 | 1 | of a gap its reason: 1 void, 2 lost, 3 leased |
 * | 50 | 1 | of a part: 1 in the last one of its transaction |
 * | 51 | 1 | reserved |
 * | 52 | 4 | number of sections that are present |
 * | 56 | 8 | of a gap the LSNs skipped |
 * | 64 | | of a part: u64 transaction, u64 LSN of the commit, u64 time tick of the commit |
 * | | | u32 a section that is present, ascending; zeros to a multiple of 8 |
 *
 * CREDIT: u64 bytes, u32 frames, u32 reserved. CAUGHT_UP: u64 LSN, u64 time tick.
 *
 * TICK:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | number of groups |
 * | 4 | 4 | number of consumers that are left out |
 * | 8 | 8 | time tick of every group that is not listed, 0: nothing is said of them |
 * | 16 | | a group: u32 group, u32 reserved, u64 time tick |
 * | | | u32 a consumer that is left out; zeros to a multiple of 8 |
 */
import { RECORDS_MAX, SECTIONS_MAX } from './limits.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, MessageType } from './message.ts'
import { paddedTo8, readBigU64, readU64, writeBigU64, writeU64 } from './u64.ts'
import { violation } from './violation.ts'

const FRAME_FIXED_BYTES = 64
const PART_BYTES = 24
const KIND_GAP = 1
const KIND_PART = 2
const CREDIT_BYTES = 16
const CAUGHT_UP_BYTES = 16
const TICK_FIXED_BYTES = 16
const TICK_GROUP_BYTES = 16

export const gapReasons = ['void', 'lost', 'leased'] as const
export type GapReason = (typeof gapReasons)[number]

/** Of which transaction a frame holds a part. */
export interface TransactionPart {
  /** LSN of its begin: what context 2 of its records says. */
  transaction: number
  commitLsn: number
  commitTick: bigint
  /** No part of this transaction follows. */
  last: boolean
}

export interface WireFrame {
  /** `part`: those of its records whose context names the transaction are delivered at the commit's place. */
  kind: 'records' | 'gap' | 'part'
  baseLsn: number
  baseTimeTick: bigint
  bodyHash: bigint
  nodeHash: bigint
  recordCount: number
  headLength: number
  nodeLength: number
  bodyLength: number
  gap: { count: number; reason: GapReason } | null
  part: TransactionPart | null
  /** Indexes of the sections that are present, ascending. */
  sections: readonly number[]
}

/** Header and meta; `bodyLength` bytes (head, node section, padded sections) are sent behind it. */
export function encodeFrame(consumer: number, frame: WireFrame, bodyLength: number): Buffer {
  const count = frame.sections.length
  const sectionsAt = FRAME_FIXED_BYTES + (frame.part === null ? 0 : PART_BYTES)
  const meta = Buffer.alloc(sectionsAt + paddedTo8(4 * count))
  writeU64(meta, 0, frame.baseLsn)
  writeBigU64(meta, 8, frame.baseTimeTick)
  writeBigU64(meta, 16, frame.bodyHash)
  writeBigU64(meta, 24, frame.nodeHash)
  meta.writeUInt32LE(frame.recordCount, 32)
  meta.writeUInt32LE(frame.headLength, 36)
  meta.writeUInt32LE(frame.nodeLength, 40)
  meta.writeUInt32LE(frame.bodyLength, 44)
  if (frame.gap !== null) {
    meta[48] = KIND_GAP
    meta[49] = gapReasons.indexOf(frame.gap.reason) + 1
    writeU64(meta, 56, frame.gap.count)
  }
  if (frame.part !== null) {
    meta[48] = KIND_PART
    meta[50] = frame.part.last ? 1 : 0
    writeU64(meta, FRAME_FIXED_BYTES, frame.part.transaction)
    writeU64(meta, FRAME_FIXED_BYTES + 8, frame.part.commitLsn)
    writeBigU64(meta, FRAME_FIXED_BYTES + 16, frame.part.commitTick)
  }
  meta.writeUInt32LE(count, 52)
  for (let index = 0; index < count; index++) meta.writeUInt32LE(frame.sections[index]!, sectionsAt + 4 * index)
  return encodeMessage(MessageType.frame, consumer, meta, bodyLength)
}

/** Lengths are checked against each other and against `bodyLength`, the length of the message's body. */
export function decodeFrame(meta: Buffer, bodyLength: number): WireFrame {
  if (meta.length < FRAME_FIXED_BYTES) throw violation(`a FRAME has a meta of ${meta.length} bytes`)
  const count = meta.readUInt32LE(52)
  const kind = meta[48]!
  const sectionsAt = FRAME_FIXED_BYTES + (kind === KIND_PART ? PART_BYTES : 0)
  if (count > SECTIONS_MAX || meta.length !== sectionsAt + paddedTo8(4 * count)) {
    throw violation(`a FRAME of ${count} sections has a meta of ${meta.length} bytes`)
  }
  const reason = meta[49]!
  const recordCount = meta.readUInt32LE(32)
  const headLength = meta.readUInt32LE(36)
  const nodeLength = meta.readUInt32LE(40)
  const skipped = readU64(meta, 56)
  if (kind > KIND_PART || meta[50]! > (kind === KIND_PART ? 1 : 0) || meta[51] !== 0) {
    throw violation(`a FRAME of kind ${kind}`)
  }
  const gapReason = kind === KIND_GAP ? gapReasons[reason - 1] : undefined
  if (kind === KIND_GAP) {
    if (gapReason === undefined || skipped === 0 || recordCount + headLength + nodeLength + count + bodyLength !== 0) {
      throw violation('a FRAME of a gap holds something else')
    }
  } else if (reason !== 0 || skipped !== 0 || recordCount < 1 || recordCount > RECORDS_MAX) {
    throw violation(`a FRAME of ${recordCount} records`)
  } else if (headLength % 8 !== 0 || nodeLength % 8 !== 0 || headLength === 0 || headLength + nodeLength > bodyLength) {
    throw violation('the lengths of a FRAME do not add up')
  }
  const sections: number[] = []
  let previous = -1
  for (let index = 0; index < count; index++) {
    const section = meta.readUInt32LE(sectionsAt + 4 * index)
    if (section <= previous || section >= recordCount) throw violation('the sections of a FRAME are out of order')
    sections.push(section)
    previous = section
  }
  return {
    kind: kind === KIND_GAP ? 'gap' : kind === KIND_PART ? 'part' : 'records',
    baseLsn: readU64(meta, 0),
    baseTimeTick: readBigU64(meta, 8),
    bodyHash: readBigU64(meta, 16),
    nodeHash: readBigU64(meta, 24),
    recordCount,
    headLength,
    nodeLength,
    bodyLength: meta.readUInt32LE(44),
    gap: gapReason === undefined ? null : { count: skipped, reason: gapReason },
    part: kind === KIND_PART ? partOf(meta) : null,
    sections,
  }
}

function partOf(meta: Buffer): TransactionPart {
  const part = {
    transaction: readU64(meta, FRAME_FIXED_BYTES),
    commitLsn: readU64(meta, FRAME_FIXED_BYTES + 8),
    commitTick: readBigU64(meta, FRAME_FIXED_BYTES + 16),
    last: meta[50] === 1,
  }
  if (part.commitLsn <= part.transaction) throw violation('a transaction of a FRAME ends before it begins')
  return part
}

export interface Credit {
  bytes: number
  frames: number
}

export function encodeCredit(consumer: number, credit: Credit): Buffer {
  const meta = Buffer.alloc(CREDIT_BYTES)
  writeU64(meta, 0, credit.bytes)
  meta.writeUInt32LE(credit.frames, 8)
  return encodeMessage(MessageType.credit, consumer, meta)
}

export function decodeCredit(meta: Buffer): Credit {
  if (meta.length !== CREDIT_BYTES || meta.readUInt32LE(12) !== 0) throw violation('a CREDIT of another form')
  return { bytes: readU64(meta, 0), frames: meta.readUInt32LE(8) }
}

export interface CaughtUp {
  lsn: number
  timeTick: bigint
}

export function encodeCaughtUp(consumer: number, { lsn, timeTick }: CaughtUp): Buffer {
  const meta = Buffer.allocUnsafe(CAUGHT_UP_BYTES)
  writeU64(meta, 0, lsn)
  writeBigU64(meta, 8, timeTick)
  return encodeMessage(MessageType.caughtUp, consumer, meta)
}

export function decodeCaughtUp(meta: Buffer): CaughtUp {
  if (meta.length !== CAUGHT_UP_BYTES) throw violation(`a CAUGHT_UP has a meta of ${meta.length} bytes`)
  return { lsn: readU64(meta, 0), timeTick: readBigU64(meta, 8) }
}

export interface TickMessage {
  groups: { group: number; timeTick: bigint }[]
  /** Of every group that is not among `groups`; 0n: nothing is said of them. */
  others: bigint
  /** Consumers of whose watermark nothing is said until their next CAUGHT_UP. */
  leftOut: number[]
}

export function encodeTick({ groups, others, leftOut }: TickMessage): Buffer {
  const consumersAt = TICK_FIXED_BYTES + TICK_GROUP_BYTES * groups.length
  const meta = Buffer.alloc(consumersAt + paddedTo8(4 * leftOut.length))
  meta.writeUInt32LE(groups.length, 0)
  meta.writeUInt32LE(leftOut.length, 4)
  writeBigU64(meta, 8, others)
  for (const [index, { group, timeTick }] of groups.entries()) {
    meta.writeUInt32LE(group, TICK_FIXED_BYTES + TICK_GROUP_BYTES * index)
    writeBigU64(meta, TICK_FIXED_BYTES + TICK_GROUP_BYTES * index + 8, timeTick)
  }
  for (const [index, consumer] of leftOut.entries()) meta.writeUInt32LE(consumer, consumersAt + 4 * index)
  return encodeMessage(MessageType.tick, 0, meta)
}

export function decodeTick(meta: Buffer): TickMessage {
  if (meta.length < TICK_FIXED_BYTES) throw violation(`a TICK has a meta of ${meta.length} bytes`)
  const groupCount = meta.readUInt32LE(0)
  const consumerCount = meta.readUInt32LE(4)
  const consumersAt = TICK_FIXED_BYTES + TICK_GROUP_BYTES * groupCount
  if (meta.length !== consumersAt + paddedTo8(4 * consumerCount)) throw violation('the lengths of a TICK do not add up')
  const groups: TickMessage['groups'] = []
  for (let at = TICK_FIXED_BYTES; at < consumersAt; at += TICK_GROUP_BYTES) {
    groups.push({ group: meta.readUInt32LE(at), timeTick: readBigU64(meta, at + 8) })
  }
  const leftOut: number[] = []
  for (let index = 0; index < consumerCount; index++) leftOut.push(meta.readUInt32LE(consumersAt + 4 * index))
  return { groups, others: readBigU64(meta, 8), leftOut }
}

/** Length on the wire of a FRAME with so many sections: what credit is taken for it. `part`: of a transaction. */
export function frameMessageBytes(sectionCount: number, bodyLength: number, part = false): number {
  const fixed = MESSAGE_HEADER_BYTES + FRAME_FIXED_BYTES + (part ? PART_BYTES : 0)
  return fixed + paddedTo8(4 * sectionCount) + bodyLength
}
