/**
 * The sparse index of a segment (FORMAT 5): blocks of 4,096 bytes, of which the last 8 are the hash of the others,
 * seeded with the salt of the segment XOR the position of the block.
 *
 * Block 0:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic, ASCII `TIDEIDX1` |
 * | 8 | 4 | format version, 1 |
 * | 12 | 4 | reserved |
 * | 16 | 8 | segment id |
 * | 24 | 8 | end of the segment |
 * | 32 | 8 | chain at the end |
 * | 40 | 4 | number of sparse entries |
 * | 44 | 4 | number of vchannel entries |
 * | 48 | 4 | number of postings |
 * | 52 | 4 | blocks of sparse entries |
 * | 56 | 4 | blocks of vchannel entries |
 * | 60 | 4 | blocks of postings |
 * | 64 | 8 | next LSN at the end |
 * | 72 | 8 | last time tick given in the segment |
 * | 80 | 8 | records in the segment |
 *
 * Then the three parts, each in whole blocks:
 *
 * | part | bytes an entry | entries a block | entry |
 * |---|---|---|---|
 * | sparse | 24 | 170 | u64 base LSN, u64 base time tick, u64 position |
 * | vchannels | 24 | 170 | u64 hash of the name, u32 first posting, u32 postings, u64 hash over its postings |
 * | postings | 4 | 1,022 | u32 position of a frame divided by 8 |
 */
import { hash64 } from './checksum.ts'
import { readSegmentId, writeSegmentId } from './file-names.ts'
import { damaged, FormatError, unknownFormat } from './format-error.ts'
import { FRAME_STEP_BYTES } from './frame-header.ts'
import { isAllZero, readBigU64, readU64, U32_MAX, writeBigU64, writeU64 } from './integers.ts'

export const INDEX_BLOCK_BYTES = 4096
export const SPARSE_ENTRIES_A_BLOCK = 170
export const VCHANNEL_ENTRIES_A_BLOCK = 170
export const POSTINGS_A_BLOCK = 1022
/** A frame that begins so far behind the last one with a sparse entry gets one. */
export const SPARSE_STEP_BYTES = 16 * 1024

const MAGIC = 'TIDEIDX1'
const VERSION = 1
const BLOCK_HASH = INDEX_BLOCK_BYTES - 8
const SPARSE_ENTRY_BYTES = 24
const VCHANNEL_ENTRY_BYTES = 24
const POSTING_BYTES = 4

const MAGIC_AT = 0
const VERSION_AT = 8
const SEGMENT_ID = 16
const END = 24
const CHAIN = 32
const SPARSE_COUNT = 40
const VCHANNEL_COUNT = 44
const POSTING_COUNT = 48
const SPARSE_BLOCKS = 52
const VCHANNEL_BLOCKS = 56
const POSTING_BLOCKS = 60
const NEXT_LSN = 64
const LAST_TIME_TICK = 72
const RECORDS = 80

const SPARSE_TIME_TICK = 8
const SPARSE_POSITION = 16
const VCHANNEL_FIRST_POSTING = 8
const VCHANNEL_POSTINGS = 12
const VCHANNEL_POSTINGS_HASH = 16

/** The segment that an index describes. */
export interface IndexedSegment {
  /** 16 hex digits. */
  segmentId: string
  end: number
  chain: bigint
  nextLsn: number
  /** 0n: none was given. */
  lastTimeTick: bigint
  records: number
}

export interface SparseEntry {
  baseLsn: number
  baseTimeTick: bigint
  position: number
}

/** Positions of frames, ascending, by the hash of the name of the vchannel of which each holds a record. */
export type Postings = ReadonlyMap<bigint, readonly number[]>

export interface IndexInput extends IndexedSegment {
  salt: bigint
  /** Ascending. */
  sparse: readonly SparseEntry[]
  postings: Postings
}

export interface IndexHeader extends IndexedSegment {
  sparseCount: number
  vchannelCount: number
  postingCount: number
  sparseBlocks: number
  vchannelBlocks: number
  postingBlocks: number
}

export interface VchannelEntry {
  nameHash: bigint
  /** Index among all postings. */
  firstPosting: number
  postings: number
  postingsHash: bigint
}

