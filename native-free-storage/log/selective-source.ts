/**
 * The frames of a segment that hold records of some vchannels, by their postings in the index: what lies between is
 * not read, and of a large frame only the head and the sections that are wanted.
 *
 * Reads are windows over one or more neighbouring postings, with the next window under way. How much is read of a frame
 * at first is what the frame before it needed, so that frames of one size take one read each and no byte too many.
 */
import { type BodyHead, openBodyHead, peekHeadLength } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { decodeFrameHeader, type FrameHeader, FrameKind, nextLsnAfter } from '../format/frame-header.ts'
import { decodeGap } from '../format/gap.ts'
import { frameDamage, frameFailure, type OpenSegment, readAt } from '../segment/segment-file.ts'
import {
  checkedSection,
  isUnwanted,
  openNodeSection,
  placeOf,
  recordsFrame,
  select,
  selectWhole,
  type WantedFrames,
} from './frame-selection.ts'
import type { FrameSource } from './frame-source.ts'
import type { RecordFrame, Selection } from './record-frame.ts'

const FIRST_GUESS_BYTES = 8 * 1024
const GUESS_BYTES_MIN = 4 * 1024
const GUESS_BYTES_MAX = 256 * 1024
const HEADER_BYTES_MAX = 248
/** A frame is read in sections when it is larger than this and they are at most half of what is missing of it. */
const SECTIONS_FROM_BYTES = 128 * 1024
/** Sections that lie so near to one another are one read. */
const SECTION_GAP_BYTES = 16 * 1024
const SECTION_READS_AT_ONCE = 8

export interface SelectiveSourceOptions {
  /** Ascending: frames that may hold wanted records. */
  positions: Float64Array
  /** Where the reader stands, the LSN there, and where the data ends for it. */
  position: number
  lsn: number
  chain: bigint | undefined
  end: number
  endLsn: number
  wanted: WantedFrames
  /** Of one read over several frames. */
  chunkBytes: number
}

interface Window {
  readonly position: number
  readonly buffer: Buffer
  /** Bytes that are there. */
  length: number
}

interface PlannedWindow {
  readonly position: number
  readonly window: Promise<Window>
}

interface Piece {
  readonly from: number
  readonly to: number
  bytes: Buffer
}

export class SelectiveSource implements FrameSource {
  readonly #opened: OpenSegment
  readonly #positions: Float64Array
  readonly #end: number
  readonly #endLsn: number
  readonly #wanted: WantedFrames
  readonly #chunkBytes: number
  #next = 0
  #count: number
  #position: number
  #lsn: number
  #chain: bigint | undefined
  #window: Window | undefined
  #ahead: PlannedWindow | undefined
  /** A frame that had to be read for itself. */
  #ready: RecordFrame | null = null
  #guessBytes = FIRST_GUESS_BYTES

