/**
 * A body from a client, checked whole before it gets an LSN: hashes, rows, names, properties, and what only the node
 * may write (PROTOCOL 5).
 */
import { isAscii, isUtf8 } from 'node:buffer'
import {
  type BodyHead,
  checkPadding,
  decodeProperties,
  FormatError,
  openBodyHead,
  verifySection,
} from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { decodeHeader } from '../../message/message-header.ts'
import { isExclusive, messageTypeInfo, messageTypeName } from '../../message/message-type.ts'
import { HEADER_PROPERTY, KEY_BYTES_MAX, KEY_PROPERTY } from '../../message/property-names.ts'
import { KEYED_RECORDS_MAX } from '../../protocol/limits.ts'
import { nodeOnlyContexts, nodeOnlyTypes } from '../../protocol/node-only.ts'
import type { Produce } from '../../protocol/produce-messages.ts'
import { hasItem, identityOf, type ReceivedIdentity } from './received-identity.ts'

const PROPERTY_HEADER_BYTES = 6
const UNDERSCORE = 0x5f
const KEY_NAME = Buffer.from(KEY_PROPERTY)
const HEADER_NAME = Buffer.from(HEADER_PROPERTY)
/** Up to so many properties keys are compared in pairs; more go through the decoder. */
const PAIRED_MAX = 8

/** Why a body is refused. `broken`: it is not what FORMAT 3.3 says, which no honest client sends. */
export class BodyRefused extends TidelogError<'INVALID_BODY'> {
  readonly broken: boolean

  constructor(message: string, broken: boolean, cause?: unknown) {
    super('INVALID_BODY', message, { outcome: 'not-written', cause })
    this.broken = broken
  }
}

/** Hashes and structure; throws BodyRefused, always `broken`. `body` is kept by the head that is returned. */
export function openReceivedBody(body: Buffer, produce: Produce): BodyHead {
  try {
    const head = openBodyHead(body, body.length, produce.recordCount, produce.bodyHash)
    for (let index = 0; index < head.vchannelCount; index++) {
      const start = head.sectionOffset(index)
      if (!verifySection(head, index, body.subarray(start, start + head.sectionLength(index)))) {
        throw new BodyRefused(`section ${index} does not have its hash`, true)
      }
    }
    if (!checkPadding(head, body)) throw new BodyRefused('padding between the sections is not zero', true)
    return head
  } catch (error) {
    if (error instanceof FormatError) throw new BodyRefused(error.message, true, error)
    throw error
  }
}

/** What the connection knows. */
export interface BodyRules {
  recordBytesMax: number
  /** Whether it has opened the producer in this epoch. */
  hasOpened(producer: number, epoch: number): boolean
}

/** What a client may say, and its properties; throws BodyRefused. `index`: in its transaction, as the message says. */
export function checkReceivedBody(head: BodyHead, body: Buffer, index: number, rules: BodyRules): ReceivedIdentity {
  if (head.vchannels.includes('')) throw refused('a record has no vchannel')
  for (let context = 0; context < head.contextCount; context++) {
    if (hasItem(head.context(context), (type) => nodeOnlyContexts.has(type))) {
      throw refused('a context of a tenant or an origin cluster is not for clients')
    }
  }
  const identity = identityOf(head, (why) => {
    throw refused(why)
  })
  const { producer, transaction } = identity
  if (producer !== null && !rules.hasOpened(producer.producer, producer.epoch)) {
    throw refused(`this connection has not opened producer ${producer.producer} in epoch ${producer.epoch}`)
  }
  if (index > 0 && transaction === null) throw refused('an index in a transaction, and no transaction')
  checkRows(head, body, rules.recordBytesMax, producer !== null || transaction !== null)
  return identity
}