/** Where a block of each part stands in the file, and how many entries it has. */
export interface BlockPlace {
  position: number
  count: number
}

/** The whole file. Throws INVALID_ARGUMENT for what is out of order, LIMIT_EXCEEDED for more than a u32 counts. */
export function encodeIndexFile(input: IndexInput): Buffer {
  const vchannels = [...input.postings].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  let postingCount = 0
  for (const [, positions] of vchannels) postingCount += positions.length
  if (postingCount > U32_MAX) throw new FormatError('LIMIT_EXCEEDED', `${postingCount} postings pass ${U32_MAX}`)
  const sparseBlocks = Math.ceil(input.sparse.length / SPARSE_ENTRIES_A_BLOCK)
  const vchannelBlocks = Math.ceil(vchannels.length / VCHANNEL_ENTRIES_A_BLOCK)
  const postingBlocks = Math.ceil(postingCount / POSTINGS_A_BLOCK)
  const blocks = 1 + sparseBlocks + vchannelBlocks + postingBlocks
  const file = Buffer.alloc(blocks * INDEX_BLOCK_BYTES)

  file.write(MAGIC, MAGIC_AT, 'latin1')
  file.writeUInt32LE(VERSION, VERSION_AT)
  writeSegmentId(file, SEGMENT_ID, input.segmentId)
  writeU64(file, END, input.end)
  writeBigU64(file, CHAIN, input.chain)
  file.writeUInt32LE(input.sparse.length, SPARSE_COUNT)
  file.writeUInt32LE(vchannels.length, VCHANNEL_COUNT)
  file.writeUInt32LE(postingCount, POSTING_COUNT)
  file.writeUInt32LE(sparseBlocks, SPARSE_BLOCKS)
  file.writeUInt32LE(vchannelBlocks, VCHANNEL_BLOCKS)
  file.writeUInt32LE(postingBlocks, POSTING_BLOCKS)
  writeU64(file, NEXT_LSN, input.nextLsn)
  writeBigU64(file, LAST_TIME_TICK, input.lastTimeTick)
  writeU64(file, RECORDS, input.records)

  let previousPosition = -1
  for (const [index, entry] of input.sparse.entries()) {
    if (entry.position <= previousPosition) throw new FormatError('INVALID_ARGUMENT', 'sparse entries out of order')
    previousPosition = entry.position
    const at = entryOffset(1, index, SPARSE_ENTRIES_A_BLOCK, SPARSE_ENTRY_BYTES)
    writeU64(file, at, entry.baseLsn)
    writeBigU64(file, at + SPARSE_TIME_TICK, entry.baseTimeTick)
    writeU64(file, at + SPARSE_POSITION, entry.position)
  }
  let posting = 0
  for (const [index, [nameHash, positions]] of vchannels.entries()) {
    const at = entryOffset(1 + sparseBlocks, index, VCHANNEL_ENTRIES_A_BLOCK, VCHANNEL_ENTRY_BYTES)
    const stored = encodePostings(positions)
    writeBigU64(file, at, nameHash)
    file.writeUInt32LE(posting, at + VCHANNEL_FIRST_POSTING)
    file.writeUInt32LE(positions.length, at + VCHANNEL_POSTINGS)
    writeBigU64(file, at + VCHANNEL_POSTINGS_HASH, hash64(stored))
    for (let from = 0; from < stored.length; ) {
      const room = POSTINGS_A_BLOCK - (posting % POSTINGS_A_BLOCK)
      const target = entryOffset(1 + sparseBlocks + vchannelBlocks, posting, POSTINGS_A_BLOCK, POSTING_BYTES)
      const copied = stored.copy(file, target, from, Math.min(stored.length, from + room * POSTING_BYTES))
      from += copied
      posting += copied / POSTING_BYTES
    }
  }
  for (let block = 0; block < blocks; block++) {
    const position = block * INDEX_BLOCK_BYTES
    writeBigU64(file, position + BLOCK_HASH, blockHash(file.subarray(position), input.salt, position))
  }
  return file
}

