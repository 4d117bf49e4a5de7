import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { decodeGap, encodeGap, type Gap } from '../../../native-free-storage/format/gap.ts'
import {
  decodeLease,
  decodeLeaseSlot,
  encodeLeaseSlot,
  LEASE_BYTES,
  type LeaseSlot,
  leaseSlotPosition,
} from '../../../native-free-storage/format/lease.ts'
import {
  decodeManifest,
  encodeManifest,
  MANIFEST_HEADER_BYTES,
  type ManifestContent,
  RETIRED_SEGMENTS_MAX,
} from '../../../native-free-storage/format/manifest.ts'
import { decodeSeal, encodeSeal, SEAL_BODY_BYTES, type Seal } from '../../../native-free-storage/format/seal.ts'
import { bootId, logId, safe, segmentId, u32, u64 } from './arbitraries.ts'

beforeAll(loadChecksum)

const damage = expect.objectContaining({ name: 'FormatError', code: 'DAMAGED' })
const unknown = expect.objectContaining({ name: 'FormatError', code: 'FORMAT_UNKNOWN' })

describe('the body of a seal', () => {
  const seal: fc.Arbitrary<Seal> = fc
    .record({
      end: safe,
      frames: safe,
      records: safe,
      lsns: fc.tuple(safe, safe),
      firstTimeTick: u64,
      lastTimeTick: u64,
      salt: u64,
      nextSegmentId: fc.option(segmentId),
      chain: u64,
    })
    .map(({ lsns, ...rest }) => ({ ...rest, firstLsn: Math.min(...lsns), nextLsn: Math.max(...lsns) }))

  it('comes back as it was', () => {
    fc.assert(
      fc.property(seal, (expected) => {
        const bytes = encodeSeal(expected)
        expect(bytes.length).toBe(SEAL_BODY_BYTES)
        expect(decodeSeal(bytes)).toEqual(expected)
      }),
    )
  })

  it('is damaged with another length, LSNs in the wrong order or reserved bytes', () => {
    const [bytes] = fc.sample(seal, 1).map(encodeSeal) as [Buffer]
    expect(() => decodeSeal(bytes.subarray(1))).toThrow(damage)
    bytes.writeUInt8(1, 87)
    expect(() => decodeSeal(bytes)).toThrow(damage)
    const swapped = Buffer.alloc(88)
    swapped.writeUInt8(1, 24)
    expect(() => decodeSeal(swapped)).toThrow(damage)
  })
})

