/** A records frame put together from its codecs, and taken apart with every check that there is. */
import {
  type BodyHead,
  checkPadding,
  openBodyHead,
  verifySection,
} from '../../../native-free-storage/format/body-head.ts'
import { planBody, type RecordInput } from '../../../native-free-storage/format/body-plan.ts'
import { writeBody } from '../../../native-free-storage/format/body-writer.ts'
import { hash64 } from '../../../native-free-storage/format/checksum.ts'
import { type Context, decodeContext, encodeContext } from '../../../native-free-storage/format/contexts.ts'
import {
  checkFramePadding,
  decodeFrameHeader,
  encodeFrameHeader,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameKind,
} from '../../../native-free-storage/format/frame-header.ts'
import {
  decodeNodeSection,
  encodeNodeSection,
  type NodeSection,
  type Stamp,
} from '../../../native-free-storage/format/node-section.ts'
import { decodeProperties } from '../../../native-free-storage/format/properties.ts'

export interface FrameInput {
  salt: bigint
  position: number
  durablePosition: number
  chain: bigint
  ownerTerm: number
  incarnation: number
  baseLsn: number
  baseTimeTick: bigint
  alignment: number
  contexts: readonly Context[]
  records: readonly RecordInput[]
  stamps: readonly Stamp[]
  voids: readonly number[]
}

export function encodeFrame(input: FrameInput): Buffer {
  const { records, stamps, voids, salt } = input
  const plan = planBody(records, undefined, input.contexts.map(encodeContext))
  const nodeSection = encodeNodeSection({ recordCount: records.length, stamps, voids })
  const length = FRAME_HEADER_BYTES + plan.bodyBytes + nodeSection.length
  const totalLength = Math.ceil(length / input.alignment) * input.alignment
  const bytes = Buffer.alloc(totalLength)
  const bodyHash = writeBody(plan, bytes, FRAME_HEADER_BYTES)
  nodeSection.copy(bytes, FRAME_HEADER_BYTES + plan.bodyBytes)
  encodeFrameHeader(
    bytes,
    0,
    {
      kind: FrameKind.records,
      flags: 0,
      totalLength,
      bodyLength: plan.bodyBytes,
      nodeSectionLength: nodeSection.length,
      recordCount: records.length,
      ownerTerm: input.ownerTerm,
      incarnation: input.incarnation,
      baseLsn: input.baseLsn,
      baseTimeTick: input.baseTimeTick,
      position: input.position,
      durablePosition: input.durablePosition,
      chain: input.chain,
      bodyHash,
      nodeHash: nodeSection.length === 0 ? 0n : hash64(nodeSection),
    },
    salt,
  )
  return bytes
}

export interface OpenedFrame {
  header: FrameHeader
  head: BodyHead
  body: Buffer
  nodeSection: NodeSection
}

/** Null, or a FormatError, when anything at all is wrong with the frame that `bytes` are. */
export function openFrame(bytes: Buffer, salt: bigint, position: number): OpenedFrame | null {
  const header = decodeFrameHeader(bytes, 0, bytes.length, salt, position)
  if (header === null || header.totalLength !== bytes.length) return null
  const bodyEnd = header.headerLength + header.bodyLength
  const body = bytes.subarray(header.headerLength, bodyEnd)
  const head = openBodyHead(body, header.bodyLength, header.recordCount, header.bodyHash)
  for (let index = 0; index < head.vchannelCount; index++) {
    const offset = head.sectionOffset(index)
    if (!verifySection(head, index, body.subarray(offset, offset + head.sectionLength(index)))) return null
  }
  const nodeBytes = bytes.subarray(bodyEnd, bodyEnd + header.nodeSectionLength)
  if (nodeBytes.length > 0 && hash64(nodeBytes) !== header.nodeHash) return null
  if (!checkPadding(head, body) || !checkFramePadding(header, bytes)) return null
  return { header, head, body, nodeSection: decodeNodeSection(nodeBytes, header.recordCount) }
}

/** What `encodeFrame` would make the frame from. */
export function decodeFrame(bytes: Buffer, salt: bigint, position: number, alignment: number): FrameInput | null {
  const opened = openFrame(bytes, salt, position)
  if (opened === null) return null
  const { header, head, body, nodeSection } = opened
  const offsets = head.rowOffsets()
  const records: RecordInput[] = []
  const voids: number[] = []
  for (let row = 0; row < head.recordCount; row++) {
    const index = head.vchannelIndex(row)
    const at = head.sectionOffset(index) + offsets[row]!
    const payloadAt = at + head.propertiesLength(row)
    const payload = body.subarray(payloadAt, payloadAt + head.payloadLength(row))
    const contextIndex = head.contextIndex(row)
    records.push({
      vchannel: head.vchannels[index]!,
      type: head.type(row),
      properties: { ...decodeProperties(body.subarray(at, payloadAt)) },
      payload: head.hasNullPayload(row) ? null : new Uint8Array(payload),
      ...(contextIndex < 0 ? {} : { contextIndex }),
    })
    if (nodeSection.isVoid(row)) voids.push(row)
  }
  return {
    salt,
    position,
    durablePosition: header.durablePosition,
    chain: header.chain,
    ownerTerm: header.ownerTerm,
    incarnation: header.incarnation,
    baseLsn: header.baseLsn,
    baseTimeTick: header.baseTimeTick,
    alignment,
    contexts: Array.from({ length: head.contextCount }, (_, index) => decodeContext(head.context(index))),
    records,
    stamps: nodeSection.stamps.map((stamp) => ({ ...stamp, value: new Uint8Array(stamp.value) })),
    voids,
  }
}
