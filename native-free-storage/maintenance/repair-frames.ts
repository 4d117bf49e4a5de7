/**
 * What of a segment is intact, in order, with what is lost between: once to plan a repair, once to copy.
 */
import { TidelogError } from '../errors.ts'
import { type FrameHeader, FrameKind, lastTickOf, nextTickFloor } from '../format/frame-header.ts'
import type { Seal } from '../format/seal.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { SegmentSum } from './segment-sum.ts'
import { walkSegment } from './segment-walk.ts'
import { readSeal, verifySeal } from './verify-seal.ts'

export interface LsnRange {
  lsnFrom: number
  lsnTo: number
}

/** Where the data of a segment ends, as far as it is known. */
export interface SegmentBounds {
  /** Nothing at or behind it belongs to the log. */
  endPosition: number
  /** The LSN behind the last one; null: what the frames say. */
  nextLsn: number | null
}

export type Piece =
  | { kind: 'frame'; header: FrameHeader; bytes: Buffer; nextLsn: number }
  | { kind: 'lost'; lsnFrom: number; count: number }

/** The intact frames of a segment and the LSNs lost between them, dense from its base LSN on. Throws FORMAT_UNKNOWN. */
export async function* piecesOf(opened: OpenSegment, bounds: SegmentBounds): AsyncGenerator<Piece, void> {
  const { segment } = opened
  let expected = segment.baseLsn
  let floor = opened.header.baseTimeTick
  const limit = bounds.nextLsn ?? Number.MAX_SAFE_INTEGER
  const walk = walkSegment(opened, {
    from: SEGMENT_HEADER_BYTES,
    end: bounds.endPosition,
    lsn: undefined,
    chain: undefined,
    content: true,
  })
  for await (const { header, intact, bytes, nextLsn, unknownFormat, position } of walk) {
    if (unknownFormat) throw unknown(segment.name, position)
    if (header === null || !intact || nextLsn === undefined || header.kind === FrameKind.seal) continue
    // A frame of another time, which stands in the wrong place: its LSNs or ticks were given already, or are another's.
    if (header.baseLsn < expected || nextLsn > limit || header.baseTimeTick < floor) continue
    if (header.baseLsn > expected) yield { kind: 'lost', lsnFrom: expected, count: header.baseLsn - expected }
    yield { kind: 'frame', header, bytes, nextLsn }
    expected = nextLsn
    floor = nextTickFloor(header)
  }
  if (bounds.nextLsn !== null && expected < bounds.nextLsn) {
    yield { kind: 'lost', lsnFrom: expected, count: bounds.nextLsn - expected }
  }
}

export interface Examined {
  /** Every byte up to the end is what it has to be, the seal included. */
  isSound: boolean
  /** The same without the seal. */
  isDataSound: boolean
  /** In words, the first thing that is wrong. */
  fault: string | null
  lost: LsnRange[]
  /** Behind the last intact frame. */
  position: number
  chain: bigint
  nextLsn: number
  /** The last tick that an intact frame gave; 0n: none. */
  lastTimeTick: bigint
  /** The furthest point that an intact frame says was durable. */
  durablePosition: number
  frames: number
  seal: Seal | null
  /** Of its frames: what an index is made of, where the segment is sound. */
  sum: SegmentSum
}

/** Reads all of a segment. Throws FORMAT_UNKNOWN, IO_FAILED. */
export async function examine(opened: OpenSegment, bounds: SegmentBounds): Promise<Examined> {
  const { segment, header } = opened
  const { endPosition } = bounds
  const sum = new SegmentSum(header, null)
  const walk = walkSegment(opened, {
    from: SEGMENT_HEADER_BYTES,
    end: endPosition,
    lsn: header.baseLsn,
    chain: header.checksum,
    content: true,
  })
  let fault: string | null = null
  let position = SEGMENT_HEADER_BYTES
  let durablePosition = SEGMENT_HEADER_BYTES
  for await (const frame of walk) {
    if (frame.unknownFormat) throw unknown(segment.name, frame.position)
    sum.add(frame)
    if (frame.faults.length > 0) fault ??= `the frame at position ${frame.position}: ${frame.faults.join('; ')}`
    else if (frame.paddingFault) fault ??= `padding of the frame at position ${frame.position} is not zero`
    if (frame.header === null || frame.faults.length > 0) continue
    position = frame.nextPosition
    durablePosition = Math.max(durablePosition, frame.header.durablePosition)
  }
  const { chain, lastTimeTick, frames } = sum
  const nextLsn = sum.nextLsn ?? header.baseLsn
  if (position !== endPosition) fault ??= `its data ends at position ${position}, not ${endPosition}`
  if (bounds.nextLsn !== null && nextLsn !== bounds.nextLsn) {
    fault ??= `it ends before LSN ${nextLsn}, not ${bounds.nextLsn}`
  }
  const isDataSound = fault === null
  const seal = await readSeal(opened, endPosition)
  const sealed = await verifySeal(opened, endPosition, sum, null)
  fault ??= sealed.findings.find(({ severity }) => severity !== 'info')?.message ?? null
  if (fault !== null) {
    return { isSound: false, isDataSound, fault, seal, sum, ...(await tallyPieces(opened, bounds)) }
  }
  const end = { position, chain, nextLsn, lastTimeTick }
  return { isSound: true, isDataSound, fault, seal, sum, lost: [], ...end, durablePosition, frames }
}

type Tallied = Pick<Examined, 'lost' | 'position' | 'chain' | 'nextLsn' | 'lastTimeTick' | 'durablePosition' | 'frames'>

async function tallyPieces(opened: OpenSegment, bounds: SegmentBounds): Promise<Tallied> {
  const found: Tallied = {
    lost: [],
    position: SEGMENT_HEADER_BYTES,
    chain: opened.header.checksum,
    nextLsn: opened.header.baseLsn,
    lastTimeTick: 0n,
    durablePosition: SEGMENT_HEADER_BYTES,
    frames: 0,
  }
  for await (const piece of piecesOf(opened, bounds)) {
    if (piece.kind === 'lost') {
      found.lost.push({ lsnFrom: piece.lsnFrom, lsnTo: piece.lsnFrom + piece.count - 1 })
      continue
    }
    const { header } = piece
    found.frames++
    found.position = header.position + header.totalLength
    found.chain = header.checksum
    found.nextLsn = piece.nextLsn
    if (gives(header)) found.lastTimeTick = lastTickOf(header)
    found.durablePosition = Math.max(found.durablePosition, header.durablePosition)
  }
  return found
}

function gives(header: FrameHeader): boolean {
  return header.kind === FrameKind.records || header.kind === FrameKind.timeTick
}

function unknown(file: string, position: number): TidelogError {
  const message = `${file} has a frame of a later version at position ${position}: repair it with that version. Nothing was changed.`
  return new TidelogError('FORMAT_UNKNOWN', message, { file, position })
}
