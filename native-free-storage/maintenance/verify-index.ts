/** The index of a segment: byte for byte what a look at every frame makes, or, where that is not possible, sound in itself. */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { loadChecksum } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import {
  decodeIndexHeader,
  decodePostingsBlock,
  decodeSparseBlock,
  decodeVchannelBlock,
  INDEX_BLOCK_BYTES,
  type IndexHeader,
  indexFileBytes,
  postingBlockPlace,
  sparseBlockPlace,
  vchannelBlockPlace,
} from '../format/index-blocks.ts'
import { encodeIndex, indexNameOf } from '../segment/index-file.ts'
import type { SegmentReference } from '../segment/segment-file.ts'
import { type Finding, finding } from './findings.ts'
import type { SegmentSum } from './segment-sum.ts'

/** `missing`: there is none. Else where it first differs from what it has to be; null: nowhere. */
export type IndexState = 'missing' | { wrongAt: number | null }

const CHUNK_BYTES = 1024 * 1024

/** Compares the index with the frames of its segment, all of which are sound, up to `end`. Throws IO_FAILED. */
export async function compareIndex(
  environment: Environment,
  directory: string,
  segment: SegmentReference,
  end: number,
  sum: SegmentSum,
): Promise<IndexState> {
  const { chain, nextLsn, lastTimeTick } = sum
  const expected = encodeIndex(sum.builder, segment.id, { position: end, chain, nextLsn: nextLsn!, lastTimeTick })
  return await withIndex(environment, directory, segment, async (file, size) => {
    const length = Math.min(size, expected.length)
    const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, length))
    for (let at = 0; at < length; at += chunk.length) {
      const got = await file.read(chunk, 0, Math.min(chunk.length, length - at), at)
      const stored = chunk.subarray(0, got)
      const wanted = expected.subarray(at, Math.min(length, at + chunk.length))
      if (stored.equals(wanted)) continue
      return at + firstDifference(stored, wanted)
    }
    return size === expected.length ? null : length
  })
}

/** What can be said of the index of a segment that is damaged or not finished: its hashes, and of which segment it is. */
export async function checkIndexAlone(
  environment: Environment,
  directory: string,
  segment: SegmentReference,
  salt: bigint,
): Promise<IndexState> {
  await loadChecksum()
  return await withIndex(environment, directory, segment, async (file, size) => {
    const block = Buffer.alloc(INDEX_BLOCK_BYTES)
    let position = 0
    try {
      const read = async (): Promise<Buffer> => block.subarray(0, await file.read(block, 0, block.length, position))
      const header = decodeIndexHeader(await read(), salt)
      if (header.segmentId !== segment.id) return 16
      for (const { place, decode } of blocksOf(header)) {
        position = place.position
        if (position >= size) return size
        decode(await read(), salt, place)
      }
      return size === indexFileBytes(header) ? null : Math.min(size, indexFileBytes(header))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      return position
    }
  })
}

/** What `verify` says of an index. `pending`: the writer had no time to make it. */
export function indexFindings(
  state: IndexState,
  segment: SegmentReference,
  nextLsn: number | undefined,
  pending: boolean,
): Finding[] {
  const file = indexNameOf(segment.name)
  const lsnTo = nextLsn !== undefined && nextLsn > segment.baseLsn ? nextLsn - 1 : null
  const place = { file, lsnFrom: segment.baseLsn, lsnTo }
  if (state === 'missing') {
    if (pending) return [finding('INDEX_PENDING', `the index ${file} was not made yet`, place)]
    return [finding('INDEX_MISSING', `the index ${file} is missing`, place)]
  }
  if (state.wrongAt === null) return []
  const message = `the index ${file} says other things than its segment, or is damaged, at position ${state.wrongAt}`
  return [finding('INDEX_WRONG', message, { ...place, position: state.wrongAt })]
}

type Decode = typeof decodeSparseBlock | typeof decodeVchannelBlock | typeof decodePostingsBlock

function* blocksOf(
  header: IndexHeader,
): Generator<{ place: ReturnType<typeof sparseBlockPlace>; decode: Decode }, void> {
  for (let i = 0; i < header.sparseBlocks; i++) yield { place: sparseBlockPlace(header, i), decode: decodeSparseBlock }
  for (let i = 0; i < header.vchannelBlocks; i++)
    yield { place: vchannelBlockPlace(header, i), decode: decodeVchannelBlock }
  for (let i = 0; i < header.postingBlocks; i++)
    yield { place: postingBlockPlace(header, i), decode: decodePostingsBlock }
}

async function withIndex(
  environment: Environment,
  directory: string,
  segment: SegmentReference,
  look: (file: DiskFile, size: number) => Promise<number | null>,
): Promise<IndexState> {
  let file: DiskFile
  try {
    file = await environment.disk.open(`${directory}/${indexNameOf(segment.name)}`, 'read')
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return 'missing'
    throw error
  }
  try {
    return { wrongAt: await look(file, await file.size()) }
  } finally {
    await file.close()
  }
}

function firstDifference(a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length)
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return at
  return length
}
