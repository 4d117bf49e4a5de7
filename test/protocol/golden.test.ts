/** The bytes of the protocol are those that were agreed upon. */
import { readFile } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import * as consume from '../../src/protocol/consume-messages.ts'
import * as control from '../../src/protocol/control-messages.ts'
import { encodeMessage, MessageType } from '../../src/protocol/message.ts'
import * as produce from '../../src/protocol/produce-messages.ts'
import * as wal from '../../src/protocol/wal-messages.ts'
import { parseMessages } from './parse-messages.ts'

beforeAll(loadChecksum)

const metaOf = (message: Buffer) => message.subarray(40)

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
    const [message] = parseMessages(Buffer.from(hex, 'hex'))
    expect(message).toMatchObject({ type: MessageType.credit, requestId: 9 })
    expect(consume.decodeCredit(message!.meta)).toEqual(credit)
  })
})
