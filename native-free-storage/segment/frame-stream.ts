/**
 * The frames of a segment from one position to another, by large reads, with the next read under way.
 *
 * A frame that a read cuts in two is completed without copying much: the next read leaves room in front of it for the
 * part that is there and, when the frame is large, fetches just the rest and the header behind it.
 *
 * Every header is verified (checksum, own position, chain, LSN) before its length is believed; the bodies are the
 * caller's to verify.
 */
import { hash64 } from '../format/checksum.ts'
import { decodeFrameHeader, type FrameHeader, FrameKind, nextLsnAfter } from '../format/frame-header.ts'
import { decodeGap } from '../format/gap.ts'
import { frameDamage, frameFailure, type OpenSegment, readAt } from './segment-file.ts'

export const CHUNK_BYTES_DEFAULT = 1024 * 1024
export const CHUNK_BYTES_MIN = 64 * 1024
/** A header, however long a later version makes it, is not longer. */
const HEADER_BYTES_MAX = 248

export interface RawFrame {
  readonly header: FrameHeader
  /** The whole frame, a view of a larger buffer that is never written to again. */
  readonly bytes: Buffer
  /** The LSN of the next frame. */
  readonly nextLsn: number
}

export interface FrameStreamOptions {
  position: number
  /** Nothing at or behind it is read. A frame ends there. */
  end: number
  /** The LSN that the first frame has to have; undefined when it is not known. */
  lsn: number | undefined
  /** The chain before the first frame; undefined when it is not known. */
  chain: bigint | undefined
  /** The LSN behind `end`, for the range that an error names; undefined when it is not known. */
  endLsn: number | undefined
  /** Of one read once the stream is under way; two are in memory at a time. A larger frame is read at once. */
  chunkBytes?: number
  /** Of the first read. They double from there. */
  firstChunkBytes?: number
}

interface Chunk {
  readonly buffer: Buffer
  /** The bytes before this are copied from the chunk before. */
  readonly room: number
  readonly length: number
  read: Promise<number>
}

export class FrameStream {
  readonly #opened: OpenSegment
  readonly #end: number
  readonly #endLsn: number | undefined
  readonly #chunkBytes: number
  #nextChunkBytes: number
  #buffer: Buffer = Buffer.alloc(0)
  /** Where the next frame begins in `#buffer`, and how many bytes of `#buffer` are there. */
  #at = 0
  #valid = 0
  #position: number
  #lsn: number | undefined
  #chain: bigint | undefined
  #pending: FrameHeader | undefined
  #ahead: Chunk | undefined
  /** The file ends before `#end`. */
  #cutShort = false

  constructor(opened: OpenSegment, options: FrameStreamOptions) {
    this.#opened = opened
    this.#position = options.position
    this.#end = options.end
    this.#endLsn = options.endLsn
    this.#lsn = options.lsn
    this.#chain = options.chain
    this.#chunkBytes = Math.max(CHUNK_BYTES_MIN, options.chunkBytes ?? CHUNK_BYTES_DEFAULT)
    this.#nextChunkBytes = Math.min(this.#chunkBytes, options.firstChunkBytes ?? this.#chunkBytes)
  }

  /** Where the next frame begins. */
  get position(): number {
    return this.#position
  }

  /** The LSN that the next frame has to have. */
  get lsn(): number | undefined {
    return this.#lsn
  }

  /** The chain before the next frame. */
  get chain(): bigint | undefined {
    return this.#chain
  }

  get ended(): boolean {
    return this.#position >= this.#end
  }

