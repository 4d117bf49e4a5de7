/**
 * Properties of a record: string to string (FORMAT 3.3).
 *
 * Nothing at all when there are none, else:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 2 | count |
 * | 2 | | for each: u16 key length, u32 value length, key, value, both in UTF-8; no key stands twice |
 */
import { damaged, FormatError } from './format-error.ts'
import { asBuffer } from './integers.ts'
import { decodeUtf8, UTF8_BYTES_A_UNIT, writeUtf8 } from './text.ts'

export const PROPERTIES_MAX = 65_535
export const PROPERTY_KEY_BYTES_MAX = 65_535

const COUNT_BYTES = 2
const ITEM_BYTES = 6
const VALUE_LENGTH = 2

/**
 * No encoding of these properties is longer than this, and none shorter than a third of it. Throws INVALID_ARGUMENT for
 * what is not a string, LIMIT_EXCEEDED for too many.
 */
export function propertiesBytesBound(properties: Readonly<Record<string, string>>, keys: readonly string[]): number {
  const count = keys.length
  if (count > PROPERTIES_MAX) throw new FormatError('LIMIT_EXCEEDED', `${count} properties pass ${PROPERTIES_MAX}`)
  let bound = count === 0 ? 0 : COUNT_BYTES
  for (let index = 0; index < count; index++) {
    const key = keys[index]!
    const value = properties[key]
    if (typeof value !== 'string') throw new FormatError('INVALID_ARGUMENT', `the property "${key}" is not a string`)
    bound += ITEM_BYTES + UTF8_BYTES_A_UNIT * (key.length + value.length)
  }
  return bound
}

/**
 * Writes the properties under `keys`, of which there is one, where `propertiesBytesBound` bytes are free; returns the
 * offset behind them. Throws INVALID_ARGUMENT or LIMIT_EXCEEDED.
 */
export function writeProperties(
  properties: Readonly<Record<string, string>>,
  keys: readonly string[],
  target: Buffer,
  offset: number,
): number {
  target.writeUInt16LE(keys.length, offset)
  let at = offset + COUNT_BYTES
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index]!
    const keyBytes = writeUtf8(target, at + ITEM_BYTES, key)
    if (keyBytes < 0) throw unencodable(key)
    if (keyBytes > PROPERTY_KEY_BYTES_MAX) {
      throw new FormatError('LIMIT_EXCEEDED', `a property key of ${keyBytes} bytes passes ${PROPERTY_KEY_BYTES_MAX}`)
    }
    const valueBytes = writeUtf8(target, at + ITEM_BYTES + keyBytes, properties[key]!)
    if (valueBytes < 0) throw unencodable(key)
    target.writeUInt16LE(keyBytes, at)
    target.writeUInt32LE(valueBytes, at + VALUE_LENGTH)
    at += ITEM_BYTES + keyBytes + valueBytes
  }
  return at
}

/** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED. */
export function encodeProperties(properties: Readonly<Record<string, string>>): Buffer {
  const keys = Object.keys(properties)
  const bytes = Buffer.allocUnsafe(propertiesBytesBound(properties, keys))
  return keys.length === 0 ? bytes : bytes.subarray(0, writeProperties(properties, keys, bytes, 0))
}

function unencodable(key: string): FormatError {
  return new FormatError('INVALID_ARGUMENT', `the property "${key}" has a lone surrogate, which UTF-8 cannot hold`)
}

/**
 * The properties that fill `bytes`, in an object without a prototype, so that any key is a plain one. Throws DAMAGED,
 * also for a key that stands twice.
 */
export function decodeProperties(bytes: Uint8Array): Record<string, string> {
  const properties: Record<string, string> = Object.create(null)
  if (bytes.length === 0) return properties
  const source = asBuffer(bytes)
  if (source.length < COUNT_BYTES) throw damaged('properties of one byte', 0)
  const count = source.readUInt16LE(0)
  if (count === 0) throw damaged('properties that are there have a count of 0', 0)
  let at = COUNT_BYTES
  for (let index = 0; index < count; index++) {
    if (at + ITEM_BYTES > source.length) throw damaged(`property ${index} lies beyond the end of the properties`, at)
    const keyEnd = at + ITEM_BYTES + source.readUInt16LE(at)
    const valueEnd = keyEnd + source.readUInt32LE(at + VALUE_LENGTH)
    if (valueEnd > source.length) throw damaged(`property ${index} lies beyond the end of the properties`, at)
    const key = decodeUtf8(source, at + ITEM_BYTES, keyEnd)
    const value = decodeUtf8(source, keyEnd, valueEnd)
    if (key === null || value === null) throw damaged(`property ${index} is not valid UTF-8`, at)
    if (properties[key] !== undefined) throw damaged(`the property "${key}" stands twice`, at)
    properties[key] = value
    at = valueEnd
  }
  if (at !== source.length) throw damaged(`${source.length - at} bytes stand behind the last property`, at)
  return properties
}
