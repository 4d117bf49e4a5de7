/**
 * The sparse index of a sealed segment on disk (FORMAT 5): written once, read a block or two at a look-up.
 *
 * An index is believed only when it names this segment, its end and the chain there, and only block by block. Whatever
 * is wrong with it costs a rebuild, never a read.
 */
import type { DiskFile } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { loadChecksum } from '../format/checksum.ts'
import {
  type BlockPlace,
  decodeIndexHeader,
  decodePostingsBlock,
  decodeSparseBlock,
  decodeVchannelBlock,
  encodeIndexFile,
  INDEX_BLOCK_BYTES,
  type IndexHeader,
  indexFileBytes,
  POSTINGS_A_BLOCK,
  postingBlockPlace,
  type SparseEntry,
  sparseBlockPlace,
  type VchannelEntry,
  vchannelBlockPlace,
  verifyPostings,
} from '../format/index-blocks.ts'
import { vchannelNameHash } from '../format/vchannel-names.ts'
import { ascendingPositions, type IndexPoint, type SegmentIndex, type SegmentIndexBuilder } from './sparse-index.ts'

const CACHED_BLOCKS_MAX = 32
const HASHES = 2 ** 64

/** What an index has to be of. */
export interface IndexKey {
  segmentId: string
  end: number
  chain: bigint
  /** Of the segment. */
  salt: bigint
}

/** The segment that an index is written for, as it ends. */
export interface IndexedEnd {
  position: number
  chain: bigint
  nextLsn: number
  /** 0n: none was given. */
  lastTimeTick: bigint
}

/** The index is not what it should be: it has to be rebuilt. Never leaves the engine. */
export class IndexDamage extends Error {
  constructor(cause: unknown) {
    super(`the index is damaged: ${cause instanceof Error ? cause.message : cause}`, { cause })
    this.name = 'IndexDamage'
  }
}

export function indexNameOf(segmentName: string): string {
  return segmentName.replace(/\.seg$/, '.idx')
}

export function encodeIndex(builder: SegmentIndexBuilder, segmentId: string, end: IndexedEnd): Buffer {
  const sparse: SparseEntry[] = []
  for (let i = 0; i < builder.sparseCount; i++) sparse.push(builder.sparseEntry(i)!)
  const postings = new Map<bigint, number[]>()
  for (const name of builder.names()) {
    const hash = vchannelNameHash(name)
    const positions = builder.postingsOf(name)
    const sameHash = postings.get(hash)
    postings.set(hash, sameHash === undefined ? positions : [...ascendingPositions([...sameHash, ...positions])])
  }
  return encodeIndexFile({
    segmentId,
    salt: builder.salt,
    end: end.position,
    chain: end.chain,
    nextLsn: end.nextLsn,
    lastTimeTick: end.lastTimeTick,
    records: builder.records,
    sparse,
    postings,
  })
}

/**
 * Writes the index of a sealed segment under its name, replacing what is there. False: it could not be written, which
 * is nobody's failure; it is rebuilt when somebody needs it. `mayName` is asked last.
 */
export async function writeIndexFile(
  log: { readonly environment: Environment; readonly directory: string },
  segment: { readonly id: string; readonly name: string },
  builder: SegmentIndexBuilder,
  end: IndexedEnd,
  mayName: () => boolean = () => true,
): Promise<boolean> {
  const { disk } = log.environment
  const path = `${log.directory}/${indexNameOf(segment.name)}`
  // Names of temporary files end in `.idx.tmp`; an open of the log may remove what is left of them.
  const temporary = `${path}.tmp`
  let file: DiskFile | undefined
  try {
    await loadChecksum()
    const bytes = encodeIndex(builder, segment.id, end)
    await disk.unlink(temporary).catch(() => undefined)
    file = await disk.create(temporary)
    await file.write(bytes, 0)
    // Not for safety: so that a power loss leaves no torn index, which would look like damage.
    await file.sync()
    await file.close()
    if (mayName()) {
      await disk.rename(temporary, path)
      return true
    }
    await disk.unlink(temporary)
    return false
  } catch {
    await file?.close().catch(() => undefined)
    await disk.unlink(temporary).catch(() => undefined)
    return false
  }
}

export class SegmentIndexFile implements SegmentIndex {
  readonly header: IndexHeader
  readonly #environment: Environment
  readonly #path: string
  readonly #salt: bigint
  /** Decoded blocks by position, the one used last at the end. */
  readonly #blocks = new Map<number, unknown>()
  #file: DiskFile | undefined
  #users = 0

  private constructor(environment: Environment, path: string, salt: bigint, header: IndexHeader) {
    this.#environment = environment
    this.#path = path
    this.#salt = salt
    this.header = header
  }

  /** Null when there is no index at `path` that is of this segment, end and chain. */
  static async open(environment: Environment, path: string, key: IndexKey): Promise<SegmentIndexFile | null> {
    await loadChecksum()
    let file: DiskFile | undefined
    try {
      file = await environment.disk.open(path, 'read')
      const block = Buffer.allocUnsafeSlow(INDEX_BLOCK_BYTES)
      const length = await file.read(block, 0, block.length, 0)
      const header = decodeIndexHeader(block.subarray(0, length), key.salt)
      const fits = header.segmentId === key.segmentId && header.end === key.end && header.chain === key.chain
      if (!fits || (await file.size()) !== indexFileBytes(header)) return null
      return new SegmentIndexFile(environment, path, key.salt, header)
    } catch {
      return null
    } finally {
      await file?.close().catch(() => undefined)
    }
  }

