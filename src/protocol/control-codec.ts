/**
 * Msgpack metas: one map with string keys. What came is walked before it is decoded, so that a count in it allocates
 * nothing that its bytes do not back, and extension types never reach the decoder.
 */
// The entry without the native part.
import { Packr } from 'msgpackr/pack'
import { msgpackFault } from '../message/msgpack-walk.ts'
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
  const fault = msgpackFault(bytes, DEPTH_MAX)
  if (fault !== null) throw violation(`a control meta: ${fault}`)
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
