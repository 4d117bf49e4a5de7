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
import { nodeOnlyContexts, nodeOnlyTypes, PRODUCER_CONTEXT, TRANSACTION_CONTEXT } from '../../protocol/node-only.ts'
import type { Produce } from '../../protocol/produce-messages.ts'

const PROPERTY_HEADER_BYTES = 6
const UNDERSCORE = 0x5f
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

/** What a client may say, and its properties; throws BodyRefused. */
export function checkReceivedBody(head: BodyHead, body: Buffer, recordBytesMax: number): void {
  if (head.vchannels.includes('')) throw new BodyRefused('a record has no vchannel', false)
  for (let index = 0; index < head.contextCount; index++) checkContext(head.context(index))
  checkRows(head, body, recordBytesMax)
}

function checkRows(head: BodyHead, body: Buffer, recordBytesMax: number): void {
  const { recordCount } = head
  let offsets: Uint32Array | null = null
  for (let row = 0; row < recordCount; row++) {
    const type = head.type(row)
    if (type !== 0 && nodeOnlyTypes.has(type)) {
      throw new BodyRefused(`record ${row} has type ${type}, which is not for clients`, false)
    }
    const propertiesLength = head.propertiesLength(row)
    if (propertiesLength + head.payloadLength(row) > recordBytesMax) {
      throw new BodyRefused(`record ${row} is longer than ${recordBytesMax} bytes`, false)
    }
    if (propertiesLength === 0) continue
    offsets ??= head.rowOffsets()
    const start = head.sectionOffset(head.vchannelIndex(row)) + offsets[row]!
    checkProperties(body.subarray(start, start + propertiesLength), row)
  }
}

function checkProperties(bytes: Buffer, row: number): void {
  const fail = (why: string): never => {
    throw new BodyRefused(`properties of record ${row}: ${why}`, true)
  }
  if (bytes.length < 2) fail('cut off')
  const count = bytes.readUInt16LE(0)
  if (count === 0) fail('a count of 0')
  const plain = isAscii(bytes)
  const keys: Buffer[] = []
  let at = 2
  for (let index = 0; index < count; index++) {
    if (at + PROPERTY_HEADER_BYTES > bytes.length) fail('cut off')
    const keyAt = at + PROPERTY_HEADER_BYTES
    const valueAt = keyAt + bytes.readUInt16LE(at)
    const end = valueAt + bytes.readUInt32LE(at + 2)
    if (end > bytes.length) fail('cut off')
    if (valueAt > keyAt && bytes[keyAt] === UNDERSCORE) {
      throw new BodyRefused(`record ${row} has a property that begins with _, which only the node may write`, false)
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
}

/** Item headers were checked with the head: u16 type, u16 length, value. */
function checkContext(context: Uint8Array): void {
  const view = new DataView(context.buffer, context.byteOffset, context.byteLength)
  for (let at = 0; at + 4 <= view.byteLength; at += 4 + view.getUint16(at + 2, true)) {
    const type = view.getUint16(at, true)
    const stated = type === PRODUCER_CONTEXT || type === TRANSACTION_CONTEXT
    if (stated || nodeOnlyContexts.has(type))
      throw new BodyRefused(`a context of type ${type} is not for clients`, false)
  }
}
