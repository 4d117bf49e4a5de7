import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import {
  type BlockPlace,
  decodeIndexHeader,
  decodePostingsBlock,
  decodeSparseBlock,
  decodeVchannelBlock,
  encodeIndexFile,
  INDEX_BLOCK_BYTES,
  type IndexInput,
  indexFileBytes,
  postingBlockPlace,
  sparseBlockPlace,
  vchannelBlockPlace,
  verifyPostings,
} from '../../../native-free-storage/format/index-blocks.ts'
import { safe, segmentId, u64 } from './arbitraries.ts'

beforeAll(loadChecksum)

const damage = expect.objectContaining({ name: 'FormatError', code: 'DAMAGED' })

/** Ascending positions of frames with steps out of `steps`. */
function positionsFrom(steps: readonly number[]): number[] {
  let position = 4096
  return steps.map((step) => {
    position += 8 * step
    return position
  })
}

const steps = (maxLength: number) => fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 1, maxLength })
const index: fc.Arbitrary<IndexInput> = fc.record({
  segmentId,
  end: safe,
  chain: u64,
  nextLsn: safe,
  lastTimeTick: u64,
  records: safe,
  salt: u64,
  sparse: fc
    .array(fc.integer({ min: 1, max: 1_000 }), { maxLength: 400, size: 'max' })
    .map((all) =>
      positionsFrom(all).map((position, at) => ({ baseLsn: at * 7, baseTimeTick: BigInt(at) << 40n, position })),
    ),
  postings: fc
    .array(fc.tuple(u64, steps(1_200)), { maxLength: 200, size: 'large' })
    .map((all) => new Map(all.map(([hash, one]) => [hash, positionsFrom(one)]))),
})

function block(file: Buffer, place: BlockPlace): Buffer {
  return file.subarray(place.position, place.position + INDEX_BLOCK_BYTES)
}

/** All that an index says. */
function readIndex(file: Buffer, salt: bigint) {
  const header = decodeIndexHeader(file.subarray(0, INDEX_BLOCK_BYTES), salt)
  expect(indexFileBytes(header)).toBe(file.length)
  const part = <T>(
    blocks: number,
    placeOf: (header: ReturnType<typeof decodeIndexHeader>, block: number) => BlockPlace,
    decode: (block: Buffer, salt: bigint, place: BlockPlace) => T[],
  ): T[] =>
    Array.from({ length: blocks }, (_, at) => {
      const place = placeOf(header, at)
      return decode(block(file, place), salt, place)
    }).flat()
  return {
    header,
    sparse: part(header.sparseBlocks, sparseBlockPlace, decodeSparseBlock),
    vchannels: part(header.vchannelBlocks, vchannelBlockPlace, decodeVchannelBlock),
    postings: part(header.postingBlocks, postingBlockPlace, decodePostingsBlock),
  }
}

describe('the sparse index', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(index, (input) => {
        const { salt, sparse, postings, ...segment } = input
        const read = readIndex(encodeIndexFile(input), salt)
        expect(read.header).toMatchObject(segment)
        expect(read.sparse).toEqual(sparse)
        expect(read.vchannels.map(({ nameHash }) => nameHash)).toEqual(
          [...postings.keys()].sort((a, b) => (a < b ? -1 : 1)),
        )
        for (const entry of read.vchannels) {
          const positions = read.postings.slice(entry.firstPosting, entry.firstPosting + entry.postings)
          expect(positions).toEqual(postings.get(entry.nameHash))
          expect(verifyPostings(entry, positions)).toBe(true)
          expect(verifyPostings(entry, [...positions.slice(1), positions.at(-1)! + 8])).toBe(false)
          expect(verifyPostings(entry, positions.slice(1))).toBe(false)
        }
      }),
      { numRuns: 30 },
    )
  })

  const input: IndexInput = {
    segmentId: '00000000000000aa',
    end: 8192,
    chain: 1n,
    nextLsn: 2,
    lastTimeTick: 3n,
    records: 2,
    salt: 77n,
    sparse: [{ baseLsn: 0, baseTimeTick: 1n, position: 4096 }],
    postings: new Map([[5n, [4096, 5000]]]),
  }

  it('notices every flipped bit', () => {
    const file = encodeIndexFile(input)
    for (let bit = 0; bit < file.length * 8; bit += 13) {
      file[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => readIndex(file, 77n)).toThrow(damage)
      file[bit >> 3]! ^= 1 << (bit & 7)
    }
  })

  it('is not taken for that of another segment, nor one block for another', () => {
    const file = encodeIndexFile(input)
    expect(() => readIndex(file, 78n)).toThrow(damage)
    const { header } = readIndex(file, 77n)
    const place = vchannelBlockPlace(header, 0)
    expect(() => decodeSparseBlock(block(file, place), 77n, sparseBlockPlace(header, 0))).toThrow(damage)
    expect(() => decodeVchannelBlock(block(file, place), 77n, { ...place, count: 2 })).toThrow(damage)
    expect(() => decodeVchannelBlock(block(file, place), 77n, { ...place, count: 171 })).toThrow(damage)
    expect(() => sparseBlockPlace(header, 1)).toThrow(RangeError)
  })

  it('refuses what is out of order', () => {
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
    const entry = input.sparse[0]!
    expect(() => encodeIndexFile({ ...input, sparse: [entry, entry] })).toThrow(refused)
    expect(() => encodeIndexFile({ ...input, postings: new Map([[1n, [16, 8]]]) })).toThrow(refused)
    expect(() => encodeIndexFile({ ...input, postings: new Map([[1n, [4]]]) })).toThrow(refused)
    expect(() => encodeIndexFile({ ...input, postings: new Map([[1n, []]]) })).toThrow(refused)
  })
})
