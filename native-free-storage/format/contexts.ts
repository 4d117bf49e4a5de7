/**
 * Contexts: what several records of a frame share (FORMAT 3.3).
 *
 * In a body each context is a u32 length and that many bytes of items. This codec is about those bytes:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 2 | type of the item |
 * | 2 | 2 | length of the value |
 * | 4 | | value |
 *
 * Values: 1 producer: u64 id, u32 epoch, u64 first sequence (20 bytes); 2 transaction: u64 id (8 bytes); 3 trace: a
 * W3C trace context in ASCII. Unknown types are skipped. No type stands twice.
 */
import { damaged, FormatError } from './format-error.ts'
import { asBuffer, readBigU64, readU64, writeBigU64, writeU64 } from './integers.ts'

const TYPE_PRODUCER = 1
const TYPE_TRANSACTION = 2
const TYPE_TRACE = 3

const ITEM_HEADER_BYTES = 4
const PRODUCER_BYTES = 20
const PRODUCER_EPOCH = 8
const PRODUCER_SEQUENCE = 12
const TRANSACTION_BYTES = 8
const TRACE_BYTES_MAX = 512
const PRINTABLE_ASCII = /^[\x20-\x7e]+$/

export interface ProducerContext {
  id: bigint
  epoch: number
  firstSequence: number
}

export interface Context {
  producer?: ProducerContext | undefined
  /** Id of the transaction. */
  transaction?: bigint | undefined
  /** W3C trace context (`traceparent`), 1 to 512 printable ASCII characters. */
  trace?: string | undefined
}

export function encodeContext(context: Context): Buffer {
  const { producer, transaction, trace } = context
  if (trace !== undefined && (trace.length > TRACE_BYTES_MAX || !PRINTABLE_ASCII.test(trace))) {
    throw new FormatError('INVALID_ARGUMENT', `a trace context is 1 to ${TRACE_BYTES_MAX} printable ASCII characters`)
  }
  const length =
    (producer === undefined ? 0 : ITEM_HEADER_BYTES + PRODUCER_BYTES) +
    (transaction === undefined ? 0 : ITEM_HEADER_BYTES + TRANSACTION_BYTES) +
    (trace === undefined ? 0 : ITEM_HEADER_BYTES + trace.length)
  const bytes = Buffer.alloc(length)
  let at = 0
  if (producer !== undefined) {
    at = writeItemHeader(bytes, at, TYPE_PRODUCER, PRODUCER_BYTES)
    writeBigU64(bytes, at, producer.id)
    bytes.writeUInt32LE(producer.epoch, at + PRODUCER_EPOCH)
    writeU64(bytes, at + PRODUCER_SEQUENCE, producer.firstSequence)
    at += PRODUCER_BYTES
  }
  if (transaction !== undefined) {
    at = writeItemHeader(bytes, at, TYPE_TRANSACTION, TRANSACTION_BYTES)
    writeBigU64(bytes, at, transaction)
    at += TRANSACTION_BYTES
  }
  if (trace !== undefined) bytes.write(trace, writeItemHeader(bytes, at, TYPE_TRACE, trace.length), 'latin1')
  return bytes
}

/** Throws DAMAGED. */
export function decodeContext(bytes: Uint8Array): Context {
  const source = asBuffer(bytes)
  const context: Context = {}
  checkContext(source, 0, source.length, context)
  return context
}

/** Checks the items that fill bytes `from` to `to`, and puts those that are known into `into`. Throws DAMAGED. */
export function checkContext(source: Buffer, from: number, to: number, into?: Context): void {
  let types: Set<number> | undefined
  for (let at = from; at < to; ) {
    if (at + ITEM_HEADER_BYTES > to) throw damaged('an item lies beyond the end of its context', at)
    const type = source.readUInt16LE(at)
    const length = source.readUInt16LE(at + 2)
    const value = at + ITEM_HEADER_BYTES
    if (value + length > to) throw damaged('an item lies beyond the end of its context', at)
    types ??= new Set()
    if (types.has(type)) throw damaged(`the context item ${type} stands twice`, at)
    types.add(type)
    if (type === TYPE_PRODUCER) {
      if (length !== PRODUCER_BYTES) throw damaged(`a producer context of ${length} bytes`, at)
      const firstSequence = readU64(source, value + PRODUCER_SEQUENCE)
      if (into !== undefined) {
        const epoch = source.readUInt32LE(value + PRODUCER_EPOCH)
        into.producer = { id: readBigU64(source, value), epoch, firstSequence }
      }
    } else if (type === TYPE_TRANSACTION) {
      if (length !== TRANSACTION_BYTES) throw damaged(`a transaction context of ${length} bytes`, at)
      if (into !== undefined) into.transaction = readBigU64(source, value)
    } else if (type === TYPE_TRACE) {
      const trace = source.toString('latin1', value, value + length)
      if (length > TRACE_BYTES_MAX || !PRINTABLE_ASCII.test(trace)) throw damaged('a trace context is not ASCII', at)
      if (into !== undefined) into.trace = trace
    }
    at = value + length
  }
}

function writeItemHeader(target: Buffer, offset: number, type: number, length: number): number {
  target.writeUInt16LE(type, offset)
  target.writeUInt16LE(length, offset + 2)
  return offset + ITEM_HEADER_BYTES
}
