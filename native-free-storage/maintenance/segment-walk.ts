/**
 * All frames of a segment, good or bad, without stopping at damage: for tools. Behind a header that is not valid the
 * walk looks for the next valid one and says what it passed over.
 */
import { type BodyHead, checkPadding, openBodyHead, verifySection } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import {
  decodeFrameHeader,
  FRAME_STEP_BYTES,
  type FrameHeader,
  FrameKind,
  looksLikeFrame,
  nextLsnAfter,
  nextTickFloor,
} from '../format/frame-header.ts'
import { decodeGap, type Gap } from '../format/gap.ts'
import { paddedTo8 } from '../format/integers.ts'
import { decodeNodeSection, type NodeSection } from '../format/node-section.ts'
import { decodeProperties } from '../format/properties.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'

/** Read at a time; a larger frame is read whole. */
const WINDOW_BYTES = 4 * 1024 * 1024
const HEADER_BYTES_MAX = 248

export interface WalkedFrame {
  position: number
  /** Where the walk goes on. */
  nextPosition: number
  /** Null: there is no valid header at `position`. */
  header: FrameHeader | null
  /** The LSN that was expected here; undefined behind damage. */
  expectedLsn: number | undefined
  /** The LSN behind it; undefined: not known. */
  nextLsn: number | undefined
  head: BodyHead | null
  gap: Gap | null
  node: NodeSection | null
  /** The whole frame; empty without a header. */
  bytes: Buffer
  /** What is wrong with it, in words; empty: nothing. Records may be gone or changed. */
  faults: string[]
  /** All its hashes are right, whatever stands around it. */
  intact: boolean
  /** Bytes that have to be zero and are not. */
  paddingFault: boolean
  /** Position of the first of them in the file; null: there is none. */
  paddingFaultAt: number | null
  /** Of a later version. */
  unknownFormat: boolean
}

export interface WalkOptions {
  from: number
  end: number
  lsn: number | undefined
  chain: bigint | undefined
  /** Without it only headers and heads are verified. */
  content: boolean
  /** How a header is read; by default with the salt of the segment. As `decodeFrameHeader`. */
  decode?: DecodeHeader
}

/** The header at `offset` of `bytes`, which stands at `position` of the file; null: there is none. */
export type DecodeHeader = (bytes: Buffer, offset: number, position: number) => FrameHeader | null

export async function* walkSegment(opened: OpenSegment, options: WalkOptions): AsyncGenerator<WalkedFrame, void> {
  const { header: segment } = opened
  const window = new Window(opened, options.end)
  const decode: DecodeHeader =
    options.decode ??
    ((bytes, offset, position) => decodeFrameHeader(bytes, offset, bytes.length, segment.salt, position))
  let { lsn, chain } = options
  let tickFloor = segment.baseTimeTick
  for (let position = options.from; position < options.end; ) {
    const start = await window.at(position, HEADER_BYTES_MAX)
    const frame = blank(position, lsn)
    try {
      frame.header = decode(start, 0, position)
    } catch (error) {
      noteFault(frame, error)
    }
    const { header } = frame
    if (header === null || position + header.totalLength > options.end) {
      if (header !== null) frame.faults.push(`it ends behind position ${options.end}, where the data ends`)
      else if (frame.faults.length === 0) {
        frame.faults.push(start.length === 0 ? 'the file ends before it' : 'its header is not valid')
      }
      frame.header = null
      frame.nextPosition = await nextFrameFrom(window, decode, position + FRAME_STEP_BYTES, options.end, lsn ?? 0)
      yield frame
      position = frame.nextPosition
      lsn = undefined
      chain = undefined
      continue
    }
    frame.nextPosition = position + header.totalLength
    frame.bytes = await window.at(position, header.totalLength)
    if (chain !== undefined && header.chain !== chain) frame.faults.push('it does not follow the frame before it')
    if (lsn !== undefined && header.baseLsn !== lsn)
      frame.faults.push(`it begins with LSN ${header.baseLsn}, not ${lsn}`)
    if (header.baseTimeTick < tickFloor) frame.faults.push(`its time tick ${header.baseTimeTick} is below ${tickFloor}`)
    if (header.kind === FrameKind.seal) frame.faults.push('a seal stands where the data goes on')
    checkContent(frame, header, options.content)
    yield frame
    lsn = frame.nextLsn
    chain = header.checksum
    const floor = nextTickFloor(header)
    if (floor > tickFloor) tickFloor = floor
    position = frame.nextPosition
  }
}

function blank(position: number, expectedLsn: number | undefined): WalkedFrame {
  return {
    position,
    nextPosition: position,
    header: null,
    expectedLsn,
    nextLsn: undefined,
    head: null,
    gap: null,
    node: null,
    bytes: Buffer.alloc(0),
    faults: [],
    intact: false,
    paddingFault: false,
    paddingFaultAt: null,
    unknownFormat: false,
  }
}

