import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import {
  decodeFrameHeader,
  encodeFrameHeader,
  type FrameHeaderFields,
  FrameKind,
  lastTickOf,
  looksLikeFrame,
  nextLsnAfter,
  nextTickFloor,
} from '../../../native-free-storage/format/frame-header.ts'
import { u32, u64 } from './arbitraries.ts'

beforeAll(loadChecksum)

const SALT = 0x0123_4567_89ab_cdefn

const fields: FrameHeaderFields = {
  kind: FrameKind.records,
  flags: 0,
  totalLength: 512,
  bodyLength: 200,
  nodeSectionLength: 16,
  recordCount: 3,
  ownerTerm: 7,
  incarnation: 8,
  baseLsn: 1_000,
  baseTimeTick: 1n << 60n,
  position: 8192,
  durablePosition: 4096,
  chain: 11n,
  bodyHash: 12n,
  nodeHash: 13n,
}

const arbitraryFields: fc.Arbitrary<FrameHeaderFields> = fc
  .record({
    flags: fc.integer({ min: 0, max: 15 }),
    bodyUnits: fc.integer({ min: 1, max: 1000 }),
    nodeUnits: fc.integer({ min: 0, max: 10 }),
    padUnits: fc.integer({ min: 0, max: 512 }),
    recordCount: fc.integer({ min: 1, max: 65_536 }),
    ownerTerm: u32,
    incarnation: u32,
    baseLsn: fc.maxSafeNat().map((lsn) => Math.max(0, lsn - 65_536)),
    baseTimeTick: fc.bigInt({ min: 0n, max: (1n << 64n) - 65_537n }),
    position: fc.maxSafeNat(),
    durable: fc.double({ min: 0, max: 1, noNaN: true }),
    hashes: fc.tuple(u64, u64, u64),
  })
  .map(({ bodyUnits, nodeUnits, padUnits, durable, hashes, ...rest }) => ({
    ...rest,
    kind: FrameKind.records,
    bodyLength: 8 * bodyUnits,
    nodeSectionLength: 8 * nodeUnits,
    totalLength: 96 + 8 * (bodyUnits + nodeUnits + padUnits),
    durablePosition: Math.floor(rest.position * durable),
    chain: hashes[0],
    bodyHash: hashes[1],
    nodeHash: nodeUnits === 0 ? 0n : hashes[2],
  }))

function encoded(change: Partial<FrameHeaderFields> = {}): Buffer {
  const bytes = Buffer.alloc(96)
  encodeFrameHeader(bytes, 0, { ...fields, ...change }, SALT)
  return bytes
}

function decoded(bytes: Buffer) {
  return decodeFrameHeader(bytes, 0, bytes.length, SALT, fields.position)
}

/** With a right checksum again. */
function sealed(bytes: Buffer): Buffer {
  bytes.writeBigUInt64LE(hash64(bytes.subarray(8, bytes[12]), SALT ^ BigInt(fields.position)), 0)
  return bytes
}

