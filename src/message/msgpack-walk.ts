/**
 * Walks over msgpack before it is decoded: so a count in it allocates nothing that its bytes do not back, keys are
 * strings, extension types never reach the decoder, and depth has a bound.
 */

class Fault extends Error {}

/** What is wrong with `bytes` as one map with nothing behind it; null when nothing is. */
export function msgpackFault(bytes: Buffer, depthMax: number): string | null {
  if (bytes.length === 0) return 'it is empty'
  if (!isMap(bytes[0]!)) return 'it is not a map'
  try {
    return skip(bytes, 0, 0, depthMax) === bytes.length ? null : 'bytes stand behind it'
  } catch (error) {
    if (error instanceof Fault) return error.message
    throw error
  }
}

function isMap(lead: number): boolean {
  return (lead & 0xf0) === 0x80 || lead === 0xde || lead === 0xdf
}

/** Walks over the value at `at`; returns the offset behind it. */
function skip(bytes: Buffer, at: number, depth: number, depthMax: number): number {
  if (depth > depthMax) throw new Fault(`it is more than ${depthMax} levels deep`)
  const lead = byteAt(bytes, at)
  if (lead <= 0x7f || lead >= 0xe0) return at + 1
  if (lead <= 0x8f) return skipItems(bytes, at + 1, lead & 0x0f, true, depth, depthMax)
  if (lead <= 0x9f) return skipItems(bytes, at + 1, lead & 0x0f, false, depth, depthMax)
  if (lead <= 0xbf) return within(bytes, at + 1 + (lead & 0x1f))
  switch (lead) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return at + 1
    case 0xcc:
    case 0xd0:
      return within(bytes, at + 2)
    case 0xcd:
    case 0xd1:
      return within(bytes, at + 3)
    case 0xca:
    case 0xce:
    case 0xd2:
      return within(bytes, at + 5)
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return within(bytes, at + 9)
    case 0xc4:
    case 0xd9:
      return within(bytes, at + 2 + byteAt(bytes, at + 1))
    case 0xc5:
    case 0xda:
      within(bytes, at + 3)
      return within(bytes, at + 3 + bytes.readUInt16BE(at + 1))
    case 0xc6:
    case 0xdb:
      within(bytes, at + 5)
      return within(bytes, at + 5 + bytes.readUInt32BE(at + 1))
    case 0xdc:
    case 0xde:
      within(bytes, at + 3)
      return skipItems(bytes, at + 3, bytes.readUInt16BE(at + 1), lead === 0xde, depth, depthMax)
    case 0xdd:
    case 0xdf:
      within(bytes, at + 5)
      return skipItems(bytes, at + 5, bytes.readUInt32BE(at + 1), lead === 0xdf, depth, depthMax)
    default:
      throw new Fault(`it holds the msgpack type ${lead.toString(16)}, which is not used`)
  }
}

function skipItems(bytes: Buffer, from: number, count: number, map: boolean, depth: number, depthMax: number): number {
  let at = from
  for (let index = 0; index < count; index++) {
    if (map) {
      const lead = byteAt(bytes, at)
      if (!((lead & 0xe0) === 0xa0 || lead === 0xd9 || lead === 0xda)) throw new Fault('a key is not a string')
      at = skip(bytes, at, depth + 1, depthMax)
    }
    at = skip(bytes, at, depth + 1, depthMax)
  }
  return at
}

function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at]
  if (byte === undefined) throw new Fault('it is cut off')
  return byte
}

function within(bytes: Buffer, end: number): number {
  if (end > bytes.length) throw new Fault('it is cut off')
  return end
}
