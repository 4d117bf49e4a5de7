/**
 * Bytes as text: lines of an offset and up to 16 bytes in hex, with anything behind a `|`. What no line names is zero;
 * a line with an offset alone says where the bytes end.
 */
const LINE = /^([0-9a-f]{4,8}):?((?: +[0-9a-f]{2})*)\s*(?:\|.*)?$/

export function parseHexDump(text: string): Buffer {
  const parts: { offset: number; bytes: Buffer }[] = []
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue
    const match = LINE.exec(line)
    if (match === null) throw new Error(`not a line of a hex dump: ${line}`)
    parts.push({ offset: Number.parseInt(match[1]!, 16), bytes: Buffer.from(match[2]!.replaceAll(' ', ''), 'hex') })
  }
  const end = Math.max(0, ...parts.map(({ offset, bytes }) => offset + bytes.length))
  const bytes = Buffer.alloc(end)
  for (const part of parts) part.bytes.copy(bytes, part.offset)
  return bytes
}

export function formatHexDump(bytes: Uint8Array): string {
  const lines: string[] = []
  for (let offset = 0; offset < bytes.length; offset += 16) {
    const row = bytes.subarray(offset, offset + 16)
    if (row.every((byte) => byte === 0)) continue
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    lines.push(`${offset.toString(16).padStart(4, '0')}  ${hex}`)
  }
  lines.push(bytes.length.toString(16).padStart(4, '0'))
  return `${lines.join('\n')}\n`
}