  /** Throws IndexDamage. */
  async frameAtOrBefore(lsn: number): Promise<IndexPoint | null> {
    return await this.#lookUp(() => this.#lastSparse((entry) => entry.baseLsn <= lsn))
  }

  /** Throws IndexDamage. */
  async frameForTick(tick: bigint): Promise<IndexPoint | null> {
    return await this.#lookUp(() => this.#lastSparse((entry) => entry.baseTimeTick <= tick))
  }

  /** Throws IndexDamage. */
  async postings(names: readonly string[], fromPosition: number): Promise<Float64Array> {
    return await this.#lookUp(async () => {
      const found: number[] = []
      const hashes = new Set([...names, ''].map(vchannelNameHash))
      for (const hash of hashes) {
        const entry = await this.#vchannel(hash)
        if (entry === null) continue
        for (const position of await this.#postingsOf(entry)) if (position >= fromPosition) found.push(position)
      }
      return ascendingPositions(found)
    })
  }

  /** Frames that hold a record or are a gap: each stands in the postings of its names. Throws IndexDamage. */
  async countFrames(): Promise<number> {
    return await this.#lookUp(async () => {
      const { postingBlocks, postingCount } = this.header
      const positions = new Float64Array(postingCount)
      let count = 0
      for (let block = 0; block < postingBlocks; block++) {
        const stored = await this.#postingBlock(block)
        positions.set(stored, count)
        count += stored.length
      }
      return ascendingPositions(positions.subarray(0, count)).length
    })
  }

  /** The file is open for the time of a look-up only. */
  async #lookUp<T>(work: () => Promise<T>): Promise<T> {
    this.#users++
    try {
      return await work()
    } catch (error) {
      throw new IndexDamage(error)
    } finally {
      if (--this.#users === 0) {
        const file = this.#file
        this.#file = undefined
        await file?.close().catch(() => undefined)
      }
    }
  }

  /** The last entry that is `before`, or the first one; null: there is none. All that are come before all that are not. */
  async #lastSparse(before: (entry: SparseEntry) => boolean): Promise<IndexPoint | null> {
    const { sparseBlocks } = this.header
    if (sparseBlocks === 0) return null
    let low = 0
    let high = sparseBlocks - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      const [first] = await this.#sparseBlock(middle)
      if (before(first!)) low = middle
      else high = middle - 1
    }
    const entries = await this.#sparseBlock(low)
    return entries.findLast(before) ?? entries[0]!
  }

  /** By interpolation: the hashes are evenly spread. */
  async #vchannel(hash: bigint): Promise<VchannelEntry | null> {
    let low = 0
    let high = this.header.vchannelBlocks - 1
    let guess = Math.floor((Number(hash) / HASHES) * this.header.vchannelBlocks)
    for (let probes = 1; low <= high; probes++) {
      guess = Math.min(high, Math.max(low, guess))
      const entries = await this.#vchannelBlock(guess)
      const isBelow = hash < entries[0]!.nameHash
      if (isBelow) high = guess - 1
      else if (hash > entries.at(-1)!.nameHash) low = guess + 1
      else return entries.find((entry) => entry.nameHash === hash) ?? null
      // The neighbours first, then halves.
      guess = probes <= 3 ? (isBelow ? high : low) : (low + high) >>> 1
    }
    return null
  }

  async #postingsOf(entry: VchannelEntry): Promise<number[]> {
    const positions: number[] = []
    const end = entry.firstPosting + entry.postings
    for (let at = entry.firstPosting; at < end; ) {
      const block = Math.floor(at / POSTINGS_A_BLOCK)
      const stored = await this.#postingBlock(block)
      const from = at - block * POSTINGS_A_BLOCK
      const part = stored.slice(from, from + end - at)
      if (part.length === 0) throw new Error('the postings of an entry lie beyond the others')
      for (const position of part) positions.push(position)
      at += part.length
    }
    if (!verifyPostings(entry, positions)) throw new Error('the postings of an entry do not have their hash')
    return positions
  }

  #sparseBlock(block: number): Promise<SparseEntry[]> {
    return this.#block(sparseBlockPlace(this.header, block), decodeSparseBlock)
  }

  #vchannelBlock(block: number): Promise<VchannelEntry[]> {
    return this.#block(vchannelBlockPlace(this.header, block), decodeVchannelBlock)
  }

  #postingBlock(block: number): Promise<number[]> {
    return this.#block(postingBlockPlace(this.header, block), decodePostingsBlock)
  }

  async #block<T>(place: BlockPlace, decode: (block: Buffer, salt: bigint, place: BlockPlace) => T): Promise<T> {
    const { position } = place
    let entries = this.#blocks.get(position) as T | undefined
    if (entries === undefined) {
      this.#file ??= await this.#environment.disk.open(this.#path, 'read')
      const bytes = Buffer.allocUnsafe(INDEX_BLOCK_BYTES)
      const length = await this.#file.read(bytes, 0, bytes.length, position)
      entries = decode(bytes.subarray(0, length), this.#salt, place)
    }
    this.#blocks.delete(position)
    this.#blocks.set(position, entries)
    if (this.#blocks.size > CACHED_BLOCKS_MAX) this.#blocks.delete(this.#blocks.keys().next().value!)
    return entries
  }
}
