import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { decodeNodeSection, encodeNodeSection } from '../../../native-free-storage/format/node-section.ts'
import { u16 } from './arbitraries.ts'

beforeAll(loadChecksum)

const section = fc.integer({ min: 1, max: 70 }).chain((recordCount) =>
  fc.record({
    recordCount: fc.constant(recordCount),
    stamps: fc.uniqueArray(
      fc.record({ record: fc.nat(recordCount - 1), key: u16, value: fc.uint8Array({ maxLength: 20 }) }),
      { maxLength: 8, selector: ({ record, key }) => `${record} ${key}` },
    ),
    voids: fc.uniqueArray(fc.nat(recordCount - 1), { maxLength: 8 }),
  }),
)

describe('the node section', () => {
  it('comes back as it was, stamps in order', () => {
    fc.assert(
      fc.property(section, (input) => {
        const bytes = encodeNodeSection(input)
        expect(bytes.length % 8).toBe(0)
        const decoded = decodeNodeSection(bytes, input.recordCount)
        const stamps = decoded.stamps.map((stamp) => ({ ...stamp, value: new Uint8Array(stamp.value) }))
        expect(stamps).toEqual(input.stamps.toSorted((a, b) => a.record - b.record || a.key - b.key))
        expect(decoded.hasVoids).toBe(input.voids.length > 0)
        for (let record = 0; record < input.recordCount; record++) {
          expect(decoded.isVoid(record)).toBe(input.voids.includes(record))
        }
      }),
    )
  })

  it('takes no bytes when there is nothing to say', () => {
    expect(encodeNodeSection({ recordCount: 5, stamps: [], voids: [] }).length).toBe(0)
    expect(decodeNodeSection(new Uint8Array(0), 5).isVoid(3)).toBe(false)
  })

  const value = Buffer.from('abc')
  const input = {
    recordCount: 9,
    stamps: [
      { record: 3, key: 1, value },
      { record: 3, key: 2, value },
    ],
    voids: [8],
  }

  it.each<[string, (bytes: Buffer) => void]>([
    ['a giant count of stamps', (b) => b.writeUInt32LE(0xffff_ffff, 0)],
    ['another count of stamps', (b) => b.writeUInt32LE(1, 0)],
    ['a bitmap for other records', (b) => b.writeUInt32LE(1, 4)],
    ['a stamp of a record that is not there', (b) => b.writeUInt32LE(9, 8)],
    ['stamps out of order', (b) => b.writeUInt16LE(3, 12)],
    ['a stamp that stands twice', (b) => b.writeUInt16LE(2, 12)],
    ['a stamp beyond the end', (b) => b.writeUInt16LE(0xffff, 14)],
    ['padding behind a stamp', (b) => b.writeUInt8(1, 20)],
    ['padding behind the bitmap', (b) => b.writeUInt8(1, 44)],
    ['a void record that is not there', (b) => b.writeUInt8(2, 41)],
  ])('with %s is damaged', (_name, change) => {
    const bytes = encodeNodeSection(input)
    expect(decodeNodeSection(bytes, 9).stamps.length).toBe(2)
    change(bytes)
    expect(() => decodeNodeSection(bytes, 9)).toThrow(expect.objectContaining({ code: 'DAMAGED' }))
  })

  it('does not encode records that are not there, or two stamps of one key', () => {
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
    expect(() => encodeNodeSection({ ...input, voids: [9] })).toThrow(refused)
    expect(() => encodeNodeSection({ ...input, stamps: [{ record: -1, key: 0, value }] })).toThrow(refused)
    expect(() => encodeNodeSection({ ...input, stamps: [...input.stamps, ...input.stamps] })).toThrow(refused)
  })
})
