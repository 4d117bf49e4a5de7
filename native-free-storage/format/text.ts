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
