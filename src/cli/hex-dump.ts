/** Bytes as people read them: position, 16 bytes in hex, and what of them is printable ASCII. */

const rowBytes = 16

/** Rows as `xxd` prints them, each ended by a line feed; positions begin with `position`. */
export function hexDump(bytes: Uint8Array, position = 0, indent = ''): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += rowBytes) {
    const row = bytes.subarray(at, at + rowBytes)
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, '0'))
    const pairs = hex.map((digits, index) => (index % 2 === 1 ? `${digits} ` : digits)).join('')
    const ascii = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('')
    text += `${indent}${(position + at).toString(16).padStart(8, '0')}: ${pairs.padEnd(40)} ${ascii}\n`
  }
  return text
}
