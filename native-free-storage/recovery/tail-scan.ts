/**
 * Walks the frames of a tail from a point that is known to be durable to the last valid frame, then looks ahead: the
 * evidence for the decision table (classify.ts). Verifies headers; the bodies of what is not proven are verified by
 * whoever copies them. Reads, never writes.
 */
import { type Disk, type DiskFile, isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import {
  decodeFrameHeader,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameKind,
  lastTickOf,
  looksLikeFrame,
  nextLsnAfter,
  nextTickFloor,
} from '../format/frame-header.ts'
import { decodeGap, GAP_BODY_BYTES } from '../format/gap.ts'
import { decodeSeal, SEAL_BODY_BYTES, type Seal } from '../format/seal.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'
import type { FramesBehind, TailEnding, TailEvidence } from './classify.ts'
import { FileWindow } from './file-window.ts'

/** A place between two frames, and all that is known there. */
export interface TailPoint {
  position: number
  chain: bigint
  nextLsn: number
  /** The last tick given at or before it. */
  lastTimeTick: bigint
}

export interface TailFrame {
  header: FrameHeader
  nextLsn: number
}

/** How many of `frames`, which follow `start`, end where a neighbour says that the segment did, and the point there. */
export function pointNamed(
  frames: readonly TailFrame[],
  start: TailPoint,
  named: { end: number; chain: bigint },
): { frames: number; point: TailPoint } | null {
  let point = start
  for (const [index, { header, nextLsn }] of frames.entries()) {
    point = pointBehind(header, nextLsn, point)
    if (point.position === named.end && point.chain === named.chain) return { frames: index + 1, point }
  }
  return null
}

/** Whether the segment holds a frame. One that was only begun holds none before the manifest names it. */
export async function holdsFrame({ file, segment, header }: OpenSegment): Promise<boolean> {
  const bytes = Buffer.alloc(header.alignment)
  const length = await readAt(file, segment, bytes, 0, bytes.length, SEGMENT_HEADER_BYTES)
  return decodeFrameHeader(bytes, 0, length, header.salt, SEGMENT_HEADER_BYTES) !== null
}

function pointBehind(header: FrameHeader, nextLsn: number, before: TailPoint): TailPoint {
  const given = header.kind === FrameKind.records || header.kind === FrameKind.timeTick
  return {
    position: header.position + header.totalLength,
    chain: header.checksum,
    nextLsn,
    lastTimeTick: given ? lastTickOf(header) : before.lastTimeTick,
  }
}

export interface TailScan {
  /** Behind the last valid frame. */
  end: TailPoint
  /** The last point that is proven to have been durable. */
  proven: TailPoint
  /** The valid frames between the two. */
  unproven: readonly TailFrame[]
  seal: Seal | null
  evidence: TailEvidence
  /** From here on the file holds only zeros (the end of the file when it holds none). */
  zeroFrom: number
  fileBytes: number
  /** When frames stand behind the end: the highest LSN of them, plus one. */
  nextLsnBehind: number
  /** The greatest durable position in frames behind the end. */
  provenBehind: number
}

/** Longest header of a later version (one byte of length). */
const HEADER_BYTES_MAX = 248
const CONTROL_BODY_BYTES_MAX = Math.max(SEAL_BODY_BYTES, GAP_BODY_BYTES)
const ZEROS = Buffer.alloc(64 * 1024)

/**
 * @param start a point that is proven: the manifest's, or the first frame's.
 * Throws FORMAT_UNKNOWN, IO_FAILED.
 */
export async function scanTail(file: DiskFile, salt: bigint, start: TailPoint): Promise<TailScan> {
  const fileBytes = await file.size()
  const window = new FileWindow(file, fileBytes)
  let end = start
  let floor = start.lastTimeTick === 0n ? 0n : start.lastTimeTick + 1n
  let proven = start
  let provenPosition = start.position
  const points: TailPoint[] = [start]
  let unproven: TailFrame[] = []
  let seal: Seal | null = null

  while (end.position + FRAME_HEADER_BYTES <= fileBytes) {
    const length = Math.min(HEADER_BYTES_MAX + CONTROL_BODY_BYTES_MAX, fileBytes - end.position)
    const bytes = await window.view(end.position, length)
    const header = decoded(file, bytes, salt, end.position)
    if (header === null || header.chain !== end.chain || header.baseLsn !== end.nextLsn) break
    if (header.baseTimeTick < floor || end.position + header.totalLength > fileBytes) break
    const control = controlBody(header, bytes)
    if (control === 'damaged') break
    if (header.durablePosition > provenPosition) provenPosition = header.durablePosition
    if (control !== null && 'salt' in control) {
      seal = control
      break
    }
    const nextLsn = nextLsnAfter(header, control?.count)
    end = pointBehind(header, nextLsn, end)
    floor = nextTickFloor(header) > floor ? nextTickFloor(header) : floor
    points.push(end)
    unproven.push({ header, nextLsn })
    if (points.length > 4096) {
      // Only what is not proven has to be kept.
      ;({ proven, unproven } = prune(points, unproven, provenPosition, proven))
    }
  }
  // Everything before a seal was durable when it was written.
  if (seal !== null) provenPosition = Math.max(provenPosition, end.position)
  ;({ proven, unproven } = prune(points, unproven, provenPosition, proven))
  const behind = await lookAhead(file, window, salt, end, seal === null ? end.position : end.position + 8, fileBytes)
  const framesBehind: FramesBehind =
    behind.frames === 0
      ? 'none'
      : Math.max(behind.provenPosition, provenPosition) > end.position
        ? 'proving'
        : 'unproven'
  const ending: TailEnding = seal !== null ? 'seal' : behind.zeroFrom <= end.position ? 'empty' : 'invalid'
  return {
    end,
    proven,
    unproven,
    seal,
    evidence: { ending, framesBehind, manifestBeyond: start.position > fileBytes || provenPosition > end.position },
    zeroFrom: behind.zeroFrom,
    fileBytes,
    nextLsnBehind: behind.nextLsn,
    provenBehind: behind.provenPosition,
  }
}

function prune(
  points: TailPoint[],
  unproven: readonly TailFrame[],
  provenPosition: number,
  before: TailPoint,
): { proven: TailPoint; unproven: TailFrame[] } {
  let proven = before
  let kept = 0
  for (const point of points) {
    if (point.position > provenPosition) break
    proven = point
    kept++
  }
  points.splice(0, Math.max(0, kept - 1))
  return { proven, unproven: unproven.filter(({ header }) => header.position >= proven.position) }
}

function decoded(file: DiskFile, bytes: Buffer, salt: bigint, position: number): FrameHeader | null {
  try {
    return decodeFrameHeader(bytes, 0, bytes.length, salt, position)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    throw new TidelogError('FORMAT_UNKNOWN', `${file.path} at ${position}: ${error.message}`, {
      file: file.path,
      position,
      cause: error,
    })
  }
}

/** What a gap or seal frame says; null for other frames. */
function controlBody(header: FrameHeader, bytes: Buffer): ({ count: number } | Seal) | null | 'damaged' {
  if (header.kind !== FrameKind.gap && header.kind !== FrameKind.seal) return null
  const body = bytes.subarray(header.headerLength, header.headerLength + header.bodyLength)
  if (body.length < header.bodyLength || hash64(body) !== header.bodyHash) return 'damaged'
  try {
    return header.kind === FrameKind.gap ? decodeGap(body) : decodeSeal(body)
  } catch (error) {
    if (error instanceof FormatError && error.code === 'DAMAGED') return 'damaged'
    throw error
  }
}

interface Behind {
  frames: number
  provenPosition: number
  nextLsn: number
  zeroFrom: number
}

/** Frames of this very file behind its end, and where its zeros begin. */
async function lookAhead(
  file: DiskFile,
  window: FileWindow,
  salt: bigint,
  end: TailPoint,
  from: number,
  fileBytes: number,
): Promise<Behind> {
  const behind: Behind = {
    frames: 0,
    provenPosition: 0,
    nextLsn: end.nextLsn,
    zeroFrom: Math.min(end.position, fileBytes),
  }
  for (let block = from - (from % ZEROS.length); block < fileBytes; block += ZEROS.length) {
    const begin = Math.max(block, from)
    const length = Math.min(block + ZEROS.length, fileBytes) - begin
    if (length <= 0) continue
    const bytes = await window.view(begin, Math.min(length + HEADER_BYTES_MAX, fileBytes - begin))
    if (bytes.subarray(0, length).equals(ZEROS.subarray(0, length))) continue
    behind.zeroFrom = begin + lastNonZero(bytes, length) + 1
    for (let offset = (8 - (begin % 8)) % 8; offset < length; offset += 8) {
      if (offset + FRAME_HEADER_BYTES > bytes.length || !looksLikeFrame(bytes, offset)) continue
      const position = begin + offset
      const header = decoded(file, bytes.subarray(offset), salt, position)
      if (header === null || header.baseLsn < end.nextLsn || position + header.totalLength > fileBytes) continue
      behind.frames++
      behind.provenPosition = Math.max(behind.provenPosition, header.durablePosition)
      behind.nextLsn = Math.max(behind.nextLsn, header.baseLsn + header.recordCount)
    }
  }
  return behind
}

function lastNonZero(bytes: Buffer, length: number): number {
  let last = length - 1
  while (last >= 0 && bytes[last] === 0) last--
  return last
}

/** Opens a file that has to be there. SEGMENT_MISSING. */
export async function openSegmentFile(disk: Disk, directory: string, name: string, baseLsn: number): Promise<DiskFile> {
  try {
    return await disk.open(`${directory}/${name}`, 'read')
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
    throw new TidelogError('SEGMENT_MISSING', `the manifest names ${name}, which is not in ${directory}`, {
      file: name,
      lsnFrom: baseLsn,
      cause: error,
    })
  }
}
