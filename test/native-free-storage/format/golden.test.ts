/**
 * Files of format version 1 as they were when it was fixed. They never change: a reader of any later version reads
 * them, and what is written for the same fields is the same bytes.
 *
 * Each is a description (`.json`) and the bytes (`.hex`, see hex-dump.ts). In a description `"5n"` is a bigint, and
 * `{ "hex": "00ff" }` bytes.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { decodeGap, encodeGap, type Gap } from '../../../native-free-storage/format/gap.ts'
import {
  decodeIndexHeader,
  decodePostingsBlock,
  decodeSparseBlock,
  decodeVchannelBlock,
  encodeIndexFile,
  INDEX_BLOCK_BYTES,
  postingBlockPlace,
  type SparseEntry,
  sparseBlockPlace,
  vchannelBlockPlace,
} from '../../../native-free-storage/format/index-blocks.ts'
import { decodeLeaseSlot, encodeLeaseSlot, type LeaseSlot } from '../../../native-free-storage/format/lease.ts'
import { decodeManifest, encodeManifest, type ManifestContent } from '../../../native-free-storage/format/manifest.ts'
import { decodeSeal, encodeSeal, type Seal } from '../../../native-free-storage/format/seal.ts'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  type SegmentHeader,
} from '../../../native-free-storage/format/segment-header.ts'
import {
  decodeSnapshotHeader,
  encodeSnapshotHeader,
  SNAPSHOT_HEADER_BYTES,
  type SnapshotPlace,
} from '../../../native-free-storage/format/snapshot.ts'
import { vchannelNameHash } from '../../../native-free-storage/format/vchannel-names.ts'
import { formatHexDump, parseHexDump } from './hex-dump.ts'
import { decodeFrame, encodeFrame, type FrameInput } from './whole-frame.ts'

beforeAll(loadChecksum)

const directory = new URL('../../golden/v1/', import.meta.url)

interface IndexDescription {
  segmentId: string
  end: number
  chain: bigint
  nextLsn: number
  lastTimeTick: bigint
  records: number
  salt: bigint
  sparse: SparseEntry[]
  postings: { vchannel: string; positions: number[] }[]
}

/** How to make the bytes from the fields, and the fields from the bytes (and what is not in them). */
const codecs: Record<string, { encode(fields: never): Buffer; decode(bytes: Buffer, fields: never): unknown }> = {
  frame: {
    encode: encodeFrame,
    decode: (bytes, { salt, position, alignment }: FrameInput) => decodeFrame(bytes, salt, position, alignment),
  },
  gap: { encode: (fields: Gap) => encodeGap(fields), decode: decodeGap },
  index: {
    encode: ({ postings, ...rest }: IndexDescription) =>
      encodeIndexFile({
        ...rest,
        postings: new Map(postings.map(({ vchannel, positions }) => [vchannelNameHash(vchannel), positions])),
      }),
    decode: readIndex,
  },
  lease: { encode: (fields: LeaseSlot) => encodeLeaseSlot(fields), decode: decodeLeaseSlot },
  manifest: {
    encode: (fields: ManifestContent) => encodeManifest(fields),
    decode: (bytes) => {
      const { formatVersion, readerVersion, compatibleFeatures, readOnlyFeatures, ...fields } = decodeManifest(bytes)
      return fields
    },
  },
  seal: { encode: (fields: Seal) => encodeSeal(fields), decode: decodeSeal },
  'segment-header': {
    encode: (fields: SegmentHeader) => encodeSegmentHeader(fields).bytes,
    decode: (bytes) => {
      const { formatVersion, readerVersion, compatibleFeatures, readOnlyFeatures, checksum, ...fields } =
        decodeSegmentHeader(bytes)
      return fields
    },
  },
  snapshot: {
    encode: ({ content, ...place }: SnapshotPlace & { content: Uint8Array }) =>
      Buffer.concat([encodeSnapshotHeader(place, content), content]),
    decode: (bytes) => {
      const { contentLength, contentHash, ...place } = decodeSnapshotHeader(bytes)
      const content = bytes.subarray(SNAPSHOT_HEADER_BYTES)
      expect([content.length, hash64(content)]).toEqual([contentLength, contentHash])
      return { ...place, content: new Uint8Array(content) }
    },
  },
}

function readIndex(file: Buffer, { salt, postings }: IndexDescription): IndexDescription {
  const header = decodeIndexHeader(file.subarray(0, INDEX_BLOCK_BYTES), salt)
  const at = ({ position }: { position: number }) => file.subarray(position, position + INDEX_BLOCK_BYTES)
  const sparsePlace = sparseBlockPlace(header, 0)
  const vchannelPlace = vchannelBlockPlace(header, 0)
  const postingPlace = postingBlockPlace(header, 0)
  const positions = decodePostingsBlock(at(postingPlace), salt, postingPlace)
  const entries = decodeVchannelBlock(at(vchannelPlace), salt, vchannelPlace)
  const { segmentId, end, chain, nextLsn, lastTimeTick, records } = header
  return {
    ...{ segmentId, end, chain, nextLsn, lastTimeTick, records, salt },
    sparse: decodeSparseBlock(at(sparsePlace), salt, sparsePlace),
    postings: postings.map(({ vchannel }) => {
      const { firstPosting, postings } = entries.find(({ nameHash }) => nameHash === vchannelNameHash(vchannel))!
      return { vchannel, positions: positions.slice(firstPosting, firstPosting + postings) }
    }),
  }
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value === 'string' && /^\d+n$/.test(value)) return BigInt(value.slice(0, -1))
  if (typeof value === 'object' && value !== null && 'hex' in value) {
    return new Uint8Array(Buffer.from(value.hex as string, 'hex'))
  }
  return value
}

const names = readdirSync(directory)
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -'.json'.length))

describe('golden files of format version 1', () => {
  it('are there for every codec', () => {
    expect(new Set(names.map((name) => name.split('.')[0]))).toEqual(new Set(Object.keys(codecs)))
  })

  it.each(names)('%s is read as it was meant, and written byte by byte the same', (name) => {
    const { codec, fields } = JSON.parse(readFileSync(new URL(`${name}.json`, directory), 'utf8'), revive)
    const bytes = parseHexDump(readFileSync(new URL(`${name}.hex`, directory), 'utf8'))
    const { encode, decode } = codecs[codec]!
    expect(decode(bytes, fields as never)).toEqual(fields)
    expect(formatHexDump(encode(fields as never))).toBe(formatHexDump(bytes))
  })
})
