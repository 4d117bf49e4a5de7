/**
 * Writes one segment file: flushes at adjacent positions, several under way at once, each durable in order. Knows
 * positions, the chain and the durable position; knows nothing of records.
 */
import { DiskError, type DiskFile } from '../disk/disk.ts'
import { assert } from '../errors.ts'
import { type FrameHeader, FrameKind, lastTickOf } from '../format/frame-header.ts'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import type { LogDurability } from '../log/log-options.ts'

export type WriteMode = 'dsync' | 'fdatasync'

/** What the seal says of the file. */
export interface SegmentTally {
  frames: number
  records: number
  /** 0n: no record. */
  firstTimeTick: bigint
  /** 0n: none was given in the file. */
  lastTimeTick: bigint
}

export class SegmentWriter {
  readonly header: SegmentHeader
  readonly file: DiskFile
  /** Bytes that the file may have, the seal included. */
  readonly capacity: number
  readonly #durability: LogDurability
  readonly #mode: WriteMode
  /** Where the next flush begins: a multiple of the alignment. */
  #position: number
  #chain: bigint
  #durablePosition: number
  readonly #tally: SegmentTally = { frames: 0, records: 0, firstTimeTick: 0n, lastTimeTick: 0n }
  readonly headerChecksum: bigint

  constructor(options: {
    header: SegmentHeader
    headerChecksum: bigint
    file: DiskFile
    capacity: number
    durability: LogDurability
    mode: WriteMode
  }) {
    this.header = options.header
    this.file = options.file
    this.capacity = options.capacity
    this.#durability = options.durability
    this.#mode = options.mode
    this.#position = SEGMENT_HEADER_BYTES
    this.#durablePosition = SEGMENT_HEADER_BYTES
    this.headerChecksum = options.headerChecksum
    this.#chain = options.headerChecksum
  }

  get position(): number {
    return this.#position
  }

  get chain(): bigint {
    return this.#chain
  }

  /** What frames may claim: the end of the contiguous synced prefix. */
  get durablePosition(): number {
    return this.#durablePosition
  }

  get tally(): Readonly<SegmentTally> {
    return this.#tally
  }

  /** Bytes that a flush may still take, the room for the seal kept. */
  get room(): number {
    return this.capacity - this.header.alignment - this.#position
  }

  /** Counts a frame of the flush that is being built. */
  count(header: FrameHeader): void {
    const tally = this.#tally
    tally.frames++
    tally.records += header.recordCount
    if (header.kind === FrameKind.records && tally.firstTimeTick === 0n) tally.firstTimeTick = header.baseTimeTick
    if (header.kind === FrameKind.records || header.kind === FrameKind.timeTick) tally.lastTimeTick = lastTickOf(header)
  }

  /** Moves behind a flush that is about to be written. */
  advance(bytes: number, chain: bigint): void {
    assert(bytes > 0 && bytes % this.header.alignment === 0, 'a flush fills whole blocks of the alignment')
    this.#position += bytes
    this.#chain = chain
  }

  /** Writes a flush at its position: settles when it is durable at the log's level. */
  async write(bytes: Buffer, position: number): Promise<void> {
    await this.file.write(bytes, position)
    if (this.#durability !== 'disk' || this.#mode !== 'fdatasync') return
    // Also for want of room: the bytes are in the cache, and may come to light. Not a refusal.
    await syncOnce(this.file)
  }

  /** Writes the seal behind the last flush, durably at every level. */
  async writeSeal(bytes: Buffer): Promise<void> {
    await this.file.write(bytes, this.#position)
    if (this.#durability === 'os' || this.#mode === 'fdatasync') await this.file.sync()
  }

  /** All flushes up to here are durable, in order. */
  markDurable(position: number): void {
    assert(position >= this.#durablePosition, 'the durable position only grows')
    if (this.#durability === 'disk') this.#durablePosition = position
  }

  /** What was written is durable when it settles, at every level: for what the recovery copies. */
  async syncWritten(): Promise<void> {
    if (this.#durability === 'os') await this.file.sync()
  }

  /** At level `os`: makes what was written durable, so that a seal may say so. */
  async syncAll(): Promise<void> {
    if (this.#durability === 'os') await syncOnce(this.file)
    this.#durablePosition = this.#position
  }
}

/** A sync that fails is not tried again, whatever the reason: the next one would succeed without what this one dropped. */
export async function syncOnce(file: DiskFile): Promise<void> {
  try {
    await file.sync()
  } catch (cause) {
    throw new DiskError('EIO', 'sync', file.path, { cause })
  }
}
