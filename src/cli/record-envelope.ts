/**
 * A record as one line of JSON: what `consume --json` prints and `produce --envelope` reads.
 *
 *   {"vchannel":"orders","lsn":7,"timeTick":"467...","type":0,"properties":{"k":"v"},"payload":"text","position":{"lsn":8}}
 *
 * `header` stands behind the type of a record that has a typed one, `transaction` before the position of one that was
 * written in a transaction; `position` says where a consumer goes on that has the record.
 * `payload` is a string where the bytes are valid UTF-8, else `payloadBase64` stands in its place; a null payload is
 * `"payload":null`. The bytes come back exactly either way. `timeTick` is a decimal string: it does not fit a number.
 */
import { isUtf8 } from 'node:buffer'
import { nearNames } from '../daemon/units.ts'
import { headerFromJson, headerToJson } from './header-json.ts'

export interface EnvelopeRecord {
  readonly vchannel: string
  readonly lsn: number
  readonly timeTick: bigint
  readonly type: number
  readonly properties: Readonly<Record<string, string>>
  readonly payload: Uint8Array
  /** A null payload is not the same as an empty one. */
  readonly isNull?: boolean
  readonly header?: Readonly<Record<string, unknown>> | undefined
  readonly transaction?: number | null
  readonly position?: { readonly lsn: number; readonly skip?: number | undefined }
}

/** One line without its LF. */
export function encodeEnvelope(record: EnvelopeRecord): string {
  const { vchannel, lsn, timeTick, type, properties, header, transaction = null, position } = record
  const head = `"vchannel":${JSON.stringify(vchannel)},"lsn":${lsn},"timeTick":"${timeTick}","type":${type}`
  const typed = header === undefined ? '' : `,"header":${JSON.stringify(headerToJson(header))}`
  const of = transaction === null ? '' : `,"transaction":${transaction}`
  const place = position === undefined ? '' : `,"position":${JSON.stringify(position)}`
  return `{${head}${typed},"properties":${JSON.stringify(properties)},${encodePayload(record)}${of}${place}}`
}

/** `"payload":"text"`, `"payload":null` or `"payloadBase64":"..."`: a part of a JSON object. */
export function encodePayload({ payload, isNull }: Pick<EnvelopeRecord, 'payload' | 'isNull'>): string {
  if (isNull) return '"payload":null'
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  return isUtf8(bytes)
    ? `"payload":${JSON.stringify(bytes.toString('utf8'))}`
    : `"payloadBase64":"${bytes.toString('base64')}"`
}

/** What of an envelope is written: vchannel, LSN and time tick are the log's to give. */
export interface EnvelopeInput {
  type: number | undefined
  header: Readonly<Record<string, unknown>> | undefined
  properties: Readonly<Record<string, string>> | undefined
  payload: Uint8Array | null
}

const envelopeKeys = [
  'vchannel',
  'lsn',
  'timeTick',
  'type',
  'header',
  'properties',
  'payload',
  'payloadBase64',
  'transaction',
  'position',
]
const base64Form = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/

/** Reads one line. Throws an `EnvelopeError` that says what is wrong with it. */
export function decodeEnvelope(line: Uint8Array): EnvelopeInput {
  const value = parseJson(line)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new EnvelopeError(`the line is not a JSON object but ${nameOf(value)}`)
  }
  const fields = value as Record<string, unknown>
  for (const key of Object.keys(fields)) {
    if (envelopeKeys.includes(key)) continue
    const [near] = nearNames(key, envelopeKeys)
    throw new EnvelopeError(`unknown key ${JSON.stringify(key)}${near ? `; did you mean "${near}"?` : ''}`)
  }
  const type = typeOf(fields.type)
  return {
    type,
    header: headerOf(fields.header, type),
    properties: propertiesOf(fields.properties),
    payload: payloadOf(fields),
  }
}

function headerOf(value: unknown, type: number | undefined): Record<string, unknown> | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new EnvelopeError(`"header" is ${nameOf(value)}; it must be an object of fields`)
  }
  if (type === undefined) throw new EnvelopeError('"header" stands without "type"')
  return headerFromJson(type, value as Record<string, unknown>)
}

/** The line as JSON of any kind, in valid UTF-8. Throws an `EnvelopeError`. */
export function readJsonLine(line: Uint8Array): unknown {
  return parseJson(line)
}

/** A line of the input that cannot be a record. */
export class EnvelopeError extends Error {}

function parseJson(line: Uint8Array): unknown {
  if (!isUtf8(line)) throw new EnvelopeError('the line is not valid UTF-8')
  try {
    return JSON.parse(Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString('utf8'))
  } catch (cause) {
    throw new EnvelopeError(`the line is not JSON: ${(cause as Error).message}`, { cause })
  }
}

function typeOf(value: unknown): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535) return value
  throw new EnvelopeError(`"type" is ${nameOf(value)}; it must be a whole number from 0 to 65535`)
}

function propertiesOf(value: unknown): Record<string, string> | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new EnvelopeError(`"properties" is ${nameOf(value)}; it must be an object of strings`)
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw new EnvelopeError(`the property ${JSON.stringify(key)} is ${nameOf(text)}; it must be a string`)
    }
    if (hasLoneSurrogate(key) || hasLoneSurrogate(text)) {
      throw new EnvelopeError(`the property ${JSON.stringify(key)} holds half a surrogate pair, which UTF-8 cannot`)
    }
  }
  return value as Record<string, string>
}

function payloadOf(fields: Record<string, unknown>): Uint8Array | null {
  const { payload, payloadBase64 } = fields
  if (payload !== undefined && payloadBase64 !== undefined) {
    throw new EnvelopeError('both "payload" and "payloadBase64" are there; one of them is wanted')
  }
  if (payload === null) return null
  if (typeof payload === 'string') {
    if (hasLoneSurrogate(payload)) throw new EnvelopeError('"payload" holds half a surrogate pair, which UTF-8 cannot')
    return Buffer.from(payload, 'utf8')
  }
  if (payload !== undefined) throw new EnvelopeError(`"payload" is ${nameOf(payload)}; it must be a string or null`)
  if (payloadBase64 === undefined) throw new EnvelopeError('neither "payload" nor "payloadBase64" is there')
  if (typeof payloadBase64 !== 'string' || !base64Form.test(payloadBase64)) {
    throw new EnvelopeError('"payloadBase64" is not base64')
  }
  return Buffer.from(payloadBase64, 'base64')
}

function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text)
}

function nameOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `the ${typeof value} ${JSON.stringify(value)?.slice(0, 40)}`
}