function checkRows(head: BodyHead, body: Buffer, recordBytesMax: number, owned: boolean): void {
  const { recordCount } = head
  let offsets: Uint32Array | null = null
  let keys = 0
  for (let row = 0; row < recordCount; row++) {
    const type = head.type(row)
    if (type !== 0) checkType(type, row, recordCount, owned)
    const propertiesLength = head.propertiesLength(row)
    if (propertiesLength + head.payloadLength(row) > recordBytesMax) {
      throw refused(`record ${row} is longer than ${recordBytesMax} bytes`)
    }
    if (propertiesLength === 0) continue
    offsets ??= head.rowOffsets()
    const start = head.sectionOffset(head.vchannelIndex(row)) + offsets[row]!
    if (!checkProperties(body.subarray(start, start + propertiesLength), row, type)) continue
    if (owned) throw refused(`record ${row} has an idempotency key in a frame of a producer or a transaction`)
    keys++
    if (keys > KEYED_RECORDS_MAX) throw refused(`more than ${KEYED_RECORDS_MAX} idempotency keys in a frame`)
  }
}

function checkType(type: number, row: number, recordCount: number, owned: boolean): void {
  if (nodeOnlyTypes.has(type)) throw refused(`record ${row} has type ${type}, which is not for clients`)
  if (!isExclusive(type)) return
  if (recordCount > 1) throw refused(`record ${row} is a ${messageTypeName(type)}, which is alone in its frame`)
  if (owned) throw refused(`a ${messageTypeName(type)} belongs to no producer and to no transaction`)
}

/** Says whether there is an idempotency key. */
function checkProperties(bytes: Buffer, row: number, type: number): boolean {
  const fail = (why: string): never => {
    throw new BodyRefused(`properties of record ${row}: ${why}`, true)
  }
  if (bytes.length < 2) fail('cut off')
  const count = bytes.readUInt16LE(0)
  if (count === 0) fail('a count of 0')
  const plain = isAscii(bytes)
  const keys: Buffer[] = []
  let hasKey = false
  let at = 2
  for (let index = 0; index < count; index++) {
    if (at + PROPERTY_HEADER_BYTES > bytes.length) fail('cut off')
    const keyAt = at + PROPERTY_HEADER_BYTES
    const valueAt = keyAt + bytes.readUInt16LE(at)
    const end = valueAt + bytes.readUInt32LE(at + 2)
    if (end > bytes.length) fail('cut off')
    if (valueAt > keyAt && bytes[keyAt] === UNDERSCORE) {
      checkReserved(bytes.subarray(keyAt, valueAt), bytes.subarray(valueAt, end), row, type)
      hasKey ||= valueAt - keyAt === KEY_NAME.length && KEY_NAME.equals(bytes.subarray(keyAt, valueAt))
    }
    if (!plain && !(isUtf8(bytes.subarray(keyAt, valueAt)) && isUtf8(bytes.subarray(valueAt, end)))) {
      fail('not valid UTF-8')
    }
    if (count > 1 && count <= PAIRED_MAX) {
      const key = bytes.subarray(keyAt, valueAt)
      if (keys.some((known) => known.equals(key))) fail('a key stands twice')
      keys.push(key)
    }
    at = end
  }
  if (at !== bytes.length) fail('bytes stand behind the last one')
  if (count > PAIRED_MAX) {
    try {
      decodeProperties(bytes)
    } catch (error) {
      fail((error as Error).message)
    }
  }
  return hasKey
}

/** Of the names that begin with `_` a client may say two. */
function checkReserved(name: Buffer, value: Buffer, row: number, type: number): void {
  if (KEY_NAME.equals(name)) {
    if (value.length === 0 || value.length > KEY_BYTES_MAX) {
      throw refused(`record ${row} has an idempotency key of ${value.length} bytes; 1 to ${KEY_BYTES_MAX} are allowed`)
    }
    return
  }
  if (!HEADER_NAME.equals(name)) {
    throw refused(`record ${row} has a property that begins with _, which only the node may write`)
  }
  if (messageTypeInfo(type) === undefined) throw refused(`record ${row} has a header, and its type ${type} has none`)
  try {
    decodeHeader(type, value.toString('latin1'))
  } catch (error) {
    throw refused(`record ${row}: ${(error as Error).message}`)
  }
}

function refused(message: string): BodyRefused {
  return new BodyRefused(message, false)
}
