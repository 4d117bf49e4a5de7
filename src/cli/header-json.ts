/**
 * A typed header in JSON, and back: 64-bit integers that do not fit a number are decimal strings, bytes are base64. The
 * schema of the type says which strings are which.
 */
import { type FieldSchema, type HeaderSchema, headerSchemas } from '../message/header-schema.ts'

/** For `JSON.stringify`. */
export function headerToJson(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (Array.isArray(value)) return value.map(headerToJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([field, item]) => [field, headerToJson(item)]))
}

/** What is wrong with it is said where it is encoded. */
export function headerFromJson(type: number, fields: Record<string, unknown>): Record<string, unknown> {
  const schema = headerSchemas.get(type)
  return schema === undefined ? fields : fieldsOf(fields, schema)
}

function fieldsOf(fields: Record<string, unknown>, schema: HeaderSchema): Record<string, unknown> {
  const read = Object.entries(fields).map(([field, value]) => {
    const known = Object.hasOwn(schema, field) ? schema[field] : undefined
    return [field, known === undefined ? value : readValue(value, known)]
  })
  return Object.fromEntries(read)
}

function readValue(value: unknown, { kind, repeated }: FieldSchema): unknown {
  if (repeated === true && Array.isArray(value)) return value.map((item) => readValue(item, { kind }))
  if (typeof kind !== 'string') {
    const isFields = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isFields ? fieldsOf(value as Record<string, unknown>, kind) : value
  }
  if (typeof value !== 'string') return value
  if ((kind === 'int64' || kind === 'uint64') && /^-?[0-9]{1,20}$/.test(value)) return BigInt(value)
  return kind === 'bytes' ? Buffer.from(value, 'base64') : value
}
