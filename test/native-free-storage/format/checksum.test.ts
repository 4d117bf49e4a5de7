import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import xxhash from 'xxhash-wasm'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { readBigU64, readU64, writeBigU64, writeU64 } from '../../../native-free-storage/format/integers.ts'
import { safe, u64 } from './arbitraries.ts'

beforeAll(loadChecksum)

describe('hash64', () => {
  it('is XXH64: the reference values of the algorithm', () => {
    expect(hash64(Buffer.from(''))).toBe(0xef46db3751d8e999n)
    expect(hash64(Buffer.from('a'))).toBe(0xd24ec4f1a98c6e5bn)
    expect(hash64(Buffer.from('abc'))).toBe(0x44bc2cf5ad770999n)
  })

  it('is the same in slices as in one piece', async () => {
    const whole = await xxhash()
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17)
    for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 31) >> 3
    for (const length of [1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 1_300_000, bytes.length]) {
      for (const seed of [0n, 1n, 0xfedc_ba98_7654_3210n]) {
        const part = bytes.subarray(0, length)
        expect(hash64(part, seed)).toBe(whole.h64Raw(part, seed))
      }
    }
  })

  it('can be loaded again', async () => {
    await loadChecksum()
    await loadChecksum()
  })
})

describe('integers', () => {
  it('come back as they were written, little-endian', () => {
    fc.assert(
      fc.property(safe, u64, (number, big) => {
        const bytes = Buffer.alloc(24, 0xaa)
        writeU64(bytes, 3, number)
        writeBigU64(bytes, 11, big)
        expect(readU64(bytes, 3)).toBe(number)
        expect(bytes.readBigUInt64LE(3)).toBe(BigInt(number))
        expect(readBigU64(bytes, 11)).toBe(big)
        expect(bytes.readBigUInt64LE(11)).toBe(big)
        expect([bytes[2], bytes[19]]).toEqual([0xaa, 0xaa])
      }),
    )
  })

  it('refuses a number of 2^53 or more', () => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(1n << 53n)
    expect(() => readU64(bytes, 0)).toThrow(expect.objectContaining({ name: 'FormatError', code: 'DAMAGED' }))
  })
})
