/** A record as the caller gives it, checked before it joins those of others in a frame. */
import { type RecordInput, vchannelNameFault } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { HEADER_PROPERTY, KEY_BYTES_MAX, KEY_PROPERTY } from '../message/property-names.ts'
import { nodeOnlyTypes } from '../protocol/node-only.ts'
import { encodeRecordHeader } from './record-header.ts'
import type { AppendRecord } from './types.ts'

/** What a record costs beside its bytes: its row, its entry here. */
export const RECORD_OVERHEAD_BYTES = 128
const CHECKED_MAX = 16_384
const checked = new Set<string>()

/** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED. A name that was checked before is known, within bounds. */
export function checkName(vchannel: string): void {
  if (checked.has(vchannel)) return
  const fault = vchannel === '' ? 'it is empty' : vchannelNameFault(vchannel)
  if (fault !== null) {
    const tooLong = typeof vchannel === 'string' && Buffer.byteLength(vchannel) > 255
    throw refused(`the vchannel name is refused: ${fault}`, tooLong ? 'LIMIT_EXCEEDED' : 'INVALID_ARGUMENT')
  }
  if (checked.size >= CHECKED_MAX) checked.clear()
  checked.add(vchannel)
}

/** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED, not written. */
export function checkRecord(
  vchannel: string,
  record: AppendRecord,
  { key, contextIndex }: { key?: string | undefined; contextIndex?: number | undefined } = {},
): RecordInput {
  if (typeof record !== 'object' || record === null) throw refused('a record is an object')
  const { type, header, properties, payload } = record
  if (type !== undefined && (!Number.isInteger(type) || type < 0 || type > 65_535)) {
    throw refused(`the type ${String(type)} is not an integer from 0 to 65,535`)
  }
  if (type !== undefined && nodeOnlyTypes.has(type)) throw refused(`records of type ${type} are not for clients`)
  if (payload !== undefined && payload !== null && !(payload instanceof Uint8Array)) {
    throw refused('a payload is a Uint8Array, null or left out')
  }
  if (properties !== undefined) checkProperties(properties)
  if (key === undefined && header === undefined) return { vchannel, type, properties, payload, contextIndex }
  const all: Record<string, string> = { ...properties }
  if (header !== undefined) all[HEADER_PROPERTY] = encodeRecordHeader(type ?? 0, header)
  if (key !== undefined) all[KEY_PROPERTY] = checkedKey(key)
  return { vchannel, type, properties: all, payload, contextIndex }
}

function checkedKey(key: string): string {
  if (typeof key !== 'string' || !isWellFormed(key)) throw refused('an idempotency key is a string with a UTF-8 form')
  const bytes = Buffer.byteLength(key)
  if (bytes < 1) throw refused('an idempotency key is not empty')
  if (bytes > KEY_BYTES_MAX) {
    throw refused(`an idempotency key of ${bytes} bytes passes the limit of ${KEY_BYTES_MAX}`, 'LIMIT_EXCEEDED')
  }
  return key
}

function checkProperties(properties: Readonly<Record<string, string>>): void {
  if (typeof properties !== 'object' || properties === null) throw refused('properties are an object of strings')
  for (const key of Object.keys(properties)) {
    if (key.startsWith('_')) throw refused(`the property "${key}" begins with _, which belongs to the node`)
    const value = properties[key]
    if (typeof value !== 'string') throw refused(`the property "${key}" is not a string`)
    if (!isWellFormed(key) || !isWellFormed(value)) throw refused(`the property "${key}" has no UTF-8 form`)
    if (key.length > 65_535 || Buffer.byteLength(key) > 65_535) {
      throw refused('a property key is longer than 65,535 bytes', 'LIMIT_EXCEEDED')
    }
  }
}

/** Payload and encoded properties, as the limit counts them. */
export function recordBytes({ properties, payload }: RecordInput): number {
  let bytes = payload === undefined || payload === null ? 0 : payload.length
  if (properties === undefined) return bytes
  let any = false
  for (const key of Object.keys(properties)) {
    any = true
    bytes += 6 + Buffer.byteLength(key) + Buffer.byteLength(properties[key]!)
  }
  return any ? bytes + 2 : bytes
}

function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}

export function refused(
  message: string,
  code: 'INVALID_ARGUMENT' | 'LIMIT_EXCEEDED' = 'INVALID_ARGUMENT',
): TidelogError<string> {
  return new TidelogError<string>(code, message, { outcome: 'not-written' })
}