describe('the body of a gap', () => {
  const gap: fc.Arbitrary<Gap> = fc.record({
    count: safe.filter((count) => count > 0),
    reason: fc.constantFrom('void', 'lost', 'leased'),
  })

  it('comes back as it was', () => {
    fc.assert(
      fc.property(gap, (expected) => {
        expect(decodeGap(encodeGap(expected))).toEqual(expected)
      }),
    )
  })

  it('is checked', () => {
    const bytes = encodeGap({ count: 3, reason: 'lost' })
    expect(() => decodeGap(bytes.subarray(8))).toThrow(damage)
    expect(() => decodeGap(Buffer.alloc(16))).toThrow(damage)
    bytes.writeUInt32LE(4, 8)
    expect(() => decodeGap(bytes)).toThrow(unknown)
    bytes.writeUInt32LE(1, 8)
    bytes.writeUInt32LE(1, 12)
    expect(() => decodeGap(bytes)).toThrow(damage)
    expect(() => encodeGap({ count: 0, reason: 'void' })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('the lease', () => {
  const slot: fc.Arbitrary<LeaseSlot> = fc.record({ sequence: safe, tickBound: u64, lsnBound: safe, bootId })
  const lease = (sequence: number): LeaseSlot => ({
    sequence,
    tickBound: BigInt(sequence),
    lsnBound: 0,
    bootId: new Uint8Array(16),
  })

  it('comes back as it was', () => {
    fc.assert(
      fc.property(slot, (expected) => {
        expect(decodeLeaseSlot(encodeLeaseSlot(expected))).toEqual(expected)
      }),
    )
  })

  it('is the valid slot with the higher sequence', () => {
    const file = Buffer.alloc(LEASE_BYTES)
    expect(decodeLease(file)).toBeNull()
    for (let sequence = 1; sequence < 5; sequence++) {
      encodeLeaseSlot(lease(sequence)).copy(file, leaseSlotPosition(sequence))
      expect(decodeLease(file)).toEqual(lease(sequence))
    }
    file[leaseSlotPosition(4) + 100] = 1
    expect(decodeLease(file)).toEqual(lease(3))
    expect(decodeLease(file.subarray(0, 100))).toBeNull()
  })

  it('notices every flipped bit', () => {
    const bytes = encodeLeaseSlot(lease(9))
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(decodeLeaseSlot(bytes)).toBeNull()
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
  })
})

describe('the manifest', () => {
  const name = fc.record({ baseLsn: safe, id: segmentId })
  const manifest: fc.Arbitrary<ManifestContent> = fc
    .record({
      generation: safe,
      logId,
      ownerTerm: u32,
      incarnation: u32,
      durability: fc.constantFrom('disk', 'os'),
      firstLsn: safe,
      segments: fc.option(
        fc.record({
          first: name,
          tail: fc.record({ baseLsn: safe, id: segmentId, syncedPosition: safe, chain: u64, closed: fc.boolean() }),
        }),
      ),
      nextLsn: safe,
      lastTimeTick: u64,
      bootId,
      retired: fc.array(name, { maxLength: 5 }),
      origins: fc.array(fc.record({ logId, forkLsn: safe }), { maxLength: 4 }),
    })
    .map(({ segments, origins, ...rest }) => ({
      ...rest,
      origins: origins.sort((a, b) => a.forkLsn - b.forkLsn),
      firstSegment: segments?.first ?? null,
      tail: segments?.tail ?? null,
    }))
  const simple: ManifestContent = {
    generation: 3,
    logId: 'cd'.repeat(16),
    ownerTerm: 1,
    incarnation: 2,
    durability: 'disk',
    firstLsn: 0,
    firstSegment: null,
    tail: null,
    nextLsn: 0,
    lastTimeTick: 0n,
    bootId: new Uint8Array(16),
    retired: [{ baseLsn: 1, id: '00000000000000aa' }],
    origins: [],
  }
  const copy: ManifestContent = {
    ...simple,
    origins: [
      { logId: 'ab'.repeat(16), forkLsn: 7 },
      { logId: 'bc'.repeat(16), forkLsn: 7 },
    ],
  }

  function changed(offset: number, value: number, content = simple): Buffer {
    const bytes = encodeManifest(content)
    bytes.writeUInt32LE(value, offset)
    bytes.writeBigUInt64LE(hash64(bytes.subarray(8)), 0)
    return bytes
  }

  it('comes back as it was', () => {
    fc.assert(
      fc.property(manifest, (expected) => {
        const features = { formatVersion: 1, readerVersion: 1, compatibleFeatures: 0, readOnlyFeatures: 0 }
        expect(decodeManifest(encodeManifest(expected))).toEqual({ ...expected, ...features })
      }),
    )
  })

  it.each([
    ['', simple],
    [' of a copy', copy],
  ])('notices every flipped bit and every missing byte%s', (_what, content) => {
    const bytes = encodeManifest(content)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => decodeManifest(bytes)).toThrow(damage)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeManifest(bytes.subarray(0, length))).toThrow(damage)
    }
    expect(() => decodeManifest(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(damage)
  })

  it.each([
    ['a smallest reader version', 20, 2],
    ['an incompatible feature', 32, 2],
    ['a checksum suite', 36, 2],
    ['a durability', 72, 3],
    ['a flag', 76, 2],
  ])('says what to do about %s of a later version', (_name, offset, value) => {
    expect(() => decodeManifest(changed(offset, value))).toThrow(unknown)
  })

  it.each([
    ['another length', 168, 200],
    ['another count of retired segments', 172, 2],
    ['a giant count of retired segments', 172, 0xffff_ffff],
    ['a first segment without a tail', 88, 1],
    ['origins where there are none', 32, 1],
  ])('takes %s for damage', (_name, offset, value) => {
    expect(() => decodeManifest(changed(offset, value))).toThrow(damage)
  })

  it.each([
    ['no origins where the feature says so', 192, 0],
    ['another count of origins', 192, 1],
    ['a giant count of origins', 192, 0xffff_ffff],
    ['forks that go back', 216, 8],
    ['no feature for its origins', 32, 0],
  ])('of a copy takes %s for damage', (_name, offset, value) => {
    expect(() => decodeManifest(changed(offset, value, copy))).toThrow(damage)
  })

  it('keeps its size bounded', () => {
    const retired = Array.from({ length: RETIRED_SEGMENTS_MAX }, () => simple.retired[0]!)
    expect(encodeManifest({ ...simple, retired }).length).toBe(MANIFEST_HEADER_BYTES + 1024 * 1024)
    const more = [...retired, simple.retired[0]!]
    expect(() => encodeManifest({ ...simple, retired: more })).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' }),
    )
    const tail = { baseLsn: 0, id: '00000000000000aa', syncedPosition: 0, chain: 0n, closed: false }
    expect(() => encodeManifest({ ...simple, tail })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})
