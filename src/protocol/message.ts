/**
 * A message (PROTOCOL 1): header, meta, body.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | header hash: hash of bytes 8 to 39 |
 * | 8 | 4 | magic, ASCII `TDLP` |
 * | 12 | 1 | layout version, 1 |
 * | 13 | 1 | type |
 * | 14 | 2 | flags, 0 |
 * | 16 | 4 | request id |
 * | 20 | 4 | meta length |
 * | 24 | 4 | body length, a multiple of 8 |
 * | 28 | 4 | reserved |
 * | 32 | 8 | hash of the meta, 0 when the meta length is 0 |
 */
import { hash64 } from '../../native-free-storage/index.ts'
import { META_BYTES_MAX } from './limits.ts'
import { readBigU64, writeBigU64 } from './u64.ts'
import { violation } from './violation.ts'

export const MESSAGE_HEADER_BYTES = 40
/** As soon as these are there the magic is looked at. */
export const MESSAGE_MAGIC_END = 12

const HEADER_HASH = 0
const MAGIC = 8
const LAYOUT_VERSION = 12
const TYPE = 13
const FLAGS = 14
const REQUEST_ID = 16
const META_LENGTH = 20
const BODY_LENGTH = 24
const RESERVED = 28
const META_HASH = 32

/** `TDLP`, read as a little-endian u32. */
const MAGIC_VALUE = 0x504c4454

export const MessageType = {
  hello: 1,
  welcome: 2,
  goodbye: 3,
  ping: 4,
  pong: 5,
  error: 6,
  resolve: 16,
  resolved: 17,
  list: 18,
  listed: 19,
  status: 20,
  statusIs: 21,
  truncate: 22,
  truncated: 23,
  confirm: 24,
  confirmed: 25,
  produce: 32,
  produced: 33,
  throttle: 34,
  consume: 48,
  consuming: 49,
  credit: 50,
  frame: 51,
  caughtUp: 52,
  tick: 53,
  consumeStop: 54,
  consumeEnd: 55,
  txnBegin: 64,
  txnBegun: 65,
  txnEnd: 66,
  txnEnded: 67,
  txnList: 68,
  txnListed: 69,
  producerOpen: 72,
  producerOpened: 73,
  producerList: 74,
  producerListed: 75,
} as const

export type MessageType = (typeof MessageType)[keyof typeof MessageType]

const names = new Map<number, string>(Object.entries(MessageType).map(([name, type]) => [type, name]))

export function messageTypeName(type: number): string {
  return names.get(type) ?? `of type ${type}`
}

export interface MessageHeader {
  type: number
  requestId: number
  metaLength: number
  bodyLength: number
  metaHash: bigint
}

/** A whole message: header hash, meta hash and lengths are verified, the body is not. */
export interface Message {
  type: number
  requestId: number
  meta: Buffer
  body: Buffer
}

const NO_META = Buffer.alloc(0)

/**
 * Writes header and meta at the start of `target` (the meta stands there already when `meta` is null and `metaLength`
 * is above 0: for metas that are written in place).
 */
export function writeHeader(
  target: Buffer,
  type: MessageType,
  requestId: number,
  metaLength: number,
  bodyLength: number,
): void {
  target.writeUInt32LE(MAGIC_VALUE, MAGIC)
  target[LAYOUT_VERSION] = 1
  target[TYPE] = type
  target.writeUInt16LE(0, FLAGS)
  target.writeUInt32LE(requestId, REQUEST_ID)
  target.writeUInt32LE(metaLength, META_LENGTH)
  target.writeUInt32LE(bodyLength, BODY_LENGTH)
  target.writeUInt32LE(0, RESERVED)
  const metaHash =
    metaLength === 0 ? 0n : hash64(target.subarray(MESSAGE_HEADER_BYTES, MESSAGE_HEADER_BYTES + metaLength))
  writeBigU64(target, META_HASH, metaHash)
  writeBigU64(target, HEADER_HASH, hash64(target.subarray(MAGIC, MESSAGE_HEADER_BYTES)))
}

/** Header and meta of a message; the body, `bodyLength` bytes, is sent behind it. */
export function encodeMessage(type: MessageType, requestId: number, meta: Buffer = NO_META, bodyLength = 0): Buffer {
  if (meta.length > META_BYTES_MAX) throw new RangeError(`a meta of ${meta.length} bytes passes ${META_BYTES_MAX}`)
  const bytes = Buffer.allocUnsafe(MESSAGE_HEADER_BYTES + meta.length)
  meta.copy(bytes, MESSAGE_HEADER_BYTES)
  writeHeader(bytes, type, requestId, meta.length, bodyLength)
  return bytes
}

/** Refuses what is not this protocol at all as early as it can be told. Needs `MESSAGE_MAGIC_END` bytes. */
export function checkMagic(source: Buffer, offset: number): void {
  if (source.readUInt32LE(offset + MAGIC) !== MAGIC_VALUE) throw violation('this is not the Tidelog protocol')
}

/** The header at `offset`, verified; throws PROTOCOL_VIOLATION. Lengths are bounded here, before anything is allocated. */
export function decodeHeader(source: Buffer, offset: number, bodyBytesMax: number): MessageHeader {
  checkMagic(source, offset)
  const hash = hash64(source.subarray(offset + MAGIC, offset + MESSAGE_HEADER_BYTES))
  if (readBigU64(source, offset + HEADER_HASH) !== hash) throw violation('a message header does not have its hash')
  if (source[offset + LAYOUT_VERSION] !== 1) {
    throw violation(`a message has layout version ${source[offset + LAYOUT_VERSION]}, this side knows 1`)
  }
  if (source.readUInt16LE(offset + FLAGS) !== 0 || source.readUInt32LE(offset + RESERVED) !== 0) {
    throw violation('a message has flags or reserved bytes that are not 0')
  }
  const type = source[offset + TYPE]!
  const metaLength = source.readUInt32LE(offset + META_LENGTH)
  const bodyLength = source.readUInt32LE(offset + BODY_LENGTH)
  const metaHash = readBigU64(source, offset + META_HASH)
  if (!names.has(type)) throw violation(`a message of the unknown type ${type}`)
  if (metaLength > META_BYTES_MAX) throw violation(`a meta of ${metaLength} bytes passes ${META_BYTES_MAX}`)
  if (bodyLength > 0 && type !== MessageType.produce && type !== MessageType.frame) {
    throw violation(`a ${messageTypeName(type)} has a body`)
  }
  if (bodyLength > bodyBytesMax) throw violation(`a body of ${bodyLength} bytes passes the limit of ${bodyBytesMax}`)
  if (bodyLength % 8 !== 0) throw violation(`a body length of ${bodyLength} is no multiple of 8`)
  if (metaLength === 0 && metaHash !== 0n) throw violation('an empty meta has a hash')
  return { type, requestId: source.readUInt32LE(offset + REQUEST_ID), metaLength, bodyLength, metaHash }
}

export function checkMeta(header: MessageHeader, meta: Buffer): void {
  if (header.metaLength > 0 && hash64(meta) !== header.metaHash) {
    throw violation(`the meta of a ${messageTypeName(header.type)} does not have its hash`)
  }
}
