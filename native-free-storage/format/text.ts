/** Strings and UTF-8, both ways without loss: what the other does not hold is refused, never replaced. */

/** No lone surrogates: the string has a UTF-8 form. (`String.prototype.isWellFormed` is in Node 20, not in ES2023.) */
export function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}

/** The text of bytes `from` to `to`, or null when they are not valid UTF-8. */
export function decodeUtf8(source: Buffer, from: number, to: number): string | null {
  const text = source.toString('utf8', from, to)
  // Node puts U+FFFD where the bytes are wrong; where it stood there already, encoding gives the same bytes again.
  if (text.includes('\ufffd') && Buffer.compare(Buffer.from(text), source.subarray(from, to)) !== 0) return null
  return text
}

/** One UTF-16 code unit takes at most so many bytes of UTF-8. */
export const UTF8_BYTES_A_UNIT = 3

const SHORT_TEXT_UNITS = 48

/**
 * Writes `text` where there is room for its longest form, and returns the bytes written; -1 for a lone surrogate. For
 * short ASCII the loop takes a quarter of what the check and `Buffer.write` take.
 */
export function writeUtf8(target: Buffer, offset: number, text: string): number {
  const units = text.length
  if (units <= SHORT_TEXT_UNITS) {
    let index = 0
    for (; index < units; index++) {
      const unit = text.charCodeAt(index)
      if (unit > 0x7f) break
      target[offset + index] = unit
    }
    if (index === units) return units
  }
  return isWellFormed(text) ? target.write(text, offset) : -1
}