function checkContent(frame: WalkedFrame, header: FrameHeader, content: boolean): void {
  const { bytes } = frame
  const bodyEnd = header.headerLength + header.bodyLength
  const end = bodyEnd + header.nodeSectionLength
  const body = bytes.subarray(header.headerLength, bodyEnd)
  const nodeBytes = bytes.subarray(bodyEnd, end)
  if (header.kind !== FrameKind.gap) frame.nextLsn = nextLsnAfter(header)
  if (bytes.length < header.totalLength) {
    frame.faults.push('the file ends inside it')
    // Padding alone may be what is missing.
    if (bytes.length < end) return
  }
  frame.intact = true
  try {
    if (header.kind === FrameKind.gap) {
      if (hash64(body) !== header.bodyHash) throw new FormatError('DAMAGED', 'its body does not have its hash')
      frame.gap = decodeGap(body)
      frame.nextLsn = nextLsnAfter(header, frame.gap.count)
    } else if (header.kind === FrameKind.records) {
      frame.head = openBodyHead(body, header.bodyLength, header.recordCount, header.bodyHash)
      if (content) checkSections(frame, frame.head, body)
    }
    if (nodeBytes.length > 0) {
      if (hash64(nodeBytes) !== header.nodeHash)
        throw new FormatError('DAMAGED', 'its node section does not have its hash')
      frame.node = decodeNodeSection(nodeBytes, header.recordCount)
    }
  } catch (error) {
    noteFault(frame, error)
  }
  const paddingAt = nonZeroPadding(frame, body) ?? firstNonZero(bytes, end, bytes.length)
  if (paddingAt === null) return
  frame.paddingFault = true
  frame.paddingFaultAt = frame.position + paddingAt
}

/** Offset in the frame of the first byte between its sections that is not zero. */
function nonZeroPadding({ head, header }: WalkedFrame, body: Buffer): number | null {
  if (head === null || header === null || checkPadding(head, body)) return null
  for (let vchannel = 0; vchannel < head.vchannelCount; vchannel++) {
    const end = head.sectionOffset(vchannel) + head.sectionLength(vchannel)
    const at = firstNonZero(body, end, paddedTo8(end))
    if (at !== null) return header.headerLength + at
  }
  return null
}

/** Offset of the first byte that is not zero; null: all are. */
export function firstNonZero(bytes: Uint8Array, from: number, to: number): number | null {
  for (let at = from; at < to; at++) if (bytes[at] !== 0) return at
  return null
}

function checkSections(frame: WalkedFrame, head: BodyHead, body: Buffer): void {
  for (let i = 0; i < head.vchannelCount; i++) {
    const from = head.sectionOffset(i)
    if (verifySection(head, i, body.subarray(from, from + head.sectionLength(i)))) continue
    frame.faults.push(`the records of vchannel "${head.vchannels[i]}" do not have their hash`)
    frame.intact = false
    return
  }
  const offsets = head.rowOffsets()
  for (let row = 0; row < head.recordCount; row++) {
    const length = head.propertiesLength(row)
    if (length === 0) continue
    const from = head.sectionOffset(head.vchannelIndex(row)) + offsets[row]!
    decodeProperties(body.subarray(from, from + length))
  }
}

function noteFault(frame: WalkedFrame, error: unknown): void {
  if (!(error instanceof FormatError)) throw error
  frame.faults.push(error.message)
  frame.intact = false
  if (error.code === 'FORMAT_UNKNOWN') frame.unknownFormat = true
}

/** The next position at which a valid frame of this file stands, or the end. */
async function nextFrameFrom(
  window: Window,
  decode: DecodeHeader,
  from: number,
  end: number,
  lsn: number,
): Promise<number> {
  for (let block = from; block < end; block += WINDOW_BYTES) {
    const bytes = await window.at(block, WINDOW_BYTES + HEADER_BYTES_MAX)
    const last = Math.min(WINDOW_BYTES, bytes.length - 16)
    for (let offset = 0; offset < last; offset += FRAME_STEP_BYTES) {
      if (!looksLikeFrame(bytes, offset)) continue
      try {
        const header = decode(bytes, offset, block + offset)
        if (header !== null && header.baseLsn >= lsn) return block + offset
      } catch {
        return block + offset
      }
    }
  }
  return end
}

class Window {
  readonly #opened: OpenSegment
  readonly #end: number
  #position = 0
  #bytes: Buffer = Buffer.alloc(0)

  constructor(opened: OpenSegment, end: number) {
    this.#opened = opened
    this.#end = end
  }

  /** Up to `length` bytes from `position`: fewer only at the end. */
  async at(position: number, length: number): Promise<Buffer> {
    const wanted = Math.min(length, this.#end - position)
    const from = position - this.#position
    if (from >= 0 && from + wanted <= this.#bytes.length) return this.#bytes.subarray(from, from + wanted)
    const bytes = Buffer.allocUnsafeSlow(Math.min(Math.max(wanted, WINDOW_BYTES), this.#end - position))
    const { file, segment } = this.#opened
    const got = await readAt(file, segment, bytes, 0, bytes.length, position)
    this.#position = position
    this.#bytes = bytes.subarray(0, got)
    return this.#bytes.subarray(0, Math.min(wanted, got))
  }
}