describe('the frame header', () => {
  it('comes back as it was, at any offset', () => {
    fc.assert(
      fc.property(arbitraryFields, u64, fc.integer({ min: 0, max: 40 }), (expected, salt, offset) => {
        const bytes = Buffer.alloc(offset + 96 + 8, 0xff)
        const checksum = encodeFrameHeader(bytes, offset, expected, salt)
        const header = decodeFrameHeader(bytes, offset, offset + 96, salt, expected.position)
        expect(header).toEqual({ ...expected, headerLength: 96, checksum })
        expect(looksLikeFrame(bytes, offset)).toBe(true)
        expect(bytes[offset + 96]).toBe(0xff)
      }),
    )
  })

  it('is not valid with any one bit flipped', () => {
    const bytes = encoded()
    for (let bit = 0; bit < 96 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(decoded(bytes)).toBeNull()
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
    expect(decoded(bytes)).not.toBeNull()
  })

  it('is not valid with another salt, at another position, or cut', () => {
    const bytes = encoded()
    expect(decodeFrameHeader(bytes, 0, 96, SALT + 1n, fields.position)).toBeNull()
    expect(decodeFrameHeader(bytes, 0, 96, SALT, fields.position + 8)).toBeNull()
    expect(decodeFrameHeader(bytes, 0, 95, SALT, fields.position)).toBeNull()
    expect(decodeFrameHeader(bytes, 8, 96, SALT, fields.position)).toBeNull()
  })

  it.each<[string, Partial<FrameHeaderFields>]>([
    ['a total length that is no multiple of 8', { totalLength: 513 }],
    ['a body length that is no multiple of 8', { bodyLength: 201 }],
    ['parts longer than the whole', { bodyLength: 408 }],
    ['parts that would wrap around', { bodyLength: 0xffff_fff8, nodeSectionLength: 16 }],
    ['a frame beyond the greatest length', { totalLength: 0x2000_0008 }],
    ['no record', { recordCount: 0 }],
    ['too many records', { recordCount: 65_537 }],
    ['no body', { bodyLength: 0, bodyHash: 0n }],
    ['a node hash without a node section', { nodeSectionLength: 0 }],
    ['LSNs beyond 2^53', { baseLsn: Number.MAX_SAFE_INTEGER - 2 }],
    ['ticks beyond 2^64', { baseTimeTick: (1n << 64n) - 3n }],
    ['a durable position behind its own', { durablePosition: 8200 }],
    ['a time tick with a body', { kind: FrameKind.timeTick, recordCount: 0, nodeSectionLength: 0, nodeHash: 0n }],
    ['a gap with a longer body', { kind: FrameKind.gap, recordCount: 0, nodeSectionLength: 0, nodeHash: 0n }],
    ['a seal with a longer body', { kind: FrameKind.seal, recordCount: 0, nodeSectionLength: 0, nodeHash: 0n }],
  ])('is not valid with %s, however right its checksum', (_name, change) => {
    expect(decoded(encoded(change))).toBeNull()
  })

  it('keeps its meaning when a later version makes it longer', () => {
    const bytes = Buffer.concat([encoded(), Buffer.alloc(8, 1)])
    bytes[12] = 104
    expect(decoded(sealed(bytes))).toMatchObject({ headerLength: 104, bodyLength: 200, baseLsn: 1_000 })
    expect(decodeFrameHeader(bytes, 0, 96, SALT, fields.position)).toBeNull()
  })

  it.each([
    ['version', 13, 2],
    ['kind', 14, 6],
    ['incompatible flag', 15, 0x10],
  ])('says what to do about an unknown %s', (_name, offset, value) => {
    const bytes = encoded()
    bytes[offset] = value
    expect(decoded(bytes)).toBeNull()
    expect(() => decoded(sealed(bytes))).toThrow(expect.objectContaining({ code: 'FORMAT_UNKNOWN' }))
  })

  it('says what the next frame has to be', () => {
    const tick = { baseTimeTick: 50n, baseLsn: 10 }
    const records = { ...tick, kind: FrameKind.records, recordCount: 3 }
    expect([nextLsnAfter(records), lastTickOf(records), nextTickFloor(records)]).toEqual([13, 52n, 53n])
    const timeTick = { ...tick, kind: FrameKind.timeTick, recordCount: 0 }
    expect([nextLsnAfter(timeTick), lastTickOf(timeTick), nextTickFloor(timeTick)]).toEqual([10, 50n, 51n])
    const marker = { ...tick, kind: FrameKind.durableMarker, recordCount: 0 }
    expect([nextLsnAfter(marker), lastTickOf(marker), nextTickFloor(marker)]).toEqual([10, 49n, 50n])
    const gap = { ...tick, kind: FrameKind.gap, recordCount: 0 }
    expect(nextLsnAfter(gap, 5)).toBe(15)
    expect(() => nextLsnAfter(gap)).toThrow(/invariant/)
    expect(() => nextLsnAfter(gap, Number.MAX_SAFE_INTEGER)).toThrow(expect.objectContaining({ code: 'DAMAGED' }))
  })
})
