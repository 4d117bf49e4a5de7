/** A record as it is delivered. A class, so that what is seldom looked at costs nothing for each record. */
import { HEADER_PROPERTY, isReservedName } from '../message/property-names.ts'
import { decodeRecordHeader } from './record-header.ts'
import type { ConsumedRecord, RecordPosition } from './types.ts'

export class ReceivedRecord implements ConsumedRecord {
  readonly vchannel: string
  readonly lsn: number
  readonly timeTick: bigint
  readonly type: number
  readonly properties: Readonly<Record<string, string>>
  readonly payload: Uint8Array
  readonly isNull: boolean
  readonly transaction: number | null
  readonly position: RecordPosition
  readonly #header: string | undefined

  /** `properties`: all that are stored; the node's own are taken out. */
  constructor(
    vchannel: string,
    lsn: number,
    timeTick: bigint,
    type: number,
    properties: Readonly<Record<string, string>>,
    payload: Uint8Array,
    isNull: boolean,
    transaction: number | null,
    position: RecordPosition,
  ) {
    this.vchannel = vchannel
    this.lsn = lsn
    this.timeTick = timeTick
    this.type = type
    this.payload = payload
    this.isNull = isNull
    this.transaction = transaction
    this.position = position
    this.#header = properties[HEADER_PROPERTY]
    this.properties = withoutReserved(properties)
  }

  get header(): Readonly<Record<string, unknown>> | undefined {
    return this.#header === undefined ? undefined : decodeRecordHeader(this.type, this.#header, this.lsn)
  }
}

function withoutReserved(properties: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  let reserved = false
  for (const name in properties) if (isReservedName(name)) reserved = true
  if (!reserved) return properties
  const own: Record<string, string> = Object.create(null)
  for (const name in properties) if (!isReservedName(name)) own[name] = properties[name]!
  return own
}
