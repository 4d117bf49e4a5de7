import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeEnvelope, EnvelopeError, encodeEnvelope } from '../../src/cli/record-envelope.ts'
import { budget } from '../budget.ts'

const record = { vchannel: 'orders', lsn: 7, timeTick: 2n ** 60n + 1n, type: 2, properties: { k: 'v' } }

describe('the envelope of a record', () => {
  test('text stands in payload, and nothing else is there', () => {
    expect(encodeEnvelope({ ...record, payload: Buffer.from('hé\n"\u0000') })).toBe(
      '{"vchannel":"orders","lsn":7,"timeTick":"1152921504606846977","type":2,"properties":{"k":"v"},"payload":"hé\\n\\"\\u0000"}',
    )
  })

  test('bytes that are not UTF-8 stand in payloadBase64, a null payload is null', () => {
    expect(JSON.parse(encodeEnvelope({ ...record, payload: Buffer.from([0xff, 0x00]) }))).toEqual({
      vchannel: 'orders',
      lsn: 7,
      timeTick: '1152921504606846977',
      type: 2,
      properties: { k: 'v' },
      payloadBase64: '/wA=',
    })
    expect(JSON.parse(encodeEnvelope({ ...record, payload: Buffer.alloc(0), isNull: true }))).toHaveProperty(
      'payload',
      null,
    )
    expect(JSON.parse(encodeEnvelope({ ...record, payload: Buffer.alloc(0) }))).toHaveProperty('payload', '')
  })

  test('whatever is printed is read back byte for byte', () => {
    const text = fc.string({ unit: 'grapheme' })
    const payload = fc.oneof(
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      text.map((value) => Buffer.from(`\uFEFF${value}`)),
    )
    fc.assert(
      fc.property(
        payload,
        fc.dictionary(text, text),
        fc.nat(65_535),
        fc.boolean(),
        (bytes, properties, type, isNull) => {
          const line = encodeEnvelope({
            ...record,
            properties,
            type,
            payload: isNull ? Buffer.alloc(0) : bytes,
            isNull,
          })
          const read = decodeEnvelope(Buffer.from(line))
          expect(read.type).toBe(type)
          expect(Object.entries(read.properties ?? {})).toEqual(Object.entries(properties))
          expect(read.payload === null).toBe(isNull)
          if (read.payload) expect(Buffer.compare(read.payload, bytes)).toBe(0)
        },
      ),
      { numRuns: budget({ small: 200, ci: 5000 }) },
    )
  })

  test.each([
    ['', 'not JSON'],
    ['[]', 'an array'],
    ['3', 'the number 3'],
    ['null', 'null'],
    ['{}', 'neither'],
    ['{"payload":"a","payloadBase64":"YQ=="}', 'both'],
    ['{"payload":1}', 'number'],
    ['{"payload":"\\ud800"}', 'surrogate'],
    ['{"payloadBase64":"@@"}', 'not base64'],
    ['{"payloadBase64":"YQ==YQ=="}', 'not base64'],
    ['{"payload":"a","type":65536}', '"type"'],
    ['{"payload":"a","type":"0"}', '"type"'],
    ['{"payload":"a","properties":[]}', '"properties"'],
    ['{"payload":"a","properties":{"a":1}}', 'property "a"'],
    ['{"payload":"a","properties":{"a":"\\udfff"}}', 'surrogate'],
    ['{"payload":"a","propertys":{}}', 'did you mean "properties"'],
  ])('%s is refused: %s', (line, why) => {
    expect(() => decodeEnvelope(Buffer.from(line))).toThrow(EnvelopeError)
    expect(() => decodeEnvelope(Buffer.from(line))).toThrow(why)
  })

  test('a line that is not UTF-8 is refused, not read with replacement characters', () => {
    expect(() => decodeEnvelope(Buffer.from([0x22, 0xff, 0x22]))).toThrow('not valid UTF-8')
  })
})
