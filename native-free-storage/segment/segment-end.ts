/**
 * Where the data of a segment ends, and whether the segment after it is the right one.
 *
 * The successor's header says where its predecessor ended, and the chain there. When the predecessor has been rewritten
 * since, the successor still names the file that was replaced; the new file says which one that was, and its own seal
 * frame says where it ends.
 */
import { TidelogError } from '../errors.ts'
import { hash64 } from '../format/checksum.ts'
import { decodeFrameHeader, FrameKind } from '../format/frame-header.ts'
import { decodeSeal } from '../format/seal.ts'
import type { DecodedSegmentHeader } from '../format/segment-header.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import { type OpenSegment, readAt, type SegmentReference } from './segment-file.ts'

/**
 * The end of `opened` as its successor has it. Throws SEGMENT_MISSING when the successor follows another segment,
 * LOG_DAMAGED when the two contradict each other.
 */
export async function endBeforeSuccessor(opened: OpenSegment, successor: DecodedSegmentHeader): Promise<SegmentEnd> {
  const { segment, header } = opened
  const { previous } = successor
  if (previous !== null && previous.id === segment.id) {
    return { position: previous.end, chain: previous.chain, nextLsn: successor.baseLsn }
  }
  const { replaced } = header
  if (previous !== null && replaced !== null && previous.id === replaced.id) {
    if (previous.end !== replaced.end || previous.chain !== replaced.chain) {
      const message = `${segment.name} replaces a segment that ended elsewhere than its successor says`
      throw new TidelogError('LOG_DAMAGED', message, { file: segment.name, position: 0, lsnFrom: segment.baseLsn })
    }
    const sealed = await readSealedEnd(opened)
    if (sealed !== null && sealed.nextLsn === successor.baseLsn) return sealed
    const message = `${segment.name} was rewritten and has no valid seal that ends at LSN ${successor.baseLsn - 1}`
    const lsnTo = successor.baseLsn - 1
    throw new TidelogError('LOG_DAMAGED', message, { file: segment.name, lsnFrom: segment.baseLsn, lsnTo })
  }
  throw wrongPredecessor(segment, successor)
}

/** What an entry says of its end must be what its successor's header says. Throws as `endBeforeSuccessor`. */
export function checkSuccessor(opened: OpenSegment, end: SegmentEnd, successor: DecodedSegmentHeader): void {
  const { segment, header } = opened
  const { previous } = successor
  const named = previous?.id === segment.id
  if (!named && (header.replaced === null || previous?.id !== header.replaced.id)) {
    throw wrongPredecessor(segment, successor)
  }
  const expected = named ? { end: end.position, chain: end.chain } : header.replaced!
  const follows = previous!.end === expected.end && previous!.chain === expected.chain
  if (follows && successor.baseLsn === end.nextLsn) return
  const file = `${successor.segmentId}`
  const message = `segment ${file} begins with LSN ${successor.baseLsn} and does not continue the end of ${segment.name}, where LSN ${end.nextLsn} follows`
  const lsnTo = Math.max(end.nextLsn, successor.baseLsn) - 1
  throw new TidelogError('LOG_DAMAGED', message, {
    file: segment.name,
    position: end.position,
    lsnFrom: Math.min(end.nextLsn, successor.baseLsn),
    lsnTo,
  })
}

function wrongPredecessor(segment: SegmentReference, successor: DecodedSegmentHeader): TidelogError {
  const before = successor.previous === null ? 'no segment' : `segment ${successor.previous.id}`
  const follows = `segment ${successor.segmentId}, which begins with LSN ${successor.baseLsn}, follows ${before}`
  const message = `${follows}, and not ${segment.name}: one or more segments between them are missing`
  const lsnTo = successor.baseLsn - 1
  return new TidelogError('SEGMENT_MISSING', message, { file: segment.name, lsnFrom: segment.baseLsn, lsnTo })
}

/** The end that the seal frame of a trimmed file names; null when there is no valid one. */
export async function readSealedEnd(opened: OpenSegment): Promise<SegmentEnd | null> {
  const { file, segment, header } = opened
  const size = await file.size()
  const position = size - header.alignment
  if (position < 4096) return null
  const bytes = Buffer.allocUnsafeSlow(header.alignment)
  if ((await readAt(file, segment, bytes, 0, bytes.length, position)) < bytes.length) return null
  try {
    const frame = decodeFrameHeader(bytes, 0, bytes.length, header.salt, position)
    if (frame === null || frame.kind !== FrameKind.seal) return null
    const body = bytes.subarray(frame.headerLength, frame.headerLength + frame.bodyLength)
    if (hash64(body) !== frame.bodyHash) return null
    const seal = decodeSeal(body)
    if (seal.end !== position || seal.salt !== header.salt || seal.chain !== frame.chain) return null
    return { position, chain: seal.chain, nextLsn: seal.nextLsn }
  } catch {
    return null
  }
}
