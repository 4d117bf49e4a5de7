/**
 * Cuts the bytes of a connection into messages, as they come.
 *
 * What it holds is bounded by what was received: a long message is gathered in a buffer that doubles up to its length,
 * so that a length alone allocates at most `FIRST_BYTES`. Messages that lie in one chunk are views of it.
 */
import {
  checkMagic,
  checkMeta,
  decodeHeader,
  MESSAGE_HEADER_BYTES,
  MESSAGE_MAGIC_END,
  type Message,
  type MessageHeader,
} from './message.ts'

const FIRST_BYTES = 1024 * 1024

export class MessageParser {
  /** Bodies that are longer are refused from the header alone. */
  bodyBytesMax: number
  readonly #onMessage: (message: Message) => boolean
  /** The message that has begun, as far as it is there. */
  #partial: Buffer | null = null
  #filled = 0
  #header: MessageHeader | null = null
  #stopped = false

  /** `onMessage` returns false to stop: nothing more is looked at. */
  constructor(bodyBytesMax: number, onMessage: (message: Message) => boolean) {
    this.bodyBytesMax = bodyBytesMax
    this.#onMessage = onMessage
  }

  /** Bytes held for a message that is not complete. */
  get heldBytes(): number {
    return this.#partial === null ? 0 : this.#partial.length
  }

  /** Length of the message that has begun, 0 when none has; a header's length until its header is there. */
  get expectedBytes(): number {
    if (this.#filled === 0) return 0
    return this.#header === null ? MESSAGE_HEADER_BYTES : lengthOf(this.#header)
  }

  stop(): void {
    this.#stopped = true
    this.#partial = null
    this.#filled = 0
    this.#header = null
  }

  /** Throws PROTOCOL_VIOLATION; afterwards the parser is of no more use. */
  push(chunk: Buffer): void {
    let at = 0
    if (this.#filled > 0) at = this.#continue(chunk)
    while (at < chunk.length && !this.#stopped) {
      const left = chunk.length - at
      if (left < MESSAGE_HEADER_BYTES) {
        if (left >= MESSAGE_MAGIC_END) checkMagic(chunk, at)
        this.#partial = Buffer.allocUnsafeSlow(MESSAGE_HEADER_BYTES)
        this.#filled = chunk.copy(this.#partial, 0, at)
        return
      }
      const header = decodeHeader(chunk, at, this.bodyBytesMax)
      const length = lengthOf(header)
      if (left < length) {
        this.#header = header
        this.#partial = Buffer.allocUnsafeSlow(Math.min(length, Math.max(FIRST_BYTES, left)))
        this.#filled = chunk.copy(this.#partial, 0, at)
        return
      }
      this.#emit(header, chunk, at)
      at += length
    }
  }

  /** Adds to the message that has begun; returns how much of the chunk it took. */
  #continue(chunk: Buffer): number {
    let taken = 0
    if (this.#header === null) {
      const partial = this.#partial!
      taken = chunk.copy(partial, this.#filled, 0, MESSAGE_HEADER_BYTES - this.#filled)
      this.#filled += taken
      if (this.#filled < MESSAGE_HEADER_BYTES) {
        if (this.#filled >= MESSAGE_MAGIC_END) checkMagic(partial, 0)
        return taken
      }
      this.#header = decodeHeader(partial, 0, this.bodyBytesMax)
    }
    const header = this.#header
    const length = lengthOf(header)
    const wanted = Math.min(length - this.#filled, chunk.length - taken)
    this.#makeRoom(length, this.#filled + wanted)
    chunk.copy(this.#partial!, this.#filled, taken, taken + wanted)
    this.#filled += wanted
    taken += wanted
    if (this.#filled < length) return taken
    const bytes = this.#partial!
    this.#partial = null
    this.#filled = 0
    this.#header = null
    this.#emit(header, bytes, 0)
    return taken
  }

  #makeRoom(length: number, needed: number): void {
    const partial = this.#partial!
    if (needed <= partial.length) return
    const larger = Buffer.allocUnsafeSlow(Math.min(length, Math.max(FIRST_BYTES, needed, 2 * partial.length)))
    partial.copy(larger, 0, 0, this.#filled)
    this.#partial = larger
  }

  #emit(header: MessageHeader, source: Buffer, at: number): void {
    const metaAt = at + MESSAGE_HEADER_BYTES
    const bodyAt = metaAt + header.metaLength
    const meta = source.subarray(metaAt, bodyAt)
    checkMeta(header, meta)
    const body = source.subarray(bodyAt, bodyAt + header.bodyLength)
    if (!this.#onMessage({ type: header.type, requestId: header.requestId, meta, body })) this.stop()
  }
}

function lengthOf(header: MessageHeader): number {
  return MESSAGE_HEADER_BYTES + header.metaLength + header.bodyLength
}
