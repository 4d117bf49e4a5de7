import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import { formatAddress, parseAddress } from '../../src/protocol/address.ts'
import * as consume from '../../src/protocol/consume-messages.ts'
import { type ControlValue, decodeControl } from '../../src/protocol/control-codec.ts'
import * as control from '../../src/protocol/control-messages.ts'
import { decodeHeader, encodeMessage, type Message, MessageType } from '../../src/protocol/message.ts'
import { MessageParser } from '../../src/protocol/message-parser.ts'
import * as produce from '../../src/protocol/produce-messages.ts'
import * as wal from '../../src/protocol/wal-messages.ts'
import { budget } from '../budget.ts'

beforeAll(loadChecksum)

const runs = { numRuns: budget({ small: 200, ci: 5_000 }) }
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const lsn = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })
const name = fc.string({ maxLength: 40 })

const metaOf = (message: Buffer) => message.subarray(40)

function parse(bytes: Buffer, cuts: readonly number[] = []): Message[] {
  const messages: Message[] = []
  const parser = new MessageParser(
    1024 * 1024,
    (message) => messages.push({ ...message, meta: Buffer.from(message.meta) }) > 0,
  )
  let at = 0
  for (const cut of [...cuts.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    if (cut > at) parser.push(Buffer.from(bytes.subarray(at, cut)))
    at = Math.max(at, cut)
  }
  return messages
}

const walDecoders: ((bytes: Buffer) => unknown)[] = [
  wal.decodeConfirm,
  wal.decodeConfirmed,
  wal.decodeTxnBegin,
  wal.decodeTxnBegun,
  wal.decodeTxnEnd,
  wal.decodeTxnEnded,
  wal.decodeTxnList,
  wal.decodeTxnListed,
  wal.decodeProducerOpen,
  wal.decodeProducerOpened,
  wal.decodeProducerList,
  wal.decodeProducerListed,
  wal.decodeThrottle,
]

describe('round trips', () => {
  it('of binary metas', () => {
    const part = fc.option(
      fc
        .record({ transaction: fc.nat(2 ** 31 - 1), behind: fc.integer({ min: 1, max: 2 ** 50 }) })
        .chain(({ transaction, behind }) =>
          fc.record({
            transaction: fc.constant(transaction),
            commitLsn: fc.constant(transaction + behind),
            commitTick: u64,
            last: fc.boolean(),
          }),
        ),
    )
    const wireFrame = fc
      .record({ baseLsn: lsn, baseTimeTick: u64, bodyHash: u64, nodeHash: u64, bodyLength: u32 })
      .chain((fixed) =>
        fc
          .record({
            recordCount: fc.integer({ min: 1, max: 65_536 }),
            headLength: fc.integer({ min: 1, max: 1000 }).map((eighths) => eighths * 8),
            nodeLength: fc.integer({ min: 0, max: 100 }).map((eighths) => eighths * 8),
            sections: fc.uniqueArray(fc.nat(500), { maxLength: 50 }),
            part,
          })
          .map((rest) => ({
            ...fixed,
            ...rest,
            kind: rest.part === null ? ('records' as const) : ('part' as const),
            gap: null,
            sections: rest.sections.filter((each) => each < rest.recordCount).sort((a, b) => a - b),
          })),
      )
    fc.assert(
      fc.property(wireFrame, u32, (frame, id) => {
        const bodyLength = frame.headLength + frame.nodeLength + 80
        const message = consume.encodeFrame(id, frame, bodyLength)
        expect(consume.decodeFrame(metaOf(message), bodyLength)).toEqual(frame)
        const messageBytes = consume.frameMessageBytes(frame.sections.length, bodyLength, frame.part !== null)
        expect(messageBytes).toBe(message.length + bodyLength)
      }),
      runs,
    )
    fc.assert(
      fc.property(
        lsn,
        u64,
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.constantFrom(...consume.gapReasons),
        (baseLsn, tick, count, reason) => {
          const gap: consume.WireFrame = {
            kind: 'gap',
            baseLsn,
            baseTimeTick: tick,
            bodyHash: 0n,
            nodeHash: 0n,
            recordCount: 0,
            headLength: 0,
            nodeLength: 0,
            bodyLength: 0,
            gap: { count, reason },
            part: null,
            sections: [],
          }
          expect(consume.decodeFrame(metaOf(consume.encodeFrame(1, gap, 0)), 0)).toEqual(gap)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(
        fc.array(fc.record({ group: u32, timeTick: u64 }), { maxLength: 9 }),
        fc.array(u32, { maxLength: 9 }),
        u64,
        (groups, leftOut, others) => {
          const tick = { groups, others, leftOut }
          expect(consume.decodeTick(metaOf(consume.encodeTick(tick)))).toEqual(tick)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(lsn, u32, u64, (bytes, frames, timeTick) => {
        expect(consume.decodeCredit(metaOf(consume.encodeCredit(1, { bytes, frames })))).toEqual({ bytes, frames })
        expect(consume.decodeCaughtUp(metaOf(consume.encodeCaughtUp(1, { lsn: bytes, timeTick })))).toEqual({
          lsn: bytes,
          timeTick,
        })
        const range = { firstLsn: bytes, lastLsn: bytes, firstTimeTick: timeTick, lastTimeTick: timeTick }
        const plain = { ...range, duplicate: false, duplicates: [] }
        expect(produce.decodeProduced(metaOf(produce.encodeProduced(1, range)))).toEqual(plain)
      }),
      runs,
    )
    const repeated = fc.uniqueArray(fc.record({ row: fc.nat(65_535), lsn, timeTick: u64 }), {
      selector: ({ row }) => row,
      maxLength: 40,
    })
    fc.assert(
      fc.property(repeated, fc.boolean(), lsn, u64, (rows, duplicate, last, lastTimeTick) => {
        const duplicates = rows.sort((one, other) => one.row - other.row)
        const produced = { firstLsn: 1, lastLsn: last, firstTimeTick: 2n, lastTimeTick, duplicate, duplicates }
        expect(produce.decodeProduced(metaOf(produce.encodeProduced(1, produced)))).toEqual(produced)
      }),
      runs,
    )
    fc.assert(
      fc.property(
        fc.record({
          group: u32,
          producer: u32,
          generation: fc.integer({ min: 1, max: 0xffff_ffff }),
          bodyHash: u64,
          barrierTick: u64,
          firstTriedAt: u64,
          transactionIndex: lsn,
          recordCount: fc.integer({ min: 1, max: 65_536 }),
        }),
        (fields) => {
          const message = Buffer.alloc(produce.PRODUCE_BODY_AT + 64)
          produce.writeProduce(message, 7, fields)
          expect(produce.decodeProduce(message.subarray(40, 88))).toEqual(fields)
          expect(decodeHeader(message, 0, 64)).toMatchObject({ requestId: 7, bodyLength: 64, metaLength: 48 })
        },
      ),
      runs,
    )
  })

  it('of control metas', () => {
    const vchannel = fc.record({ name, group: u32, createdMs: lsn })
    fc.assert(
      fc.property(fc.array(vchannel, { maxLength: 20 }), fc.boolean(), (vchannels, more) => {
        expect(control.decodeListed(control.encodeListed({ vchannels, more }))).toEqual({ vchannels, more })
      }),
      runs,
    )
    const from = fc.oneof(
      fc.constantFrom('earliest' as const, 'latest' as const),
      fc.record({ lsn }),
      fc.record({ timeTick: u64 }),
    )
    fc.assert(
      fc.property(
        fc.record(
          {
            group: u32,
            vchannels: fc.array(name, { minLength: 1, maxLength: 5 }),
            from,
            bytes: lsn,
            frames: u32,
            types: fc.array(fc.integer({ min: 0, max: 65_535 }), { maxLength: 5 }),
            until: fc.oneof(fc.constant('end' as const), lsn),
            ticksEveryMs: fc.nat(86_400_000),
          },
          { requiredKeys: ['group', 'vchannels', 'from', 'bytes', 'frames'] },
        ),
        (request) => {
          expect(control.decodeConsume(control.encodeConsume(request))).toEqual(request)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(lsn, u64, (number, watermark) => {
        const group: control.WireGroupStatus = {
          group: 1,
          name: 'p1',
          state: 'stalled',
          message: 'slow',
          ownerTerm: 1,
          firstLsn: 0,
          nextLsn: number,
          watermark,
          bytes: number,
          segments: 3,
          vchannels: 4,
          transactions: 5,
          throttle: 'slow',
        }
        for (const space of [
          null,
          { state: 'refusing', message: 'full', usedBytes: 9, freeBytes: null, refusals: 2 },
        ]) {
          const status = { groups: [group], more: false, space } as control.StatusIs
          expect(control.decodeStatusIs(control.encodeStatusIs(status))).toEqual(status)
        }
      }),
      runs,
    )
  })

  it('of the metas of transactions, producers and throttling', () => {
    const ms = fc.integer({ min: 1, max: 3_600_000 })
    const epoch = fc.integer({ min: 1, max: 0xffff_ffff })
    fc.assert(
      fc.property(
        u32,
        lsn,
        u64,
        name,
        ms,
        epoch,
        fc.boolean(),
        (group, at, timeTick, vchannel, keepaliveMs, n, yes) => {
          const confirm = { group, atLeast: timeTick, waitMs: 60_000 }
          expect(wal.decodeConfirm(wal.encodeConfirm(confirm))).toEqual(confirm)
          expect(wal.decodeConfirmed(wal.encodeConfirmed(timeTick))).toBe(timeTick)
          expect(wal.decodeTxnBegin(wal.encodeTxnBegin({ vchannel, keepaliveMs }))).toEqual({ vchannel, keepaliveMs })
          const begun = { transaction: at, group, keepaliveMs, timeTick }
          expect(wal.decodeTxnBegun(wal.encodeTxnBegun(begun))).toEqual(begun)
          const end = { group, transaction: at, commit: yes, bodies: n }
          expect(wal.decodeTxnEnd(wal.encodeTxnEnd(end))).toEqual(end)
          expect(wal.decodeTxnEnded(wal.encodeTxnEnded({ lsn: at, timeTick }))).toEqual({ lsn: at, timeTick })
          expect(wal.decodeTxnList(wal.encodeTxnList(group))).toBe(group)
          const transaction: wal.WireTransaction = {
            ...{ transaction: at, group, vchannel, state: yes ? 'open' : 'rolling-back', bodies: n, bytes: at },
            ...{ ageMs: 3, leftMs: 0, keepaliveMs },
          }
          const transactions = { transactions: [transaction], more: yes }
          expect(wal.decodeTxnListed(wal.encodeTxnListed(transactions))).toEqual(transactions)
          const open = yes ? { vchannel, id: vchannel } : { vchannel, id: vchannel, epoch: n }
          expect(wal.decodeProducerOpen(wal.encodeProducerOpen(open))).toEqual(open)
          const opened = { producer: at, group, epoch: n, lastSequence: at, windowLost: yes }
          expect(wal.decodeProducerOpened(wal.encodeProducerOpened(opened))).toEqual(opened)
          expect(wal.decodeProducerList(wal.encodeProducerList(group))).toBe(group)
          const producer = { id: vchannel, vchannel, group, producer: at, epoch: n, lastSequence: at, lastLsn: at }
          const producers = { producers: [{ ...producer, lastTimeTick: timeTick }], more: yes }
          expect(wal.decodeProducerListed(wal.encodeProducerListed(producers))).toEqual(producers)
          const throttle: wal.Throttle = { group, state: yes ? 'slow' : 'refusing', bytesPerSecond: at }
          expect(wal.decodeThrottle(wal.encodeThrottle(throttle))).toEqual(throttle)
        },
      ),
      runs,
    )
  })

  it('of messages, cut anywhere', () => {
    const message = fc.record({ id: u32, meta: fc.uint8Array({ maxLength: 200 }), eighths: fc.nat(200) })
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(5000), { maxLength: 12 }),
        (messages, cuts) => {
          const bytes = Buffer.concat(
            messages.flatMap(({ id, meta, eighths }) => [
              encodeMessage(MessageType.produce, id, Buffer.from(meta), eighths * 8),
              Buffer.alloc(eighths * 8, id & 0xff),
            ]),
          )
          const parsed = parse(bytes, cuts)
          expect(parsed.map(({ requestId, meta, body }) => [requestId, [...meta], body.length])).toEqual(
            messages.map(({ id, meta, eighths }) => [id, [...meta], eighths * 8]),
          )
          for (const [index, { body }] of parsed.entries()) {
            expect(body.every((byte) => byte === (messages[index]!.id & 0xff))).toBe(true)
          }
        },
      ),
      runs,
    )
  })
})

describe('golden bytes of protocol version 2', () => {
  it('are what is written', () => {
    const hello = control.encodeHello({ name: 'x', versionMin: 2, versionMax: 2, features: 0, bodyBytesMax: 64 })
    expect(hello.toString('hex')).toBe(
      '85a46e616d65a178aa76657273696f6e4d696e02aa76657273696f6e4d617802a8666561747572657300ac626f647942797465734d617840',
    )
    expect(encodeMessage(MessageType.consumeStop, 5).toString('hex')).toBe(
      '850369f626f63ff754444c5001360000050000000000000000000000000000000000000000000000',
    )
    const tick = consume.encodeTick({
      groups: [{ group: 2, timeTick: 0x0102_0304_0506_0708n }],
      others: 9n,
      leftOut: [4],
    })
    expect(tick.toString('hex')).toBe(
      '429b9330e89d9f1b54444c500135000000000000280000000000000000000000856bc56cf24fc7aa' +
        '01000000010000000900000000000000020000000000000008070605040302010400000000000000',
    )
  })

  it('of the forms that version 2 brought are what is written', () => {
    const frame: consume.WireFrame = {
      ...{ kind: 'part', baseLsn: 5, baseTimeTick: 9n, bodyHash: 1n, nodeHash: 0n, recordCount: 2, headLength: 64 },
      ...{ nodeLength: 0, bodyLength: 96, gap: null, sections: [0] },
      part: { transaction: 3, commitLsn: 8, commitTick: 12n, last: true },
    }
    expect(metaOf(consume.encodeFrame(1, frame, 96)).toString('hex')).toBe(
      '0500000000000000' +
        '0900000000000000' +
        '0100000000000000' +
        '0000000000000000' +
        '0200000040000000' +
        '0000000060000000' +
        '0200010001000000' +
        '0000000000000000' +
        '0300000000000000' +
        '0800000000000000' +
        '0c00000000000000' +
        '0000000000000000',
    )
    const produced = {
      ...{ firstLsn: 1, lastLsn: 2, firstTimeTick: 3n, lastTimeTick: 4n, duplicate: true },
      duplicates: [{ row: 1, lsn: 5, timeTick: 6n }],
    }
    expect(metaOf(produce.encodeProduced(1, produced)).toString('hex')).toBe(
      '0100000000000000' +
        '0200000000000000' +
        '0300000000000000' +
        '0400000000000000' +
        '0100000001000000' +
        '0100000000000000' +
        '0500000000000000' +
        '0600000000000000',
    )
    const message = Buffer.alloc(produce.PRODUCE_BODY_AT)
    produce.writeProduce(message, 7, {
      ...{ group: 1, producer: 2, generation: 3, recordCount: 4, bodyHash: 5n, barrierTick: 6n },
      ...{ firstTriedAt: 7n, transactionIndex: 8 },
    })
    expect(metaOf(message).toString('hex')).toBe(
      '0100000002000000' +
        '0300000004000000' +
        '0500000000000000' +
        '0600000000000000' +
        '0700000000000000' +
        '0800000000000000',
    )
    expect(wal.encodeThrottle({ group: 2, state: 'slow', bytesPerSecond: 1_000 }).toString('hex')).toBe(
      '83a567726f757002a57374617465a4736c6f77ae62797465735065725365636f6e64cd03e8',
    )
    expect(wal.encodeTxnEnd({ group: 2, transaction: 9, commit: true, bodies: 3 }).toString('hex')).toBe(
      '84a567726f757002ab7472616e73616374696f6e09a6636f6d6d6974c3a6626f6469657303',
    )
  })

  it('are those of the example in the protocol page', async () => {
    const page = await readFile(new URL('../../docs/PROTOCOL.md', import.meta.url), 'utf8')
    const example = /```hex\n([\s\S]*?)```/.exec(page)![1]!
    const hex = example
      .split('\n')
      .map((line) => line.split('   ')[0]!.split('  ')[0]!.replaceAll(' ', ''))
      .join('')
    const credit = { bytes: 4_294_967_298, frames: 3 }
    expect(consume.encodeCredit(9, credit).toString('hex')).toBe(hex)
    const [message] = parse(Buffer.from(hex, 'hex'))
    expect(message).toMatchObject({ type: MessageType.credit, requestId: 9 })
    expect(consume.decodeCredit(message!.meta)).toEqual(credit)
  })
})

describe('decoders', () => {
  const refusesAll = (decode: (bytes: Buffer) => unknown, bytes: Buffer) => {
    try {
      decode(bytes)
    } catch (error) {
      expect(error).toBeInstanceOf(TidelogError)
      expect((error as TidelogError<string>).code).toBe('PROTOCOL_VIOLATION')
    }
  }

  it('answer noise with PROTOCOL_VIOLATION or a value, never with anything else', () => {
    const decoders: ((bytes: Buffer) => unknown)[] = [
      decodeControl,
      control.decodeHello,
      control.decodeWelcome,
      control.decodeListed,
      control.decodeStatusIs,
      control.decodeConsume,
      control.decodeConsuming,
      consume.decodeTick,
      consume.decodeCredit,
      consume.decodeCaughtUp,
      (bytes) => consume.decodeFrame(bytes, 64),
      produce.decodeProduce,
      produce.decodeProduced,
      ...walDecoders,
      (bytes) => parse(bytes),
    ]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        for (const decode of decoders) refusesAll(decode, Buffer.from(bytes))
      }),
      runs,
    )
    const good = control.encodeConsume({ group: 1, vchannels: ['a', 'b'], from: { timeTick: 5n }, bytes: 1, frames: 2 })
    fc.assert(
      fc.property(fc.array(fc.nat(good.length * 8 - 1), { minLength: 1, maxLength: 4 }), (bits) => {
        const spoiled = Buffer.from(good)
        for (const bit of bits) spoiled[bit >> 3]! ^= 1 << (bit & 7)
        refusesAll(control.decodeConsume, spoiled)
      }),
      runs,
    )
  })

  it('keep what they are given apart from the prototype', () => {
    const spoiled = Buffer.concat([
      Buffer.from([0x81, 0xa9]),
      Buffer.from('__proto__'),
      Buffer.from([0x81, 0xa1, 0x78, 0x01]),
    ])
    const map = decodeControl(spoiled) as Record<string, ControlValue>
    expect(({} as Record<string, unknown>).x).toBeUndefined()
    expect(Object.getPrototypeOf(map)).toBe(Object.prototype)
  })
})

describe('the parser', () => {
  it('holds no more than came, whatever a header promises', () => {
    const parser = new MessageParser(512 * 1024 * 1024, () => true)
    const header = encodeMessage(MessageType.produce, 1, Buffer.alloc(48), 256 * 1024 * 1024)
    for (const byte of header) parser.push(Buffer.from([byte]))
    for (let index = 0; index < 1000; index++) parser.push(Buffer.alloc(1))
    expect(parser.heldBytes).toBeLessThanOrEqual(1024 * 1024)
    expect(parser.expectedBytes).toBe(header.length + 256 * 1024 * 1024)
    for (let index = 0; index < 100; index++) parser.push(Buffer.alloc(64 * 1024))
    expect(parser.heldBytes).toBeLessThanOrEqual(2 * 101 * 64 * 1024)
  })

  it('looks at nothing behind the message at which it was stopped', () => {
    let count = 0
    const parser = new MessageParser(64, () => {
      count++
      return false
    })
    parser.push(
      Buffer.concat([encodeMessage(MessageType.consumeStop, 1), Buffer.from('rubbish that is no message at all')]),
    )
    parser.push(Buffer.from('more of it'))
    expect(count).toBe(1)
    expect(parser.heldBytes).toBe(0)
  })
})

describe('addresses', () => {
  it('are parsed and printed', () => {
    for (const address of [
      'tcp://127.0.0.1:7420',
      'tcp://[::1]:1',
      'tcp://localhost:65535',
      'unix:/run/t.sock',
      'unix:./t',
    ]) {
      expect(formatAddress(parseAddress(address))).toBe(address)
    }
    expect(parseAddress('tcp://localhost')).toEqual({ kind: 'tcp', host: 'localhost', port: 7420 })
    expect(parseAddress('unix:///run/t.sock')).toEqual({ kind: 'unix', path: '/run/t.sock' })
    for (const address of [
      '',
      'localhost:1',
      'http://a:1',
      'tcp://',
      'tcp://a:0',
      'tcp://a:65536',
      'tcp://a b:1',
      'unix:',
    ]) {
      expect(() => parseAddress(address)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })
})