/** Throws DAMAGED, or FORMAT_UNKNOWN: either way the index is made anew from the segment. */
export function decodeIndexHeader(block: Buffer, salt: bigint): IndexHeader {
  checkBlock(block, salt, 0)
  if (block.toString('latin1', MAGIC_AT, MAGIC_AT + 8) !== MAGIC) throw damaged('not an index', MAGIC_AT)
  const version = block.readUInt32LE(VERSION_AT)
  if (version !== VERSION) throw unknownFormat(`the index has format version ${version}`, VERSION_AT)
  const header: IndexHeader = {
    segmentId: readSegmentId(block, SEGMENT_ID),
    end: readU64(block, END),
    chain: readBigU64(block, CHAIN),
    nextLsn: readU64(block, NEXT_LSN),
    lastTimeTick: readBigU64(block, LAST_TIME_TICK),
    records: readU64(block, RECORDS),
    sparseCount: block.readUInt32LE(SPARSE_COUNT),
    vchannelCount: block.readUInt32LE(VCHANNEL_COUNT),
    postingCount: block.readUInt32LE(POSTING_COUNT),
    sparseBlocks: block.readUInt32LE(SPARSE_BLOCKS),
    vchannelBlocks: block.readUInt32LE(VCHANNEL_BLOCKS),
    postingBlocks: block.readUInt32LE(POSTING_BLOCKS),
  }
  if (
    header.sparseBlocks !== Math.ceil(header.sparseCount / SPARSE_ENTRIES_A_BLOCK) ||
    header.vchannelBlocks !== Math.ceil(header.vchannelCount / VCHANNEL_ENTRIES_A_BLOCK) ||
    header.postingBlocks !== Math.ceil(header.postingCount / POSTINGS_A_BLOCK)
  ) {
    throw damaged('the counts of the index do not fit its blocks', SPARSE_COUNT)
  }
  return header
}

/** Length that the file has to have. */
export function indexFileBytes(header: IndexHeader): number {
  return (1 + header.sparseBlocks + header.vchannelBlocks + header.postingBlocks) * INDEX_BLOCK_BYTES
}

export function sparseBlockPlace(header: IndexHeader, block: number): BlockPlace {
  return place(1, block, header.sparseCount, SPARSE_ENTRIES_A_BLOCK)
}

export function vchannelBlockPlace(header: IndexHeader, block: number): BlockPlace {
  return place(1 + header.sparseBlocks, block, header.vchannelCount, VCHANNEL_ENTRIES_A_BLOCK)
}

export function postingBlockPlace(header: IndexHeader, block: number): BlockPlace {
  return place(1 + header.sparseBlocks + header.vchannelBlocks, block, header.postingCount, POSTINGS_A_BLOCK)
}

/** The entries of one block, read at `place`. Throws DAMAGED. */
export function decodeSparseBlock(block: Buffer, salt: bigint, place: BlockPlace): SparseEntry[] {
  checkBlock(block, salt, place.position)
  checkRest(block, place.count, SPARSE_ENTRIES_A_BLOCK, SPARSE_ENTRY_BYTES)
  const entries: SparseEntry[] = []
  let previous: SparseEntry | undefined
  for (let index = 0, at = 0; index < place.count; index++, at += SPARSE_ENTRY_BYTES) {
    const entry: SparseEntry = {
      baseLsn: readU64(block, at),
      baseTimeTick: readBigU64(block, at + SPARSE_TIME_TICK),
      position: readU64(block, at + SPARSE_POSITION),
    }
    if (
      previous !== undefined &&
      (entry.position <= previous.position ||
        entry.baseLsn < previous.baseLsn ||
        entry.baseTimeTick < previous.baseTimeTick)
    ) {
      throw damaged(`sparse entry ${index} of the block is out of order`, at)
    }
    entries.push(entry)
    previous = entry
  }
  return entries
}

