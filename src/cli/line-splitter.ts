/**
 * Splits a stream of bytes into lines at LF only, whatever the chunks are: CR stays in the line, an empty line is a
 * line, a last line without LF counts, bytes are never decoded. Memory is bounded by the longest line allowed.
 */

export interface Line {
  /** Without its LF. Null: it was longer than allowed, and its bytes were dropped. */
  bytes: Uint8Array | null
  /** Length in bytes without the LF, also of a line that was dropped. */
  length: number
}

const lineFeed = 10

export class LineSplitter {
  readonly #lineBytesMax: number
  #parts: Uint8Array[] = []
  #length = 0

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax
  }

  /** The lines that end in `chunk`. They may be views of it: it must not be written to afterwards. */
  *push(chunk: Uint8Array): Generator<Line> {
    let start = 0
    for (;;) {
      const end = chunk.indexOf(lineFeed, start)
      if (end === -1) break
      yield this.#take(chunk.subarray(start, end))
      start = end + 1
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
  }

  /** The last line, when it had no LF. */
  *end(): Generator<Line> {
    if (this.#length > 0) yield this.#take(new Uint8Array(0))
  }

  #keep(part: Uint8Array): void {
    this.#length += part.length
    if (this.#length > this.#lineBytesMax) this.#parts = []
    // A copy: a small rest of a line must not hold the whole chunk.
    else this.#parts.push(Uint8Array.prototype.slice.call(part))
  }

  #take(last: Uint8Array): Line {
    const length = this.#length + last.length
    const parts = this.#parts
    this.#parts = []
    this.#length = 0
    if (length > this.#lineBytesMax) return { bytes: null, length }
    if (parts.length === 0) return { bytes: last, length }
    parts.push(last)
    return { bytes: Buffer.concat(parts, length), length }
  }
}
