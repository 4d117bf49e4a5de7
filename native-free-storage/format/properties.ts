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
import { decodeUtf8, isWellFormed } from './text.ts'

export const PROPERTIES_MAX = 65_535
export const PROPERTY_KEY_BYTES_MAX = 65_535

const COUNT_BYTES = 2
const ITEM_BYTES = 6
const VALUE_LENGTH = 2

/** Length of what `writeProperties` writes. Throws INVALID_ARGUMENT or LIMIT_EXCEEDED. */
export function propertiesLength(properties: Readonly<Record<string, string>>): number {
  let count = 0
  let length = COUNT_BYTES
  for (const key of Object.keys(properties)) {
    const value = properties[key]
    if (typeof value !== 'string') throw new FormatError('INVALID_ARGUMENT', `the property "${key}" is not a string`)
    if (!isWellFormed(key) || !isWellFormed(value)) {
      throw new FormatError('INVALID_ARGUMENT', `the property "${key}" has a lone surrogate, which UTF-8 cannot hold`)
    }
    const keyBytes = Buffer.byteLength(key)
    if (keyBytes > PROPERTY_KEY_BYTES_MAX) {
      throw new FormatError('LIMIT_EXCEEDED', `a property key of ${keyBytes} bytes passes ${PROPERTY_KEY_BYTES_MAX}`)
    }
    length += ITEM_BYTES + keyBytes + Buffer.byteLength(value)
    count++
  }
  if (count > PROPERTIES_MAX) throw new FormatError('LIMIT_EXCEEDED', `${count} properties pass ${PROPERTIES_MAX}`)
  return count === 0 ? 0 : length
}

/** Writes what `propertiesLength` has measured and accepted; returns the offset behind it. */
export function writeProperties(properties: Readonly<Record<string, string>>, target: Buffer, offset: number): number {
  const keys = Object.keys(properties)
  if (keys.length === 0) return offset
  target.writeUInt16LE(keys.length, offset)
  let at = offset + COUNT_BYTES
  for (const key of keys) {
    const keyBytes = target.write(key, at + ITEM_BYTES)
    const valueBytes = target.write(properties[key]!, at + ITEM_BYTES + keyBytes)
    target.writeUInt16LE(keyBytes, at)
    target.writeUInt32LE(valueBytes, at + VALUE_LENGTH)
    at += ITEM_BYTES + keyBytes + valueBytes
  }
  return at
}

export function encodeProperties(properties: Readonly<Record<string, string>>): Buffer {
  const bytes = Buffer.allocUnsafe(propertiesLength(properties))
  writeProperties(properties, bytes, 0)
  return bytes
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
