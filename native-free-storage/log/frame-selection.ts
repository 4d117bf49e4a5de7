/**
 * From frames as they are stored to frames as a reader wants them: the filter is applied to header, head and table
 * first, and only what is delivered is verified.
 */
import type { CachedFrame } from '../cache/frame-cache.ts'
import { type BodyHead, openBodyHead, verifySection } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { type FrameHeader, FrameKind } from '../format/frame-header.ts'
import { decodeGap } from '../format/gap.ts'
import { decodeNodeSection, type NodeSection } from '../format/node-section.ts'
import type { RawFrame } from '../segment/frame-stream.ts'
import { type DamagePlace, frameDamage, frameFailure, type SegmentReference } from '../segment/segment-file.ts'
import { type FrameType, RecordFrame, type Selection } from './record-frame.ts'

const NO_BYTES = Buffer.alloc(0)

export interface WantedFrames {
  /** Null: all. */
  readonly vchannels: ReadonlySet<string> | null
  readonly types: ReadonlySet<number> | null
  /** Records below are left out. */
  readonly fromLsn: number
  /** Records with a smaller tick are left out. */
  readonly fromTick: bigint
  /** Gaps of every reason, not just lost ones. */
  readonly allGaps: boolean
  readonly ticks: boolean
}

/** Whether the header alone says that nothing of the frame is wanted. */
export function isUnwanted(header: FrameHeader, nextLsn: number, wanted: WantedFrames): boolean {
  switch (header.kind) {
    case FrameKind.records:
      if (nextLsn <= wanted.fromLsn) return true
      return wanted.fromTick > 0n && header.baseTimeTick + BigInt(header.recordCount - 1) < wanted.fromTick
    case FrameKind.gap:
      return nextLsn <= wanted.fromLsn
    case FrameKind.timeTick:
      return !wanted.ticks || header.baseTimeTick < wanted.fromTick || header.baseLsn < wanted.fromLsn
    default:
      return true
  }
}

/** A whole frame from a file: null when nothing of it is wanted. Throws FRAME_DAMAGED. */
export function selectWhole(segment: SegmentReference, raw: RawFrame, wanted: WantedFrames): RecordFrame | null {
  const { header, bytes, nextLsn } = raw
  if (isUnwanted(header, nextLsn, wanted)) return null
  const bodyEnd = header.headerLength + header.bodyLength
  const body = bytes.subarray(header.headerLength, bodyEnd)
  if (header.kind !== FrameKind.records) return withoutRecords(segment, header, body, nextLsn, wanted)
  const place = placeOf(header)
  try {
    const head = openBodyHead(body, header.bodyLength, header.recordCount, header.bodyHash)
    const selection = select(head, header, wanted)
    if (selection === null) return null
    const nodeBytes = bytes.subarray(bodyEnd, bodyEnd + header.nodeSectionLength)
    const node = openNodeSection(segment, header, nodeBytes)
    const sections: (Buffer | null)[] | null = selection.vchannels === null ? null : []
    const frame = (): RecordFrame =>
      recordsFrame(segment, header, nextLsn, {
        head,
        body: sections === null ? body : null,
        sections,
        nodeBytes,
        node,
        selection,
      })
    if (sections === null) {
      const made = frame()
      if (!made.hasWanted()) return null
      for (let i = 0; i < head.vchannelCount; i++) checkedSection(segment, header, head, i, sectionOf(head, body, i))
      return made
    }
    for (let i = 0; i < head.vchannelCount; i++)
      sections.push(selection.vchannels![i] === 0 ? null : sectionOf(head, body, i))
    const made = frame()
    if (!made.hasWanted()) return null
    for (const [i, bytes] of sections.entries()) if (bytes !== null) checkedSection(segment, header, head, i, bytes)
    return made
  } catch (error) {
    throw frameFailure(segment, error, place)
  }
}

