/**
 * Typed headers, as they are stored: a msgpack map, base64, in the property `_h`. Fields that the schema does not know
 * are kept as they are, so that what a later version wrote goes through. What came is walked before it is decoded: no
 * count in it allocates more than its bytes hold.
 */
// The entry without the native part.
import { Packr } from 'msgpackr/pack'
import { TidelogError } from '../errors.ts'
import { type FieldSchema, type HeaderSchema, headerSchemas, type ScalarKind } from './header-schema.ts'
import type { MessageHeaders } from './header-types.ts'
import { messageTypeName } from './message-type.ts'
import { msgpackFault } from './msgpack-walk.ts'

export type HeaderValue = number | bigint | boolean | string | Uint8Array | null | HeaderValue[] | HeaderFields
export interface HeaderFields {
  [field: string]: HeaderValue
}

/** Of the encoded text. A header is hot metadata, no payload. */
export const HEADER_TEXT_MAX = 1024 * 1024
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/
const DEPTH_MAX = 16
const LONE_SURROGATE = /[\ud800-\udfff]/u

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true, int64AsType: 'bigint' })

/** Whether messages of this type have a typed header. */
export function hasTypedHeader(type: number): boolean {
  return headerSchemas.has(type)
}

/**
 * The text of the property `_h`. INVALID_ARGUMENT, naming the field, for a type without a typed header, a field that its
 * schema does not know, or a value that the field cannot hold; LIMIT_EXCEEDED above 1 MiB.
 */
export function encodeHeader<T extends keyof MessageHeaders>(type: T, fields: Readonly<MessageHeaders[T]>): string
export function encodeHeader(type: number, fields: Readonly<Record<string, unknown>>): string
export function encodeHeader(type: number, fields: Readonly<Record<string, unknown>>): string {
  const schema = headerSchemas.get(type)
  if (schema === undefined) throw invalid(`messages of ${nameOf(type)} have no typed header`)
  const text = packr.pack(checkFields(fields, schema, nameOf(type))).toString('base64')
  if (text.length > HEADER_TEXT_MAX) {
    const message = `the header of a message of ${nameOf(type)} has ${text.length} bytes; at most ${HEADER_TEXT_MAX}`
    throw new TidelogError('LIMIT_EXCEEDED', message, { outcome: 'not-written' })
  }
  return text
}

/**
 * The fields of a header. Undefined for a type without one: what it has passes through untouched. INVALID_ARGUMENT for
 * text that `encodeHeader` cannot have made, fields of a later version excepted.
 */
export function decodeHeader(type: number, text: string): HeaderFields | undefined {
  const schema = headerSchemas.get(type)
  if (schema === undefined) return undefined
  const name = nameOf(type)
  if (text.length > HEADER_TEXT_MAX || text.length % 4 !== 0 || !BASE64.test(text)) {
    throw invalid(`the header of a message of ${name} is no base64 of at most ${HEADER_TEXT_MAX} bytes`)
  }
  const bytes = Buffer.from(text, 'base64')
  const fault = msgpackFault(bytes, DEPTH_MAX)
  if (fault !== null) throw invalid(`the header of a message of ${name}: ${fault}`)
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch (cause) {
    throw invalid(`the header of a message of ${name} is not msgpack`, cause)
  }
  if (!isFields(value)) throw invalid(`the header of a message of ${name} is not a map`)
  for (const [field, known] of Object.entries(value)) {
    const of = Object.hasOwn(schema, field) ? schema[field] : undefined
    if (of !== undefined) checkField(known, of, `${name}.${field}`, true)
  }
  return value
}

function checkFields(fields: Readonly<Record<string, unknown>>, schema: HeaderSchema, path: string): HeaderFields {
  const checked: HeaderFields = {}
  for (const [field, value] of Object.entries(fields)) {
    const known = Object.hasOwn(schema, field) ? schema[field] : undefined
    if (known === undefined) throw invalid(`${path} has no field "${field}"`)
    if (value !== undefined) checked[field] = checkField(value, known, `${path}.${field}`, false)
  }
  return checked
}

/** `lenient`: fields of nested messages that are not known stay. */
function checkField(value: unknown, { kind, repeated }: FieldSchema, path: string, lenient: boolean): HeaderValue {
  if (repeated !== true) return checkOne(value, kind, path, lenient)
  if (!Array.isArray(value)) throw invalid(`${path} is repeated: an array`)
  return value.map((item, index) => checkOne(item, kind, `${path}[${index}]`, lenient))
}

function checkOne(value: unknown, kind: ScalarKind | HeaderSchema, path: string, lenient: boolean): HeaderValue {
  if (typeof kind === 'string') return checkScalar(value, kind, path)
  if (!isFields(value)) throw invalid(`${path} is a message: an object`)
  if (!lenient) return checkFields(value, kind, path)
  for (const [field, item] of Object.entries(value)) {
    const known = Object.hasOwn(kind, field) ? kind[field] : undefined
    if (known !== undefined) checkField(item, known, `${path}.${field}`, true)
  }
  return value
}

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
const UINT64_MAX = 2n ** 64n - 1n

function checkScalar(value: unknown, kind: ScalarKind, path: string): HeaderValue {
  switch (kind) {
    case 'int64':
      return checkInteger(value, INT64_MIN, INT64_MAX, path)
    case 'uint64':
      return checkInteger(value, 0n, UINT64_MAX, path)
    case 'int32':
      return checkInteger(value, -(2n ** 31n), 2n ** 31n - 1n, path)
    case 'bool':
      if (typeof value === 'boolean') return value
      break
    case 'string':
      if (typeof value === 'string' && !LONE_SURROGATE.test(value)) return value
      break
    case 'bytes':
      if (value instanceof Uint8Array) return value
      break
  }
  throw invalid(`${path} is a ${kind}`)
}

function checkInteger(value: unknown, min: bigint, max: bigint, path: string): number | bigint {
  const isInteger = typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))
  if (!isInteger || BigInt(value) < min || BigInt(value) > max) {
    throw invalid(`${path} is an integer from ${min} to ${max}: a bigint, or a number below 2^53`)
  }
  // One form for each value: what is small is a number, whoever wrote it.
  const big = BigInt(value)
  return big >= -0x1f_ffff_ffff_ffffn && big <= 0x1f_ffff_ffff_ffffn ? Number(big) : big
}

function isFields(value: unknown): value is HeaderFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
}

function nameOf(type: number): string {
  return messageTypeName(type)
}

function invalid(message: string, cause?: unknown): TidelogError<'INVALID_ARGUMENT'> {
  return new TidelogError('INVALID_ARGUMENT', message, { outcome: 'not-written', cause })
}
