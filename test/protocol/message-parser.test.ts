import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { encodeMessage, MessageType } from '../../src/protocol/message.ts'
import { MessageParser } from '../../src/protocol/message-parser.ts'
import { budget } from '../budget.ts'
import { parseMessages } from './parse-messages.ts'

beforeAll(loadChecksum)

const runs = { numRuns: budget({ small: 200, ci: 5_000 }) }
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })

describe('the parser', () => {
  it('gives messages as they were sent, wherever their bytes are cut', () => {
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
          const parsed = parseMessages(bytes, cuts)
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
