import { describe, expect, test } from 'vitest'
import { headerFromJson } from '../../src/cli/header-json.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/cli/record-envelope.ts'
import { decodeHeader, encodeHeader } from '../../src/message/message-header.ts'
import { MessageType } from '../../src/message/message-type.ts'

const header = {
  collection_id: 2n ** 62n + 1n,
  partitions: [{ partition_id: 7, rows: 2n ** 63n, binary_size: 12, segment_assignment: { segment_id: 3 } }],
}

describe('a typed header in JSON', () => {
  test('comes back exactly, 64-bit numbers too', () => {
    const stored = decodeHeader(MessageType.insert, encodeHeader(MessageType.insert, header))!
    const line = encodeEnvelope({
      vchannel: 'a',
      lsn: 1,
      timeTick: 2n,
      type: MessageType.insert,
      properties: {},
      payload: Buffer.from('x'),
      header: stored,
      transaction: 5,
      position: { lsn: 9, skip: 1 },
    })
    expect(JSON.parse(line)).toMatchObject({
      header: { collection_id: '4611686018427387905' },
      transaction: 5,
      position: { lsn: 9, skip: 1 },
    })
    const read = decodeEnvelope(Buffer.from(line))
    expect(decodeHeader(MessageType.insert, encodeHeader(MessageType.insert, read.header!))).toEqual(stored)
  })

  test('of a type without one stays as it is', () => {
    expect(headerFromJson(40_000, { a: '1' })).toEqual({ a: '1' })
  })

  test('wants its type beside it', () => {
    expect(() => decodeEnvelope(Buffer.from('{"payload":"x","header":{}}'))).toThrow('stands without "type"')
    expect(() => decodeEnvelope(Buffer.from('{"payload":"x","type":2,"header":[]}'))).toThrow('an object of fields')
  })
})