  /** The next frame if it is in memory; else null: `fill`, and try again, unless the stream has ended. Throws FRAME_DAMAGED. */
  take(): RawFrame | null {
    if (this.ended) return null
    const header = this.#pending ?? this.#decodeHeader()
    if (header === null) return null
    const end = this.#at + header.totalLength
    if (end > this.#valid) {
      if (this.#cutShort) throw this.#damage('the file ends inside it')
      this.#pending = header
      return null
    }
    this.#pending = undefined
    const bytes = this.#buffer.subarray(this.#at, end)
    const nextLsn = this.#nextLsn(header, bytes)
    this.#at = end
    this.#position += header.totalLength
    this.#lsn = nextLsn
    this.#chain = header.checksum
    return { header, bytes, nextLsn }
  }

  /** The next frame, or null at the end. */
  async next(): Promise<RawFrame | null> {
    for (;;) {
      const frame = this.take()
      if (frame !== null || this.ended) return frame
      await this.fill()
    }
  }

  /** Brings more bytes into memory. */
  async fill(): Promise<void> {
    const rest = this.#valid - this.#at
    const chunk = this.#ahead ?? this.#startRead(rest)
    this.#ahead = undefined
    const got = await chunk.read
    if (got < chunk.length) this.#cutShort = true
    if (rest > chunk.room) throw new Error('invariant broken: a read was planned for less than was left')
    this.#buffer.copy(chunk.buffer, chunk.room - rest, this.#at, this.#valid)
    this.#buffer = chunk.buffer
    this.#at = chunk.room - rest
    this.#valid = chunk.room + got
    if (this.#positionOfValid() < this.#end && !this.#cutShort) this.#ahead = this.#startRead(this.#partialBytes())
  }

  /** Waits for the read that is under way, so that the file may be closed. The stream is of no use afterwards. */
  async close(): Promise<void> {
    const ahead = this.#ahead
    this.#ahead = undefined
    this.#buffer = Buffer.alloc(0)
    this.#at = 0
    this.#valid = 0
    await ahead?.read.catch(() => undefined)
  }

  #positionOfValid(): number {
    return this.#position + this.#valid - this.#at
  }

  #decodeHeader(): FrameHeader | null {
    const available = this.#valid - this.#at
    const whole = available >= HEADER_BYTES_MAX || this.#cutShort || this.#positionOfValid() >= this.#end
    let header: FrameHeader | null
    try {
      header = decodeFrameHeader(this.#buffer, this.#at, this.#valid, this.#opened.header.salt, this.#position)
    } catch (error) {
      throw frameFailure(this.#opened.segment, error, this.#place())
    }
    if (header === null) {
      if (!whole) return null
      throw this.#damage(this.#cutShort && available === 0 ? 'the file ends before it' : 'its header is not valid')
    }
    if (this.#chain !== undefined && header.chain !== this.#chain)
      throw this.#damage('it does not follow the frame before it')
    if (this.#lsn !== undefined && header.baseLsn !== this.#lsn) {
      throw this.#damage(`it begins with LSN ${header.baseLsn} instead of ${this.#lsn}`)
    }
    this.#lsn = header.baseLsn
    if (this.#position + header.totalLength > this.#end) {
      throw this.#damage(`it ends behind position ${this.#end}, where the data of the segment ends`)
    }
    if (header.kind === FrameKind.seal) throw this.#damage('a seal stands where the data of the segment goes on')
    return header
  }

  #nextLsn(header: FrameHeader, bytes: Buffer): number {
    if (header.kind !== FrameKind.gap) return nextLsnAfter(header)
    const body = bytes.subarray(header.headerLength, header.headerLength + header.bodyLength)
    if (hash64(body) !== header.bodyHash) throw this.#damage('its body does not have its hash')
    try {
      return nextLsnAfter(header, decodeGap(body).count)
    } catch (error) {
      throw frameFailure(this.#opened.segment, error, this.#place())
    }
  }

  #place(): { position: number; lsnFrom: number | undefined; lsnTo: number | undefined } {
    const lsnTo = this.#endLsn === undefined ? undefined : Math.max(this.#lsn ?? 0, this.#endLsn - 1)
    return { position: this.#position, lsnFrom: this.#lsn, lsnTo }
  }

  #damage(what: string): Error {
    return frameDamage(this.#opened.segment, what, this.#place())
  }

  /** `room` bytes in front are for what is left of the buffer before. */
  #startRead(room: number): Chunk {
    const position = this.#positionOfValid()
    const rest = this.#restOfLargeFrame(room)
    const exactly = rest > this.#chunkBytes / 2
    const length = Math.min(exactly ? rest : Math.max(this.#nextChunkBytes, rest), this.#end - position)
    this.#nextChunkBytes = Math.min(this.#chunkBytes, this.#nextChunkBytes * 2)
    const buffer = Buffer.allocUnsafeSlow(room + length)
    const read = readAt(this.#opened.file, this.#opened.segment, buffer, room, length, position)
    // It is awaited later, or never when the reader stops.
    read.catch(() => undefined)
    return { buffer, room, length, read }
  }

  /** Bytes at the end of the buffer that belong to a frame of which not all is there. Believes lengths: a plan, no more. */
  #partialBytes(): number {
    let at = this.#at
    while (at + 20 <= this.#valid) {
      const total = this.#buffer.readUInt32LE(at + 16)
      if (total < 96 || at + total > this.#valid) break
      at += total
    }
    return this.#valid - at
  }

  /** When the last `room` bytes begin with a whole header: what is missing of its frame, and the header behind it. */
  #restOfLargeFrame(room: number): number {
    if (room < HEADER_BYTES_MAX) return 0
    const at = this.#valid - room
    const position = this.#position + at - this.#at
    try {
      const header = decodeFrameHeader(this.#buffer, at, this.#valid, this.#opened.header.salt, position)
      return header === null ? 0 : header.totalLength - room + HEADER_BYTES_MAX
    } catch {
      return 0
    }
  }
}
