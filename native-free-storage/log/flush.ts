/**
 * A flush: frames that got their LSNs, ticks and positions, encoded one behind the other in one buffer for one write.
 */

import { assert } from '../errors.ts'
import { RECORD_COUNT as BODY_RECORD_COUNT } from '../format/body-layout.ts'
import { hash64 } from '../format/checksum.ts'
import {
  encodeFrameHeader,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameKind,
  lastTickOf,
} from '../format/frame-header.ts'
import { alignUp } from '../segment/segment-size.ts'
import type { SegmentWriter } from '../segment/segment-writer.ts'
import type { FlushBuffers } from './flush-buffers.ts'
import type { PendingFrame } from './pending-frame.ts'

/** The pair that says who may write; compared in this order. */
export interface Ownership {
  ownerTerm: number
  incarnation: number
}

export interface PlacedFrame {
  /** Null: copied from another segment; nobody waits for it. */
  readonly pending: PendingFrame | null
  readonly header: FrameHeader
  readonly vchannels: readonly string[]
  /** One above the LSNs that the frame takes. */
  readonly nextLsn: number
  /** Where it begins in the buffer of the flush. */
  readonly offset: number
}

export interface Flush {
  readonly position: number
  readonly bytes: Buffer
  readonly frames: readonly PlacedFrame[]
  readonly issuedAtMs: number
  done: boolean
}

/** A frame that is to be placed next. */
export interface Placement {
  pending: PendingFrame
  baseLsn: number
  baseTimeTick: bigint
}

export function frameBytes(pending: PendingFrame): number {
  return FRAME_HEADER_BYTES + pending.bodyBytes + (pending.nodeSection?.length ?? 0)
}

/** Encodes the frames at the writer's position and moves it behind them. `unpaddedBytes`: their lengths together. */
export function buildFlush(
  placements: readonly Placement[],
  unpaddedBytes: number,
  writer: SegmentWriter,
  owner: Ownership,
  buffers: FlushBuffers,
  nowMs: number,
): Flush {
  const position = writer.position
  const total = alignUp(unpaddedBytes, writer.header.alignment)
  const bytes = buffers.take(total)
  bytes.fill(0, unpaddedBytes)
  const frames: PlacedFrame[] = []
  let chain = writer.chain
  let offset = 0
  for (let index = 0; index < placements.length; index++) {
    const { pending, baseLsn, baseTimeTick } = placements[index]!
    const bodyBytes = pending.bodyBytes
    const nodeSection = pending.nodeSection
    const nodeBytes = nodeSection === null ? 0 : nodeSection.length
    const bodyHash = bodyBytes === 0 ? 0n : pending.writeBody(bytes, offset + FRAME_HEADER_BYTES)
    if (pending.recordCount > 0) {
      const written = bytes.readUInt32LE(offset + FRAME_HEADER_BYTES + BODY_RECORD_COUNT)
      assert(written === pending.recordCount, 'a body holds the records that its frame acknowledges')
    }
    if (nodeSection !== null) nodeSection.copy(bytes, offset + FRAME_HEADER_BYTES + bodyBytes)
    const unpadded = FRAME_HEADER_BYTES + bodyBytes + nodeBytes
    const header: FrameHeader = {
      headerLength: FRAME_HEADER_BYTES,
      kind: pending.kind,
      flags: 0,
      totalLength: index === placements.length - 1 ? total - offset : unpadded,
      bodyLength: bodyBytes,
      nodeSectionLength: nodeBytes,
      recordCount: pending.recordCount,
      ownerTerm: owner.ownerTerm,
      incarnation: owner.incarnation,
      baseLsn,
      baseTimeTick,
      position: position + offset,
      durablePosition: writer.durablePosition,
      chain,
      bodyHash,
      nodeHash: nodeSection === null ? 0n : hash64(nodeSection),
      checksum: 0n,
    }
    chain = encodeFrameHeader(bytes, offset, header, writer.header.salt)
    header.checksum = chain
    writer.count(header)
    frames.push({ pending, header, vchannels: pending.vchannels, nextLsn: baseLsn + pending.lsnCount, offset })
    offset += unpadded
  }
  writer.advance(total, chain)
  return { position, bytes, frames, issuedAtMs: nowMs, done: false }
}

/** A frame whose bytes exist already, for another place: LSNs, ticks, body and node section stay. */
export interface MovedFrame {
  pending: PendingFrame | null
  header: FrameHeader
  vchannels: readonly string[]
  nextLsn: number
  /** The frame as it stands in its old place. */
  bytes: Buffer
}

/** Encodes frames of another segment at the writer's position and moves it behind them. */
export function moveFrames(moved: readonly MovedFrame[], writer: SegmentWriter, nowMs: number): Flush {
  const lengths = moved.map(({ header }) => header.headerLength + header.bodyLength + header.nodeSectionLength)
  const unpaddedBytes = lengths.reduce((sum, length) => sum + length, 0)
  const total = alignUp(unpaddedBytes, writer.header.alignment)
  const position = writer.position
  const bytes = Buffer.allocUnsafeSlow(total)
  bytes.fill(0, unpaddedBytes)
  const frames: PlacedFrame[] = []
  let chain = writer.chain
  let offset = 0
  for (const [index, frame] of moved.entries()) {
    const length = lengths[index]!
    frame.bytes.copy(bytes, offset, 0, length)
    const header: FrameHeader = {
      ...frame.header,
      totalLength: index === moved.length - 1 ? total - offset : length,
      position: position + offset,
      durablePosition: writer.durablePosition,
      chain,
    }
    chain = encodeFrameHeader(bytes, offset, header, writer.header.salt)
    header.checksum = chain
    writer.count(header)
    frames.push({ pending: frame.pending, header, vchannels: frame.vchannels, nextLsn: frame.nextLsn, offset })
    offset += length
  }
  writer.advance(total, chain)
  return { position, bytes, frames, issuedAtMs: nowMs, done: false }
}

/** The last tick given at or before the end of the flush; `before` when its frames give none. */
export function lastTickOfFlush(flush: Flush, before: bigint): bigint {
  for (let index = flush.frames.length - 1; index >= 0; index--) {
    const { header } = flush.frames[index]!
    if (header.kind === FrameKind.records || header.kind === FrameKind.timeTick) return lastTickOf(header)
  }
  return before
}
