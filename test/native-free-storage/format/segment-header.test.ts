import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  type SegmentHeader,
} from '../../../native-free-storage/format/segment-header.ts'
import { logId, safe, segmentId, u32, u64 } from './arbitraries.ts'

beforeAll(loadChecksum)

const end = fc.option(fc.record({ id: segmentId, end: safe, chain: u64 }))
const header: fc.Arbitrary<SegmentHeader> = fc.record({
  logId,
  segmentId,
  baseLsn: safe,
  baseTimeTick: u64,
  ownerTerm: u32,
  incarnation: u32,
  salt: u64,
  alignment: fc.constantFrom(512, 1024, 2048, 4096),
  previous: end,
  replaced: end,
  oldestOpenTransaction: fc.option(safe),
  originLogId: fc.option(logId.filter((id) => id !== '0'.repeat(32))),
  forkLsn: safe,
  createdMs: safe,
  preparedBytes: safe,
})

const simple: SegmentHeader = {
  logId: 'ab'.repeat(16),
  segmentId: '00000000000000ff',
  baseLsn: 0,
  baseTimeTick: 0n,
  ownerTerm: 0,
  incarnation: 1,
  salt: 5n,
  alignment: 512,
  previous: null,
  replaced: null,
  oldestOpenTransaction: null,
  originLogId: null,
  forkLsn: 0,
  createdMs: 0,
  preparedBytes: 0,
}

/** The header with a u32 of it changed and its hash made right again. */
function changed(offset: number, value: number): Buffer {
  const { bytes } = encodeSegmentHeader(simple)
  bytes.writeUInt32LE(value, offset)
  bytes.writeBigUInt64LE(hash64(bytes.subarray(8)), 0)
  return bytes
}

describe('the segment header', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(header, (fields) => {
        const { bytes, checksum } = encodeSegmentHeader(fields)
        const { formatVersion, readerVersion, compatibleFeatures, readOnlyFeatures, ...rest } =
          decodeSegmentHeader(bytes)
        expect([formatVersion, readerVersion, compatibleFeatures, readOnlyFeatures]).toEqual([1, 1, 0, 0])
        expect(rest).toEqual({ ...fields, checksum })
      }),
    )
  })

  it('notices every flipped bit', () => {
    const { bytes } = encodeSegmentHeader(simple)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => decodeSegmentHeader(bytes)).toThrow(expect.objectContaining({ code: 'DAMAGED' }))
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
  })

  it.each([
    ['a smallest reader version above 1', 20, 2],
    ['an incompatible feature', 32, 0x8000_0000],
    ['another checksum suite', 36, 2],
  ])('says what to do about %s', (_name, offset, value) => {
    expect(() => decodeSegmentHeader(changed(offset, value))).toThrow(
      expect.objectContaining({ code: 'FORMAT_UNKNOWN', message: expect.stringContaining('upgrade Tidelog') }),
    )
  })

  it('reads a later version that allows it, and tells the features', () => {
    expect(decodeSegmentHeader(changed(16, 9)).formatVersion).toBe(9)
    expect(decodeSegmentHeader(changed(24, 6)).compatibleFeatures).toBe(6)
    expect(decodeSegmentHeader(changed(28, 6)).readOnlyFeatures).toBe(6)
  })

  it.each([
    ['an alignment that is no power of two', 96, 513],
    ['an alignment of 0', 96, 0],
    ['an LSN of 2^53', 68, 0x20_0000],
  ])('takes %s for damage', (_name, offset, value) => {
    expect(() => decodeSegmentHeader(changed(offset, value))).toThrow(expect.objectContaining({ code: 'DAMAGED' }))
  })

  it('does not encode what it would not decode', () => {
    expect(() => encodeSegmentHeader({ ...simple, alignment: 100 })).toThrow(/alignment/)
    expect(() => encodeSegmentHeader({ ...simple, segmentId: '0'.repeat(16) })).toThrow(/segment id/)
  })
})
