/** Every decoder of the protocol against hostile bytes (hostile-bytes.ts): a value, or PROTOCOL_VIOLATION. */
import { describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import * as consume from '../../src/protocol/consume-messages.ts'
import { ControlFields, decodeControl, encodeControl } from '../../src/protocol/control-codec.ts'
import * as control from '../../src/protocol/control-messages.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, MessageType } from '../../src/protocol/message.ts'
import { MessageParser } from '../../src/protocol/message-parser.ts'
import * as produce from '../../src/protocol/produce-messages.ts'
import * as wal from '../../src/protocol/wal-messages.ts'
import { errorFromWire, errorToWire } from '../../src/protocol/wire-error.ts'
import { budget } from '../budget.ts'
import { type HostileTarget, survive } from '../hostile-bytes.ts'

await loadChecksum()

const metaOf = (message: Buffer) => message.subarray(MESSAGE_HEADER_BYTES)
const vchannel = { name: 'orders', group: 3, createdMs: 1_700_000_000_000 }
const status: control.WireGroupStatus = {
  ...{ group: 1, name: 'p1', state: 'stalled', message: 'a write is slow', ownerTerm: 1, firstLsn: 0, nextLsn: 99 },
  ...{ watermark: 1n << 60n, bytes: 2 ** 40, segments: 3, vchannels: 4 },
  ...{ transactions: 5, throttle: 'slow' },
}
const frame: consume.WireFrame = {
  ...{ kind: 'records', baseLsn: 5, baseTimeTick: 9n, bodyHash: 1n, nodeHash: 2n, recordCount: 8, headLength: 64 },
  ...{ nodeLength: 8, bodyLength: 256, gap: null, part: null, sections: [0, 2, 5] },
}
const gap: consume.WireFrame = {
  ...frame,
  ...{ kind: 'gap', recordCount: 0, headLength: 0, nodeLength: 0, bodyLength: 0, sections: [] },
  gap: { count: 7, reason: 'lost' },
}
const hello = { name: 'x', versionMin: 2, versionMax: 2, features: 0, bodyBytesMax: 64 }
const welcome = {
  ...{ name: 'n', version: 2, features: 0, bodyBytesMax: 64, recordBytesMax: 64, produceBytesMax: 64 },
  ...{ consumersMax: 8, tickIntervalMs: 10, idleTimeoutMs: 60_000 },
}
const range = { firstLsn: 1, lastLsn: 4, firstTimeTick: 5n, lastTimeTick: 8n }
const part: consume.WireFrame = {
  ...frame,
  kind: 'part',
  part: { transaction: 3, commitLsn: 14, commitTick: 20n, last: true },
}
const repeated = [
  { row: 0, lsn: 2, timeTick: 3n },
  { row: 3, lsn: 1, timeTick: 2n },
]
const transaction: wal.WireTransaction = {
  ...{ transaction: 7, group: 1, vchannel: 'orders', state: 'open', bodies: 4, bytes: 99 },
  ...{ ageMs: 5, leftMs: 9_995, keepaliveMs: 10_000 },
}
const producer: wal.WireProducer = {
  ...{ id: 'loader-7', vchannel: 'orders', group: 1, producer: 5, epoch: 2, lastSequence: 2 ** 40, lastLsn: 8 },
  lastTimeTick: 1n << 60n,
}

function produceMeta(): Buffer {
  const message = Buffer.alloc(produce.PRODUCE_BODY_AT + 64)
  const fields = { group: 1, producer: 2, generation: 3, recordCount: 4, bodyHash: 5n, barrierTick: 6n }
  const more = { firstTriedAt: 7n, transactionIndex: 8 }
  produce.writeProduce(message, 7, { ...fields, ...more })
  return message.subarray(MESSAGE_HEADER_BYTES, produce.PRODUCE_BODY_AT)
}

/** The hashes of header and meta of each message in turn. */
function mendMessages(bytes: Buffer): Buffer {
  for (let at = 0; at + MESSAGE_HEADER_BYTES <= bytes.length; ) {
    const metaLength = bytes.readUInt32LE(at + 20)
    const metaEnd = at + MESSAGE_HEADER_BYTES + metaLength
    if (metaLength > 0 && metaEnd <= bytes.length) {
      bytes.writeBigUInt64LE(hash64(bytes.subarray(at + MESSAGE_HEADER_BYTES, metaEnd)), at + 32)
    }
    bytes.writeBigUInt64LE(hash64(bytes.subarray(at + 8, at + MESSAGE_HEADER_BYTES)), at)
    at = metaEnd + bytes.readUInt32LE(at + 24)
  }
  return bytes
}

function parse(bytes: Buffer, pieceBytes: number): void {
  let metas = 0
  const parser = new MessageParser(1024 * 1024, ({ meta, body }) => {
    metas += meta.length + body.length
    return true
  })
  for (let at = 0; at < bytes.length; at += pieceBytes) parser.push(Buffer.from(bytes.subarray(at, at + pieceBytes)))
  expect(metas).toBeLessThanOrEqual(bytes.length)
}

const messages = Buffer.concat([
  encodeMessage(MessageType.hello, 1, control.encodeHello(hello)),
  encodeMessage(MessageType.produce, 2, produceMeta(), 64),
  Buffer.alloc(64, 7),
  consume.encodeTick({ groups: [{ group: 1, timeTick: 2n }], others: 0n, leftOut: [3] }),
])
/** The first bytes of a message take a buffer of up to 1 MiB; a million of what a header promises is the bound here. */
const parserBytesMax = 3 * 1024 * 1024

const targets: Record<string, HostileTarget> = {
  messages: {
    sound: [messages, encodeMessage(MessageType.list, 9, control.encodeList({ after: 'a', limit: 5 }))],
    mend: mendMessages,
    decode: (bytes) => parse(bytes, bytes.length),
    bytesMax: parserBytesMax,
  },
  'messages in pieces': {
    sound: [messages],
    mend: mendMessages,
    decode: (bytes) => parse(bytes, 7),
    bytesMax: parserBytesMax,
  },
  'control map': {
    sound: [
      encodeControl({ a: 1, b: 'two', c: [1, { d: null }], e: new Uint8Array(9), f: 1n << 62n }),
      control.encodeHello(hello),
    ],
    decode: decodeControl,
  },
  HELLO: { sound: [control.encodeHello(hello), control.encodeWelcome(welcome)], decode: control.decodeHello },
  WELCOME: { sound: [control.encodeWelcome(welcome), control.encodeHello(hello)], decode: control.decodeWelcome },
  GOODBYE: {
    sound: [control.encodeGoodbye({ code: 'SLOW_CONNECTION', message: 'too slow', received: 3 })],
    decode: control.decodeGoodbye,
  },
  RESOLVE: { sound: [control.encodeResolve({ vchannel: 'orders', create: true })], decode: control.decodeResolve },
  RESOLVED: { sound: [control.encodeResolved(vchannel)], decode: control.decodeResolved },
  LIST: { sound: [control.encodeList({ after: 'a', limit: 10 })], decode: control.decodeList },
  LISTED: {
    sound: [control.encodeListed({ vchannels: [vchannel, { ...vchannel, name: 'users' }], more: true })],
    decode: control.decodeListed,
  },
  TRUNCATE: { sound: [control.encodeTruncate({ vchannel: 'orders', lsn: 2 ** 40 })], decode: control.decodeTruncate },
  TRUNCATED: { sound: [control.encodeTruncated(2 ** 40)], decode: control.decodeTruncated },
  STATUS: { sound: [control.encodeStatus(4)], decode: control.decodeStatus },
  STATUS_IS: {
    sound: [control.encodeStatusIs({ groups: [status, { ...status, group: 2 }], more: false, space: null })],
    decode: control.decodeStatusIs,
  },
  CONSUME: {
    sound: [
      control.encodeConsume({
        group: 1,
        vchannels: ['a', 'b'],
        from: { timeTick: 5n },
        bytes: 1,
        frames: 2,
        types: [3],
        ticksEveryMs: 250,
      }),
      control.encodeConsume({ group: 1, vchannels: ['a'], from: 'earliest', bytes: 9, frames: 2, until: 'end' }),
    ],
    decode: control.decodeConsume,
  },
  ERROR: {
    sound: [encodeControl(errorToWire(new TidelogError('INVALID_ARGUMENT', 'no', { lsn: 3, outcome: 'not-written' })))],
    decode: (bytes) => errorFromWire(ControlFields.decode('ERROR', bytes)),
  },
  PRODUCE: { sound: [produceMeta()], decode: produce.decodeProduce },
  PRODUCED: {
    sound: [
      metaOf(produce.encodeProduced(1, range)),
      metaOf(produce.encodeProduced(1, { ...range, duplicate: true, duplicates: repeated })),
    ],
    decode: (bytes) => {
      const { duplicates } = produce.decodeProduced(bytes)
      expect(duplicates.length * 24).toBeLessThanOrEqual(bytes.length)
    },
  },
  FRAME: {
    sound: [
      metaOf(consume.encodeFrame(1, frame, 256)),
      metaOf(consume.encodeFrame(1, gap, 0)),
      metaOf(consume.encodeFrame(1, part, 256)),
    ],
    decode: (bytes) => {
      const { sections, recordCount, headLength, nodeLength } = consume.decodeFrame(bytes, 256)
      expect(headLength + nodeLength).toBeLessThanOrEqual(256)
      for (const section of sections) expect(section).toBeLessThan(recordCount)
    },
  },
  CREDIT: { sound: [metaOf(consume.encodeCredit(1, { bytes: 2 ** 40, frames: 3 }))], decode: consume.decodeCredit },
  CAUGHT_UP: { sound: [metaOf(consume.encodeCaughtUp(1, { lsn: 8, timeTick: 9n }))], decode: consume.decodeCaughtUp },
  TICK: {
    sound: [metaOf(consume.encodeTick({ groups: [{ group: 1, timeTick: 2n }], others: 4n, leftOut: [3, 4, 5] }))],
    decode: consume.decodeTick,
  },
  CONFIRM: {
    sound: [wal.encodeConfirm({ group: 1, atLeast: 1n << 60n, waitMs: 500 })],
    decode: wal.decodeConfirm,
  },
  CONFIRMED: { sound: [wal.encodeConfirmed(1n << 60n)], decode: wal.decodeConfirmed },
  TXN_BEGIN: {
    sound: [wal.encodeTxnBegin({ vchannel: 'orders', keepaliveMs: 10_000 })],
    decode: wal.decodeTxnBegin,
  },
  TXN_BEGUN: {
    sound: [wal.encodeTxnBegun({ transaction: 7, group: 1, keepaliveMs: 10_000, timeTick: 1n << 60n })],
    decode: wal.decodeTxnBegun,
  },
  TXN_END: {
    sound: [wal.encodeTxnEnd({ group: 1, transaction: 7, commit: true, bodies: 4 })],
    decode: wal.decodeTxnEnd,
  },
  TXN_ENDED: { sound: [wal.encodeTxnEnded({ lsn: 12, timeTick: 1n << 60n })], decode: wal.decodeTxnEnded },
  TXN_LIST: { sound: [wal.encodeTxnList(4)], decode: wal.decodeTxnList },
  TXN_LISTED: {
    sound: [wal.encodeTxnListed({ transactions: [transaction, { ...transaction, transaction: 8 }], more: true })],
    decode: wal.decodeTxnListed,
  },
  PRODUCER_OPEN: {
    sound: [
      wal.encodeProducerOpen({ vchannel: 'orders', id: 'loader-7' }),
      wal.encodeProducerOpen({ vchannel: 'orders', id: 'loader-7', epoch: 3 }),
    ],
    decode: wal.decodeProducerOpen,
  },
  PRODUCER_OPENED: {
    sound: [wal.encodeProducerOpened({ producer: 5, group: 1, epoch: 2, lastSequence: 9, windowLost: false })],
    decode: wal.decodeProducerOpened,
  },
  PRODUCER_LIST: { sound: [wal.encodeProducerList(4)], decode: wal.decodeProducerList },
  PRODUCER_LISTED: {
    sound: [wal.encodeProducerListed({ producers: [producer, { ...producer, id: 'other' }], more: false })],
    decode: wal.decodeProducerListed,
  },
  THROTTLE: {
    sound: [wal.encodeThrottle({ group: 1, state: 'refusing', bytesPerSecond: 2 ** 30 })],
    decode: wal.decodeThrottle,
  },
}

const isViolation = (error: unknown) =>
  error instanceof TidelogError && (error as TidelogError<string>).code === 'PROTOCOL_VIOLATION'

describe('hostile messages', () => {
  const runs = budget({ small: 600, ci: 10_000, soak: 3_000_000 })

  it.each(Object.entries(targets))('%s: changed bytes and noise are refused or lie in bounds', async (name, target) => {
    const { inputs, accepted } = await survive(name, target, isViolation, runs)
    expect(inputs).toBeGreaterThan(0)
    if (inputs === runs) expect(accepted).toBeGreaterThan(0)
  })
})
