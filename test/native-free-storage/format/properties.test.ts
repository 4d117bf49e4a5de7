import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { decodeContext, encodeContext } from '../../../native-free-storage/format/contexts.ts'
import { decodeProperties, encodeProperties } from '../../../native-free-storage/format/properties.ts'
import { context, properties } from './arbitraries.ts'

beforeAll(loadChecksum)

const damage = expect.objectContaining({ name: 'FormatError', code: 'DAMAGED' })

function property(key: string | Buffer, value: string | Buffer): Buffer {
  const [keyBytes, valueBytes] = [Buffer.from(key as string), Buffer.from(value as string)]
  const lengths = Buffer.alloc(6)
  lengths.writeUInt16LE(keyBytes.length, 0)
  lengths.writeUInt32LE(valueBytes.length, 2)
  return Buffer.concat([lengths, keyBytes, valueBytes])
}

function counted(count: number, ...items: Buffer[]): Buffer {
  return Buffer.concat([Buffer.of(count & 255, count >> 8), ...items])
}

describe('properties', () => {
  it('come back as they were, in their order', () => {
    fc.assert(
      fc.property(properties, (expected) => {
        const decoded = decodeProperties(encodeProperties(expected))
        expect({ ...decoded }).toEqual(expected)
        expect(Object.keys(decoded)).toEqual(Object.keys(expected))
      }),
    )
  })

  it('take no bytes when there are none', () => {
    expect(encodeProperties({}).length).toBe(0)
    expect(decodeProperties(new Uint8Array(0))).toEqual(Object.create(null))
  })

  it('may have any key, also those that objects know already', () => {
    const bytes = counted(2, property('__proto__', 'x'), property('toString', 'y'))
    const decoded = decodeProperties(bytes)
    expect(Object.keys(decoded)).toEqual(['__proto__', 'toString'])
    expect(Object.getPrototypeOf(decoded)).toBeNull()
    expect(encodeProperties(decoded)).toEqual(bytes)
  })

  it.each([
    ['a key that stands twice', counted(2, property('a', '1'), property('a', '2'))],
    ['an empty key that stands twice', counted(2, property('', ''), property('', ''))],
    ['a count of 0', counted(0)],
    ['one byte', Buffer.of(1)],
    ['a higher count', counted(2, property('a', '1'))],
    ['a lower count', counted(1, property('a', '1'), property('b', '2'))],
    ['a key of wrong UTF-8', counted(1, property(Buffer.of(0xc3), '1'))],
    ['a value of wrong UTF-8', counted(1, property('a', Buffer.of(0xed, 0xa0, 0x80)))],
    ['a value beyond the end', counted(1, property('a', '1').subarray(0, 7))],
    ['a giant value', counted(1, Buffer.of(0, 0, 0xff, 0xff, 0xff, 0xff))],
  ])('with %s are damaged', (_name, bytes) => {
    expect(() => decodeProperties(bytes)).toThrow(damage)
  })

  it('refuses a key beyond 65,535 bytes and more than 65,535 of them', () => {
    expect(() => encodeProperties({ ['ä'.repeat(32_768)]: '' })).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' }),
    )
    const many = Object.fromEntries(Array.from({ length: 65_536 }, (_, index) => [`k${index}`, '']))
    expect(() => encodeProperties(many)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  })
})

describe('contexts', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(context, (expected) => {
        expect(decodeContext(encodeContext(expected))).toEqual(expected)
      }),
    )
  })

  it('skip items of unknown types', () => {
    const unknown = Buffer.of(77, 0, 3, 0, 1, 2, 3)
    expect(decodeContext(Buffer.concat([unknown, encodeContext({ transaction: 9n })]))).toEqual({ transaction: 9n })
  })

  it.each([
    ['an item beyond the end', Buffer.of(9, 0, 3, 0, 1, 2)],
    ['half a header', Buffer.of(9, 0, 3)],
    ['a producer of another length', Buffer.of(1, 0, 1, 0, 5)],
    ['a transaction of another length', Buffer.of(2, 0, 1, 0, 5)],
    ['a trace that is not ASCII', Buffer.of(3, 0, 1, 0, 200)],
    ['an empty trace', Buffer.of(3, 0, 0, 0)],
    ['a type that stands twice', Buffer.of(9, 0, 0, 0, 9, 0, 0, 0)],
  ])('with %s are damaged', (_name, bytes) => {
    expect(() => decodeContext(bytes)).toThrow(damage)
  })

  it('refuses a trace that is not ASCII', () => {
    expect(() => encodeContext({ trace: 'ä' })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})