/** The entries of one block, read at `place`. Throws DAMAGED. */
export function decodeVchannelBlock(block: Buffer, salt: bigint, place: BlockPlace): VchannelEntry[] {
  checkBlock(block, salt, place.position)
  checkRest(block, place.count, VCHANNEL_ENTRIES_A_BLOCK, VCHANNEL_ENTRY_BYTES)
  const entries: VchannelEntry[] = []
  let previous: VchannelEntry | undefined
  for (let index = 0, at = 0; index < place.count; index++, at += VCHANNEL_ENTRY_BYTES) {
    const entry: VchannelEntry = {
      nameHash: readBigU64(block, at),
      firstPosting: block.readUInt32LE(at + VCHANNEL_FIRST_POSTING),
      postings: block.readUInt32LE(at + VCHANNEL_POSTINGS),
      postingsHash: readBigU64(block, at + VCHANNEL_POSTINGS_HASH),
    }
    if (
      entry.postings === 0 ||
      (previous !== undefined &&
        (entry.nameHash <= previous.nameHash || entry.firstPosting !== previous.firstPosting + previous.postings))
    ) {
      throw damaged(`vchannel entry ${index} of the block is out of order`, at)
    }
    entries.push(entry)
    previous = entry
  }
  return entries
}

/** Positions of frames: the postings of one block, read at `place`. Throws DAMAGED. */
export function decodePostingsBlock(block: Buffer, salt: bigint, place: BlockPlace): number[] {
  checkBlock(block, salt, place.position)
  checkRest(block, place.count, POSTINGS_A_BLOCK, POSTING_BYTES)
  const positions: number[] = []
  for (let index = 0; index < place.count; index++) {
    positions.push(block.readUInt32LE(index * POSTING_BYTES) * FRAME_STEP_BYTES)
  }
  return positions
}

/** Whether `positions`, gathered from one block or more, are all the postings of an entry. */
export function verifyPostings(entry: VchannelEntry, positions: readonly number[]): boolean {
  if (positions.length !== entry.postings) return false
  for (let index = 1; index < positions.length; index++) {
    if (positions[index]! <= positions[index - 1]!) return false
  }
  return hash64(encodePostings(positions)) === entry.postingsHash
}

function encodePostings(positions: readonly number[]): Buffer {
  if (positions.length === 0) throw new FormatError('INVALID_ARGUMENT', 'a vchannel entry without postings')
  const stored = Buffer.allocUnsafe(positions.length * POSTING_BYTES)
  let previous = -1
  for (let index = 0; index < positions.length; index++) {
    const position = positions[index]!
    if (position <= previous || position % FRAME_STEP_BYTES !== 0 || position / FRAME_STEP_BYTES > U32_MAX) {
      throw new FormatError('INVALID_ARGUMENT', `the position ${position} is out of order, or no frame's`)
    }
    stored.writeUInt32LE(position / FRAME_STEP_BYTES, index * POSTING_BYTES)
    previous = position
  }
  return stored
}

function entryOffset(firstBlock: number, index: number, entriesABlock: number, entryBytes: number): number {
  const block = firstBlock + Math.floor(index / entriesABlock)
  return block * INDEX_BLOCK_BYTES + (index % entriesABlock) * entryBytes
}

function place(firstBlock: number, block: number, entries: number, entriesABlock: number): BlockPlace {
  const count = Math.min(entriesABlock, entries - block * entriesABlock)
  if (block < 0 || count <= 0) throw new RangeError(`the part of the index has no block ${block}`)
  return { position: (firstBlock + block) * INDEX_BLOCK_BYTES, count }
}

function checkBlock(block: Buffer, salt: bigint, position: number): void {
  if (block.length < INDEX_BLOCK_BYTES) throw damaged(`an index block of ${block.length} bytes`)
  if (blockHash(block, salt, position) !== readBigU64(block, BLOCK_HASH)) {
    throw damaged(`the index block at ${position} does not have its hash`, BLOCK_HASH)
  }
}

/** Throws also for a count that no block has. */
function checkRest(block: Buffer, count: number, entriesABlock: number, entryBytes: number): void {
  if (count < 1 || count > entriesABlock || !isAllZero(block, count * entryBytes, BLOCK_HASH)) {
    throw damaged(`the index block does not hold ${count} entries`, count * entryBytes)
  }
}

function blockHash(block: Buffer, salt: bigint, position: number): bigint {
  return hash64(block.subarray(0, BLOCK_HASH), salt ^ BigInt(position))
}
