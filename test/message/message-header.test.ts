import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeHeader, encodeHeader, hasTypedHeader } from '../../src/message/message-header.ts'
import { MessageType } from '../../src/message/message-type.ts'
import { budget } from '../budget.ts'

const invalid = { code: 'INVALID_ARGUMENT' }

describe('a typed header', () => {
  it('comes back as it was', () => {
    const fields = {
      collection_id: 455_000_000_000_000_001n,
      partitions: [{ partition_id: 7, rows: 3, binary_size: 4096, segment_assignment: { segment_id: -1n } }],
    }
    expect(decodeHeader(MessageType.insert, encodeHeader(MessageType.insert, fields))).toEqual({
      ...fields,
      partitions: [{ ...fields.partitions[0], segment_assignment: { segment_id: -1 } }],
    })
  })

  it('holds every number of 64 bits exactly, in one form', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const text = encodeHeader(MessageType.beginTxn, { keepalive_milliseconds: value })
        const back = decodeHeader(MessageType.beginTxn, text)!.keepalive_milliseconds as number | bigint
        expect(BigInt(back)).toBe(value)
        expect(typeof back).toBe(
          Number.isSafeInteger(Number(value)) && BigInt(Number(value)) === value ? 'number' : 'bigint',
        )
      }),
      { numRuns: 200, examples: [[2n ** 53n], [2n ** 53n - 1n], [-(2n ** 53n)], [2n ** 32n], [-(2n ** 31n)]] },
    )
  })

  it('names the field that is wrong', () => {
    expect(() => encodeHeader(MessageType.delete, { collection_id: 'x' })).toThrow(/Delete\.collection_id/)
    expect(() => encodeHeader(MessageType.delete, { rows: -1 })).toThrow(/Delete\.rows/)
    expect(() => encodeHeader(MessageType.delete, { row: 1 })).toThrow(/Delete has no field "row"/)
    expect(() => encodeHeader(MessageType.insert, { partitions: [{ rows: 1.5 }] })).toThrow(/partitions\[0\]\.rows/)
    expect(() => encodeHeader(0, {})).toThrow(expect.objectContaining(invalid))
  })

  it('keeps fields of a later version', () => {
    const later = Buffer.from([0x82, 0xa4, ...Buffer.from('rows'), 2, 0xa1, 0x78, 0x91, 1]).toString('base64')
    expect(decodeHeader(MessageType.delete, later)).toEqual({ rows: 2, x: [1] })
  })

  it('of a type that has none passes through untouched', () => {
    expect(hasTypedHeader(4711)).toBe(false)
    expect(decodeHeader(4711, 'anything at all')).toBeUndefined()
  })

  it('that nobody encoded is refused, and nothing else happens', () => {
    const whole = Buffer.from(
      encodeHeader(MessageType.insert, { collection_id: 2n ** 60n, partitions: [{ rows: 1 }, { rows: 2 }] }),
      'base64',
    )
    const noise = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes))
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length)).map(([at, byte, end]) => {
      const bytes = Buffer.from(whole)
      bytes[at] = byte
      return bytes.subarray(0, end)
    })
    fc.assert(
      fc.property(fc.oneof(noise, mutated), (bytes) => {
        try {
          decodeHeader(MessageType.insert, bytes.toString('base64'))
        } catch (error) {
          expect(error).toMatchObject(invalid)
        }
      }),
      { numRuns: budget({ small: 2_000, ci: 20_000, soak: 1_000_000 }) },
    )
    // A count that nothing backs.
    expect(() => decodeHeader(MessageType.insert, Buffer.from('dfffffffff', 'hex').toString('base64'))).toThrow(
      /cut off/,
    )
    expect(() => decodeHeader(MessageType.insert, 'not base64!')).toThrow(expect.objectContaining(invalid))
  })
})
