/**
 * Msgpack metas: one map with string keys. What came is walked before it is decoded, so that a count in it allocates
 * nothing that its bytes do not back, and extension types never reach the decoder.
 */
// The entry without the native part.
import { Packr } from 'msgpackr/pack'
import { violation } from './violation.ts'

const DEPTH_MAX = 16

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true, int64AsType: 'bigint' })

export type ControlValue = string | number | bigint | boolean | null | Uint8Array | ControlValue[] | ControlMap
export interface ControlMap {
  [key: string]: ControlValue | undefined
}

/** Undefined values are left out. */
export function encodeControl(map: ControlMap): Buffer {
  const present: ControlMap = {}
  for (const key of Object.keys(map)) if (map[key] !== undefined) present[key] = map[key]
  return packr.pack(present)
}

/** Throws PROTOCOL_VIOLATION. */
export function decodeControl(bytes: Buffer): ControlMap {
  if (bytes.length === 0) throw violation('a control meta is empty')
  if (!isMap(bytes[0]!)) throw violation('a control meta is not a map')
  if (skip(bytes, 0, 0) !== bytes.length) throw violation('bytes stand behind a control meta')
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch (cause) {
    throw violation('a control meta is not msgpack', cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw violation('a control meta is not a map')
  return value as ControlMap
}

function isMap(lead: number): boolean {
  return (lead & 0xf0) === 0x80 || lead === 0xde || lead === 0xdf
}

/** Walks over the value at `at`; returns the offset behind it. */
function skip(bytes: Buffer, at: number, depth: number): number {
  if (depth > DEPTH_MAX) throw violation(`a control meta is more than ${DEPTH_MAX} levels deep`)
  const lead = byteAt(bytes, at)
  if (lead <= 0x7f || lead >= 0xe0) return at + 1
  if (lead <= 0x8f) return skipItems(bytes, at + 1, lead & 0x0f, true, depth)
  if (lead <= 0x9f) return skipItems(bytes, at + 1, lead & 0x0f, false, depth)
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
      return skipItems(bytes, at + 3, bytes.readUInt16BE(at + 1), lead === 0xde, depth)
    case 0xdd:
    case 0xdf:
      within(bytes, at + 5)
      return skipItems(bytes, at + 5, bytes.readUInt32BE(at + 1), lead === 0xdf, depth)
    default:
      throw violation(`a control meta holds the msgpack type ${lead.toString(16)}, which is not used`)
  }
}

function skipItems(bytes: Buffer, from: number, count: number, map: boolean, depth: number): number {
  let at = from
  for (let index = 0; index < count; index++) {
    if (map) {
      const lead = byteAt(bytes, at)
      if (!((lead & 0xe0) === 0xa0 || lead === 0xd9 || lead === 0xda)) throw violation('a key is not a string')
      at = skip(bytes, at, depth + 1)
    }
    at = skip(bytes, at, depth + 1)
  }
  return at
}

function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at]
  if (byte === undefined) throw violation('a control meta is cut off')
  return byte
}

function within(bytes: Buffer, end: number): number {
  if (end > bytes.length) throw violation('a control meta is cut off')
  return end
}

/** Reads the fields of a decoded map, each checked. Throws PROTOCOL_VIOLATION naming the message and the field. */
export class ControlFields {
  readonly #what: string
  readonly #map: ControlMap

  constructor(what: string, map: ControlMap) {
    this.#what = what
    this.#map = map
  }

  static decode(what: string, bytes: Buffer): ControlFields {
    return new ControlFields(what, decodeControl(bytes))
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#map, key) && this.#map[key] !== undefined && this.#map[key] !== null
  }

  raw(key: string): ControlValue | undefined {
    return this.has(key) ? this.#map[key] : undefined
  }

  string(key: string, bytesMax: number, missing?: string): string {
    const value = this.raw(key) ?? missing
    if (typeof value !== 'string' || Buffer.byteLength(value) > bytesMax) throw this.#fault(key, 'a short string')
    return value
  }

  integer(key: string, min: number, max: number, missing?: number): number {
    return integerOf(this.raw(key) ?? missing, min, max) ?? this.#fail(key, `an integer from ${min} to ${max}`)
  }

  boolean(key: string, missing?: boolean): boolean {
    const value = this.raw(key) ?? missing
    return typeof value === 'boolean' ? value : this.#fail(key, 'true or false')
  }

  tick(key: string): bigint {
    return tickOf(this.raw(key)) ?? this.#fail(key, 'a time tick')
  }

  array(key: string, min: number, max: number): ControlValue[] {
    const value = this.raw(key)
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw this.#fault(key, `an array of ${min} to ${max}`)
    }
    return value
  }

  /** Null where it is left out. */
  map(key: string): ControlFields | null {
    const value = this.raw(key)
    if (value === undefined) return null
    if (typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array || value === null) {
      throw this.#fault(key, 'a map')
    }
    return new ControlFields(`${this.#what}.${key}`, value)
  }

  maps(key: string, max: number): ControlFields[] {
    return this.array(key, 0, max).map((value) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
        throw this.#fault(key, 'an array of maps')
      }
      return new ControlFields(`${this.#what}.${key}`, value)
    })
  }

  #fault(key: string, wanted: string): Error {
    return violation(`${this.#what}: "${key}" is not ${wanted}`)
  }

  #fail(key: string, wanted: string): never {
    throw this.#fault(key, wanted)
  }
}

export function integerOf(value: ControlValue | undefined, min: number, max: number): number | null {
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < min || number > max) return null
  return number
}

export function tickOf(value: ControlValue | undefined): bigint | null {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null
  if (typeof value !== 'bigint') return null
  return value >= 0n && value <= 0xffff_ffff_ffff_ffffn ? value : null
}
