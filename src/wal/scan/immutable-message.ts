/** A message as it was read: what is not looked at is not decoded. */
import type { BodyHead } from '../../../native-free-storage/index.ts'
import type { LogStoreRecord, StoreFrame } from '../../log-store/log-store.ts'
import { decodeHeader } from '../../message/message-header.ts'
import { messageIdOf } from '../../message/message-id.ts'
import { HEADER_PROPERTY, isReservedName } from '../../message/property-names.ts'
import type { ImmutableMessage, ScannedMessage, ScanPosition } from '../types.ts'

type Properties = Readonly<Record<string, string>>

abstract class ReadMessage implements ImmutableMessage {
  readonly lsn: number
  abstract readonly timeTick: bigint
  readonly isNull: boolean
  readonly #record: LogStoreRecord
  #header: Readonly<Record<string, unknown>> | undefined | null = null
  #properties: Properties | null = null

  constructor(record: LogStoreRecord, isNull: boolean) {
    this.#record = record
    this.lsn = record.lsn
    this.isNull = isNull
  }

  abstract get id(): string

  protected get ownTick(): bigint {
    return this.#record.timeTick
  }

  get vchannel(): string {
    return this.#record.vchannel
  }

  get type(): number {
    return this.#record.type
  }

  get header(): Readonly<Record<string, unknown>> | undefined {
    if (this.#header === null) {
      const text = this.#record.properties[HEADER_PROPERTY]
      this.#header =
        text === undefined
          ? undefined
          : (decodeHeader(this.type, text) as Readonly<Record<string, unknown>> | undefined)
    }
    return this.#header
  }

  get properties(): Properties {
    this.#properties ??= withoutReserved(this.#record.properties)
    return this.#properties
  }

  get payload(): Uint8Array {
    return this.#record.payload
  }
}

/** One that stands by itself. */
export class PlainMessage extends ReadMessage implements ScannedMessage {
  readonly kind = 'message'

  get timeTick(): bigint {
    return this.ownTick
  }

  get id(): string {
    return messageIdOf({ lsn: this.lsn, commitLsn: null })
  }

  get position(): ScanPosition {
    return { lsn: this.lsn + 1 }
  }

  /** The order of a log is that of its ticks: what has a greater one stands behind it. */
  get lastConfirmed(): ScanPosition {
    return this.position
  }
}

/** One of a transaction, with the tick of the commit. */
export class TransactionMessage extends ReadMessage {
  readonly timeTick: bigint
  readonly #commitLsn: number

  constructor(record: LogStoreRecord, isNull: boolean, commit: { lsn: number; timeTick: bigint }) {
    super(record, isNull)
    this.timeTick = commit.timeTick
    this.#commitLsn = commit.lsn
  }

  get id(): string {
    return messageIdOf({ lsn: this.lsn, commitLsn: this.#commitLsn })
  }
}

/** The record without the read that it is a view of. */
export function detached(record: LogStoreRecord): LogStoreRecord {
  const { lsn, timeTick, vchannel, type, properties } = record
  const payload = new Uint8Array(record.payload)
  return { lsn, timeTick, vchannel, type, properties, payload }
}

export function isNullIn(frame: StoreFrame, record: LogStoreRecord): boolean {
  return (frame.head as BodyHead).hasNullPayload(record.lsn - frame.baseLsn)
}

function withoutReserved(properties: Properties): Properties {
  const names = Object.keys(properties)
  if (!names.some(isReservedName)) return properties
  const others: Record<string, string> = Object.create(null)
  for (const name of names) if (!isReservedName(name)) others[name] = properties[name]!
  return others
}
