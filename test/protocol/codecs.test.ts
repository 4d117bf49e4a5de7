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

describe('round trips', () => {
  it('of binary metas', () => {
    const wireFrame = fc
      .record({ baseLsn: lsn, baseTimeTick: u64, bodyHash: u64, nodeHash: u64, bodyLength: u32 })
      .chain((fixed) =>
        fc
          .record({
            recordCount: fc.integer({ min: 1, max: 65_536 }),
            headLength: fc.integer({ min: 1, max: 1000 }).map((eighths) => eighths * 8),
            nodeLength: fc.integer({ min: 0, max: 100 }).map((eighths) => eighths * 8),
            sections: fc.uniqueArray(fc.nat(500), { maxLength: 50 }),
          })
          .map((rest) => ({
            ...fixed,
            ...rest,
            kind: 'records' as const,
            gap: null,
            sections: rest.sections.filter((each) => each < rest.recordCount).sort((a, b) => a - b),
          })),
      )
    fc.assert(
      fc.property(wireFrame, u32, (frame, id) => {
        const bodyLength = frame.headLength + frame.nodeLength + 80
        const message = consume.encodeFrame(id, frame, bodyLength)
        expect(consume.decodeFrame(metaOf(message), bodyLength)).toEqual(frame)
        expect(consume.frameMessageBytes(frame.sections.length, bodyLength)).toBe(message.length + bodyLength)
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
        (groups, leftOut) => {
          expect(consume.decodeTick(metaOf(consume.encodeTick({ groups, leftOut })))).toEqual({ groups, leftOut })
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
        expect(produce.decodeProduced(metaOf(produce.encodeProduced(1, range)))).toEqual(range)
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

describe('golden bytes of protocol version 1', () => {
  it('are what is written', () => {
    const hello = control.encodeHello({ name: 'x', versionMin: 1, versionMax: 1, features: 0, bodyBytesMax: 64 })
    expect(hello.toString('hex')).toBe(
      '85a46e616d65a178aa76657273696f6e4d696e01aa76657273696f6e4d617801a8666561747572657300ac626f647942797465734d617840',
    )
    expect(encodeMessage(MessageType.consumeStop, 5).toString('hex')).toBe(
      '850369f626f63ff754444c5001360000050000000000000000000000000000000000000000000000',
    )
    const tick = consume.encodeTick({ groups: [{ group: 2, timeTick: 0x0102_0304_0506_0708n }], leftOut: [4] })
    expect(tick.toString('hex')).toBe(
      'd7a8607ec72ce90754444c500135000000000000200000000000000000000000fec759d1159e628b' +
        '0100000001000000020000000000000008070605040302010400000000000000',
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