  constructor(opened: OpenSegment, options: SelectiveSourceOptions) {
    this.#opened = opened
    this.#positions = options.positions
    this.#position = options.position
    this.#lsn = options.lsn
    this.#chain = options.chain
    this.#end = options.end
    this.#endLsn = options.endLsn
    this.#wanted = options.wanted
    this.#chunkBytes = options.chunkBytes
    this.#count = 0
    while (this.#count < this.#positions.length && this.#positions[this.#count]! < this.#end) this.#count++
    this.#endIfDone()
  }

  get ended(): boolean {
    return this.#ready === null && this.#next >= this.#count
  }

  get position(): number {
    return this.#position
  }

  get lsn(): number {
    return this.#lsn
  }

  get chain(): bigint | undefined {
    return this.#chain
  }

  take(): RecordFrame | null {
    if (this.#ready !== null) {
      const frame = this.#ready
      this.#ready = null
      return frame
    }
    while (this.#next < this.#count) {
      const position = this.#positions[this.#next]!
      const bytes = this.#inWindow(position)
      const header = this.#headerIn(bytes, position)
      if (header === null || bytes.length < header.totalLength) return null
      const nextLsn = this.#nextLsn(header, bytes)
      const whole = { header, bytes: bytes.subarray(0, header.totalLength), nextLsn }
      const frame = selectWhole(this.#opened.segment, whole, this.#wanted)
      this.#guess(header.totalLength)
      this.#passed(header, nextLsn)
      if (frame !== null) return frame
    }
    return null
  }

  async fill(): Promise<void> {
    const position = this.#positions[this.#next]!
    let bytes = this.#inWindow(position)
    if (bytes.length < HEADER_BYTES_MAX && position + bytes.length < this.#end) {
      const planned = this.#ahead ?? this.#plan(this.#next)
      this.#ahead = undefined
      if (planned.position === position) this.#window = await planned.window
      else {
        await planned.window
        this.#window = await this.#plan(this.#next).window
      }
      this.#planAhead(this.#window)
      bytes = this.#inWindow(position)
      if (bytes.length < HEADER_BYTES_MAX && position + bytes.length < this.#end)
        throw this.#damage(position, 'the file ends before it')
    }
    const header = this.#headerIn(bytes, position)
    if (header === null) throw this.#damage(position, 'its header is not valid')
    if (bytes.length >= header.totalLength) return
    this.#ready = await this.#readRest(header, bytes)
  }

  async close(): Promise<void> {
    const ahead = this.#ahead
    this.#ahead = undefined
    this.#window = undefined
    this.#ready = null
    await ahead?.window.catch(() => undefined)
  }

  /** The bytes from `position` to the end of the window: none when it begins outside of it. */
  #inWindow(position: number): Buffer {
    const window = this.#window
    if (window === undefined) return Buffer.alloc(0)
    const at = position - window.position
    return at < 0 || at >= window.length ? Buffer.alloc(0) : window.buffer.subarray(at, window.length)
  }

  #headerIn(bytes: Buffer, position: number): FrameHeader | null {
    let header: FrameHeader | null
    try {
      header = decodeFrameHeader(bytes, 0, bytes.length, this.#opened.header.salt, position)
    } catch (error) {
      throw frameFailure(this.#opened.segment, error, this.#place(position))
    }
    if (header === null) {
      if (bytes.length < HEADER_BYTES_MAX && position + bytes.length < this.#end) return null
      throw this.#damage(position, 'its header is not valid')
    }
    if (header.baseLsn < this.#lsn || position + header.totalLength > this.#end) {
      throw this.#damage(position, 'it does not belong where it stands')
    }
    return header
  }

  #nextLsn(header: FrameHeader, bytes: Buffer): number {
    if (header.kind !== FrameKind.gap) return nextLsnAfter(header)
    const body = bytes.subarray(header.headerLength, header.headerLength + header.bodyLength)
    if (hash64(body) !== header.bodyHash) throw this.#damage(header.position, 'its body does not have its hash')
    try {
      return nextLsnAfter(header, decodeGap(body).count)
    } catch (error) {
      throw frameFailure(this.#opened.segment, error, this.#place(header.position))
    }
  }

  #passed(header: FrameHeader, nextLsn: number): void {
    this.#next++
    this.#position = header.position + header.totalLength
    this.#lsn = nextLsn
    this.#chain = header.checksum
    this.#endIfDone()
  }

  /** Behind the last posting nothing is wanted: the reader stands at the end. */
  #endIfDone(): void {
    if (this.#next < this.#count || this.#position === this.#end) return
    this.#position = this.#end
    this.#lsn = this.#endLsn
    this.#chain = undefined
  }

  #guess(neededBytes: number): void {
    this.#guessBytes = Math.min(GUESS_BYTES_MAX, Math.max(GUESS_BYTES_MIN, neededBytes))
  }

  /** The window that begins with posting `index`: as many postings as do not cost more bytes than they are worth. */
  #plan(index: number): PlannedWindow {
    const position = this.#positions[index]!
    const guess = this.#guessBytes
    let end = position + guess
    for (let i = index + 1; i < this.#count; i++) {
      const next = this.#positions[i]!
      if (next > end + guess || next + guess - position > this.#chunkBytes) break
      end = next + guess
    }
    const length = Math.min(end, this.#end) - position
    const window = this.#read(position, length)
    window.catch(() => undefined)
    return { position, window }
  }

  #planAhead(window: Window): void {
    const end = window.position + window.length
    let index = this.#next
    while (index < this.#count && this.#positions[index]! + HEADER_BYTES_MAX <= end) index++
    if (index < this.#count) this.#ahead = this.#plan(index)
  }

  async #read(position: number, length: number): Promise<Window> {
    const buffer = Buffer.allocUnsafeSlow(length)
    const { file, segment } = this.#opened
    return { position, buffer, length: await readAt(file, segment, buffer, 0, length, position) }
  }

  /** `start` holds the header and perhaps more. Null when nothing is wanted. */
  async #readRest(header: FrameHeader, start: Buffer): Promise<RecordFrame | null> {
    if (header.kind !== FrameKind.records || header.totalLength <= SECTIONS_FROM_BYTES) {
      return await this.#readWhole(header, start)
    }
    if (isUnwanted(header, nextLsnAfter(header), this.#wanted)) {
      this.#passed(header, nextLsnAfter(header))
      return null
    }
    try {
      const { head, bytes } = await this.#readHead(header, start)
      const selection = select(head, header, this.#wanted)
      if (selection === null) {
        this.#guess(bytes.length)
        this.#passed(header, nextLsnAfter(header))
        return null
      }
      const pieces = this.#piecesOf(header, head, selection)
      const bytesWanted = pieces.reduce((sum, piece) => sum + piece.to - piece.from, 0)
      if (bytesWanted * 2 > header.totalLength - bytes.length) return await this.#readWhole(header, bytes)
      this.#guess(bytes.length)
      for (let i = 0; i < pieces.length; i += SECTION_READS_AT_ONCE) {
        await Promise.all(pieces.slice(i, i + SECTION_READS_AT_ONCE).map((piece) => this.#readPiece(header, piece)))
      }
      return this.#assemble(header, head, selection, pieces)
    } catch (error) {
      throw frameFailure(this.#opened.segment, error, placeOf(header))
    }
  }

  async #readWhole(header: FrameHeader, start: Buffer): Promise<RecordFrame | null> {
    const bytes = await this.#extended(header, start, header.totalLength)
    const nextLsn = this.#nextLsn(header, bytes)
    const frame = selectWhole(this.#opened.segment, { header, bytes, nextLsn }, this.#wanted)
    this.#guess(header.totalLength)
    this.#passed(header, nextLsn)
    return frame
  }

  async #readHead(header: FrameHeader, start: Buffer): Promise<{ head: BodyHead; bytes: Buffer }> {
    let bytes = start
    if (bytes.length < header.headerLength + 32)
      bytes = await this.#extended(header, bytes, header.headerLength + GUESS_BYTES_MIN)
    const headLength = Math.min(peekHeadLength(bytes.subarray(header.headerLength)), header.bodyLength)
    const length = header.headerLength + headLength
    // A copy in any case: the head must not keep the window in memory.
    bytes = await this.#extended(header, bytes, length)
    const head = openBodyHead(
      bytes.subarray(header.headerLength),
      header.bodyLength,
      header.recordCount,
      header.bodyHash,
    )
    return { head, bytes }
  }

  /** The first `length` bytes of the frame, of which `start` has the first. */
  async #extended(header: FrameHeader, start: Buffer, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length)
    const have = start.copy(bytes)
    if (have === length) return bytes
    const { file, segment } = this.#opened
    const got = await readAt(file, segment, bytes, have, length - have, header.position + have)
    if (got < length - have) throw this.#damage(header.position, 'the file ends inside it')
    return bytes
  }

  /** What of the body and behind it has to be read, near ranges joined; positions within the frame. */
  #piecesOf(header: FrameHeader, head: BodyHead, selection: Selection): Piece[] {
    const pieces: Piece[] = []
    const add = (from: number, to: number): void => {
      const last = pieces.at(-1)
      if (last !== undefined && from - last.to <= SECTION_GAP_BYTES) pieces[pieces.length - 1] = { ...last, to }
      else pieces.push({ from, to, bytes: Buffer.alloc(0) })
    }
    for (let i = 0; i < head.vchannelCount; i++) {
      if (selection.vchannels !== null && selection.vchannels[i] === 0) continue
      const from = header.headerLength + head.sectionOffset(i)
      if (head.sectionLength(i) > 0) add(from, from + head.sectionLength(i))
    }
    const node = header.headerLength + header.bodyLength
    if (header.nodeSectionLength > 0) add(node, node + header.nodeSectionLength)
    return pieces
  }

  async #readPiece(header: FrameHeader, piece: Piece): Promise<void> {
    const length = piece.to - piece.from
    piece.bytes = Buffer.allocUnsafeSlow(length)
    const { file, segment } = this.#opened
    const got = await readAt(file, segment, piece.bytes, 0, length, header.position + piece.from)
    if (got < length) throw this.#damage(header.position, 'the file ends inside it')
  }

  #assemble(header: FrameHeader, head: BodyHead, selection: Selection, pieces: readonly Piece[]): RecordFrame | null {
    const { segment } = this.#opened
    const cut = (from: number, length: number): Buffer => {
      const piece = pieces.find((candidate) => from >= candidate.from && from + length <= candidate.to)
      return piece === undefined ? Buffer.alloc(0) : piece.bytes.subarray(from - piece.from, from - piece.from + length)
    }
    const nodeBytes = cut(header.headerLength + header.bodyLength, header.nodeSectionLength)
    const node = openNodeSection(segment, header, nodeBytes)
    const sections: (Buffer | null)[] = []
    for (let i = 0; i < head.vchannelCount; i++) {
      if (selection.vchannels !== null && selection.vchannels[i] === 0) {
        sections.push(null)
        continue
      }
      const bytes = cut(header.headerLength + head.sectionOffset(i), head.sectionLength(i))
      checkedSection(segment, header, head, i, bytes)
      sections.push(bytes)
    }
    const nextLsn = nextLsnAfter(header)
    const frame = recordsFrame(segment, header, nextLsn, { head, body: null, sections, nodeBytes, node, selection })
    this.#passed(header, nextLsn)
    return frame.hasWanted() ? frame : null
  }

  #place(position: number): { position: number; lsnFrom: number; lsnTo: number } {
    return { position, lsnFrom: this.#lsn, lsnTo: Math.max(this.#lsn, this.#endLsn - 1) }
  }

  #damage(position: number, what: string): Error {
    return frameDamage(this.#opened.segment, what, this.#place(position))
  }
}
