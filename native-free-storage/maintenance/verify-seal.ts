/** The seal of a segment, and what stands behind it. */
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeFrameHeader, FRAME_HEADER_BYTES, FrameKind } from '../format/frame-header.ts'
import { decodeSeal, SEAL_BODY_BYTES, type Seal } from '../format/seal.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'
import { type Finding, finding } from './findings.ts'
import type { SegmentSum } from './segment-sum.ts'
import { firstNonZero } from './segment-walk.ts'

const CHUNK_BYTES = 1024 * 1024
const SEAL_END = FRAME_HEADER_BYTES + SEAL_BODY_BYTES

export interface SealVerification {
  /** A seal is, or was, at the end. */
  isSealed: boolean
  findings: Finding[]
}

/**
 * The seal at `end`. `nextId`: the segment that follows, null: not known. A segment that was cut has none and need not
 * have one.
 */
export async function verifySeal(
  opened: OpenSegment,
  end: number,
  sum: SegmentSum,
  nextId: string | null,
): Promise<SealVerification> {
  const { header, segment } = opened
  const file = segment.name
  const size = await opened.file.size()
  const sealEnd = Math.min(size, end + header.alignment)
  const bytes = Buffer.alloc(Math.max(0, sealEnd - end))
  await readAt(opened.file, segment, bytes, 0, bytes.length, end)
  const seal = decodeSealFrame(bytes, header, end)
  // What is sealed ends with this LSN.
  const lsns = sum.nextLsn === undefined ? {} : { lsnFrom: header.baseLsn, lsnTo: lastOf(header.baseLsn, sum.nextLsn) }
  const place = { file, position: end, ...lsns }
  if (seal === null) {
    const at = firstNonZero(bytes, 0, bytes.length)
    if (at === null) return { isSealed: false, findings: await behindSeal(opened, sealEnd, size) }
    if (looksLikeSeal(bytes, end, header.alignment)) {
      return { isSealed: true, findings: [finding('SEAL_DAMAGED', `the seal of ${file} is damaged`, place)] }
    }
    const message = `${file} was cut at position ${end}; what stands behind is never read`
    return { isSealed: false, findings: [finding('BYTES_BEYOND_CUT', message, { file, position: end + at })] }
  }
  const findings: Finding[] = []
  const paddingAt = firstNonZero(bytes, SEAL_END, bytes.length)
  if (paddingAt !== null) {
    const message = `padding of the seal of ${file} is not zero`
    findings.push(finding('PADDING_NOT_ZERO', message, { file, position: end + paddingAt }))
  }
  const isOfSegment = seal.end === end && seal.salt === header.salt && seal.firstLsn === header.baseLsn
  const namesNext =
    seal.nextSegmentId === null || nextId === null || seal.nextSegmentId === nextId || header.replaced !== null
  if (!isOfSegment || !namesNext || !(sum.clean ? fits(seal, sum) : true)) {
    findings.push(finding('SEAL_DAMAGED', `the seal of ${file} says other things than its frames`, place))
  }
  findings.push(...(await behindSeal(opened, sealEnd, size)))
  return { isSealed: true, findings }
}

/** The seal at `position`, whole and with its hashes; null when there is none. */
export async function readSeal(opened: OpenSegment, position: number): Promise<Seal | null> {
  if (position < SEGMENT_HEADER_BYTES) return null
  const { file, segment, header } = opened
  const bytes = Buffer.alloc(header.alignment)
  const length = await readAt(file, segment, bytes, 0, bytes.length, position)
  return decodeSealFrame(bytes.subarray(0, length), header, position)
}

function decodeSealFrame(bytes: Buffer, { salt }: { salt: bigint }, position: number): Seal | null {
  try {
    const frame = decodeFrameHeader(bytes, 0, bytes.length, salt, position)
    if (frame === null || frame.kind !== FrameKind.seal || bytes.length < frame.totalLength) return null
    const body = bytes.subarray(frame.headerLength, frame.headerLength + frame.bodyLength)
    return hash64(body) === frame.bodyHash ? decodeSeal(body) : null
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}

function fits(seal: Seal, sum: SegmentSum): boolean {
  return (
    seal.chain === sum.chain &&
    seal.nextLsn === sum.nextLsn &&
    seal.frames === sum.frames &&
    seal.records === sum.records &&
    seal.firstTimeTick === sum.firstTimeTick &&
    seal.lastTimeTick === sum.lastTimeTick
  )
}

function lastOf(baseLsn: number, nextLsn: number): number | null {
  return nextLsn > baseLsn ? nextLsn - 1 : null
}

async function behindSeal(opened: OpenSegment, from: number, size: number): Promise<Finding[]> {
  const { segment } = opened
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, Math.max(0, size - from)))
  for (let at = from; at < size; at += chunk.length) {
    const length = await readAt(opened.file, segment, chunk, 0, Math.min(chunk.length, size - at), at)
    const found = firstNonZero(chunk, 0, length)
    if (found === null) continue
    const message = `bytes stand behind the end of ${segment.name}; they are never read`
    return [finding('BYTES_BEYOND_CUT', message, { file: segment.name, position: at + found })]
  }
  return []
}

/** Whether these bytes are those of a seal at `position` of which some have changed or are gone: most of its marks are there. */
function looksLikeSeal(found: Buffer, position: number, alignment: number): boolean {
  const bytes = Buffer.alloc(SEAL_END)
  found.copy(bytes)
  const marks = [
    bytes.toString('latin1', 8, 12) === 'TFRM',
    bytes[14] === FrameKind.seal,
    bytes.readUInt32LE(16) === alignment,
    bytes.readUInt32LE(20) === SEAL_BODY_BYTES,
    bytes.readBigUInt64LE(56) === BigInt(position),
    bytes.readBigUInt64LE(FRAME_HEADER_BYTES) === BigInt(position),
  ]
  // Every other frame has the magic and its position, and may have this length.
  return marks.filter((isThere) => isThere).length >= 4 && (marks[1]! || marks[3]!)
}