/** A frame of the cache, whose bytes were verified when they were written: null when nothing of it is wanted. */
export function selectCached(frame: CachedFrame, wanted: WantedFrames): RecordFrame | null {
  const { header, segment, nextLsn } = frame
  if (isUnwanted(header, nextLsn, wanted)) return null
  if (header.kind !== FrameKind.records) return withoutRecords(segment, header, frame.body(), nextLsn, wanted)
  const head = frame.head()
  const selection = select(head, header, wanted)
  if (selection === null) return null
  const nodeBytes = frame.nodeSection()
  const node = nodeBytes.length === 0 ? null : decodeNodeSection(nodeBytes, header.recordCount)
  const body = frame.body()
  const made = recordsFrame(segment, header, nextLsn, { head, body, sections: null, nodeBytes, node, selection })
  return made.hasWanted() ? made : null
}

/** What of a records frame is wanted; null: nothing. */
export function select(head: BodyHead, header: FrameHeader, wanted: WantedFrames): Selection | null {
  let firstIndex = Math.max(0, wanted.fromLsn - header.baseLsn)
  if (wanted.fromTick > header.baseTimeTick) {
    firstIndex = Math.max(firstIndex, Number(wanted.fromTick - header.baseTimeTick))
  }
  if (wanted.vchannels === null) return { firstIndex, vchannels: null, types: wanted.types }
  const names = head.vchannels
  let mask: Uint8Array | null = null
  let count = 0
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!
    if (name !== '' && !wanted.vchannels.has(name)) continue
    mask ??= new Uint8Array(names.length)
    mask[i] = 1
    count++
  }
  if (mask === null) return null
  return { firstIndex, vchannels: count === names.length ? null : mask, types: wanted.types }
}

export function recordsFrame(
  segment: SegmentReference,
  header: FrameHeader,
  nextLsn: number,
  content: {
    head: BodyHead
    body: Buffer | null
    sections: readonly (Buffer | null)[] | null
    nodeBytes: Buffer
    node: NodeSection | null
    selection: Selection
  },
): RecordFrame {
  return new RecordFrame({ type: 'records', file: segment.name, header, nextLsn, gap: null, ...content })
}

/** Throws FRAME_DAMAGED. */
export function openNodeSection(segment: SegmentReference, header: FrameHeader, bytes: Buffer): NodeSection | null {
  if (bytes.length === 0) return null
  if (hash64(bytes) !== header.nodeHash) {
    throw frameDamage(segment, 'its node section does not have its hash', placeOf(header))
  }
  return decodeNodeSection(bytes, header.recordCount)
}

/** Throws FRAME_DAMAGED. */
export function checkedSection(
  segment: SegmentReference,
  header: FrameHeader,
  head: BodyHead,
  index: number,
  bytes: Buffer,
): void {
  if (verifySection(head, index, bytes)) return
  const what = `the records of vchannel "${head.vchannels[index]}" do not have their hash`
  throw frameDamage(segment, what, placeOf(header))
}

/** Of a frame whose header is valid: its own LSNs. */
export function placeOf(header: FrameHeader): DamagePlace {
  const lsnTo = header.baseLsn + Math.max(1, header.recordCount) - 1
  return { position: header.position, lsnFrom: header.baseLsn, lsnTo }
}

function sectionOf(head: BodyHead, body: Buffer, index: number): Buffer {
  const start = head.sectionOffset(index)
  return body.subarray(start, start + head.sectionLength(index))
}

function withoutRecords(
  segment: SegmentReference,
  header: FrameHeader,
  body: Buffer,
  nextLsn: number,
  wanted: WantedFrames,
): RecordFrame | null {
  let type: FrameType = 'tick'
  let gap = null
  if (header.kind === FrameKind.gap) {
    // Its hash was compared when the next LSN was taken from it.
    const { count, reason } = decodeGap(body)
    if (reason !== 'lost' && !wanted.allGaps) return null
    type = 'gap'
    gap = { firstLsn: header.baseLsn, count, reason }
  }
  return new RecordFrame({
    type,
    file: segment.name,
    header,
    nextLsn,
    gap,
    head: null,
    body: null,
    sections: null,
    nodeBytes: NO_BYTES,
    node: null,
    selection: { firstIndex: 0, vchannels: null, types: null },
  })
}
