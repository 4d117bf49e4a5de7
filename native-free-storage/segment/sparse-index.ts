/**
 * The sparse index of one segment while it is written: LSN and time tick to position, and for each vchannel the
 * frames that hold records of it. `index-file.ts` is the same on disk.
 *
 * The writer calls `addFrame` for each frame on its hot path, so a frame costs a few stores in growing arrays: the
 * postings of all names lie in one list, each linked to the one before of its name.
 */
import { FRAME_STEP_BYTES, FrameKind } from '../format/frame-header.ts'
import { SPARSE_STEP_BYTES } from '../format/index-blocks.ts'

/** A frame to begin a scan at. */
export interface IndexPoint {
  readonly position: number
  readonly baseLsn: number
  readonly baseTimeTick: bigint
}

/** A look-up in the index of one segment, in memory or on disk. */
export interface SegmentIndex {
  /** The last indexed frame whose base LSN is at or below `lsn`; the first frame when there is none; null: no frame. */
  frameAtOrBefore(lsn: number): IndexPoint | null | Promise<IndexPoint | null>
  /** The last indexed frame whose base time tick is at or below `tick`: every record at or above `tick` follows. */
  frameForTick(tick: bigint): IndexPoint | null | Promise<IndexPoint | null>
  /**
   * Positions, ascending, of the frames at or behind `fromPosition` that may hold a record of one of the names: those
   * of names with the same hash are among them. Frames of the empty name and gap frames count for every name.
   */
  postings(names: readonly string[], fromPosition: number): Float64Array | Promise<Float64Array>
}

export interface IndexedFrame {
  position: number
  baseLsn: number
  baseTimeTick: bigint
  recordCount: number
  kind: FrameKind
  /** The names in the frame's directory, each once. */
  vchannels: readonly string[]
}

export class SegmentIndexBuilder implements SegmentIndex {
  readonly salt: bigint
  #sparseCount = 0
  #sparsePositions = new Float64Array(64)
  #sparseLsns = new Float64Array(64)
  #sparseTicks = new BigUint64Array(64)
  #nextSparsePosition = 0

  readonly #slots = new Map<string, number>()
  /** Of each slot: the number of its newest posting. */
  #newest = new Int32Array(16)
  #postingCount = 0
  /** Positions divided by 8. */
  #postings = new Uint32Array(256)
  /** The number of the posting before it of the same name, or -1. */
  #previous = new Int32Array(256)
  #lastName: string | undefined
  #lastSlot = 0
  #records = 0

  constructor(salt: bigint) {
    this.salt = salt
  }

  get sparseCount(): number {
    return this.#sparseCount
  }

  get vchannelCount(): number {
    return this.#slots.size
  }

  get postingCount(): number {
    return this.#postingCount
  }

  /** Records in the frames added. */
  get records(): number {
    return this.#records
  }

  /** Frames are added in the order of the file. */
  addFrame(frame: IndexedFrame): void {
    const { position, vchannels } = frame
    this.#records += frame.recordCount
    if (position >= this.#nextSparsePosition) this.#addSparse(frame)
    if (frame.kind === FrameKind.records) {
      for (let i = 0; i < vchannels.length; i++) this.#addPosting(vchannels[i]!, position)
    } else if (frame.kind === FrameKind.gap) {
      // So that a reader of some vchannels, which goes by the postings, is told of the gap.
      this.#addPosting('', position)
    }
  }

  frameAtOrBefore(lsn: number): IndexPoint | null {
    let low = 0
    let high = this.#sparseCount
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#sparseLsns[middle]! <= lsn) low = middle + 1
      else high = middle
    }
    return this.sparseEntry(Math.max(0, low - 1))
  }

  frameForTick(tick: bigint): IndexPoint | null {
    let low = 0
    let high = this.#sparseCount
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#sparseTicks[middle]! <= tick) low = middle + 1
      else high = middle
    }
    return this.sparseEntry(Math.max(0, low - 1))
  }

  postings(names: readonly string[], fromPosition: number): Float64Array {
    const found: number[] = []
    const wanted = new Set(names).add('')
    for (const name of wanted) {
      const slot = this.#slots.get(name)
      if (slot !== undefined) this.#collect(slot, fromPosition, found)
    }
    return ascendingPositions(found)
  }

  sparseEntry(index: number): IndexPoint | null {
    if (index >= this.#sparseCount) return null
    return {
      position: this.#sparsePositions[index]!,
      baseLsn: this.#sparseLsns[index]!,
      baseTimeTick: this.#sparseTicks[index]!,
    }
  }

  names(): IterableIterator<string> {
    return this.#slots.keys()
  }

  /** Positions of the frames of one name, ascending. */
  postingsOf(name: string): number[] {
    const slot = this.#slots.get(name)
    const found: number[] = []
    if (slot !== undefined) this.#collect(slot, 0, found)
    return found.reverse()
  }

  /** Newest first. */
  #collect(slot: number, fromPosition: number, into: number[]): void {
    for (let at = this.#newest[slot]!; at >= 0; at = this.#previous[at]!) {
      const position = this.#postings[at]! * FRAME_STEP_BYTES
      if (position < fromPosition) return
      into.push(position)
    }
  }

  #addSparse(frame: IndexedFrame): void {
    const at = this.#sparseCount
    if (at === this.#sparsePositions.length) {
      this.#sparsePositions = grown(this.#sparsePositions, new Float64Array(at * 2))
      this.#sparseLsns = grown(this.#sparseLsns, new Float64Array(at * 2))
      const ticks = new BigUint64Array(at * 2)
      ticks.set(this.#sparseTicks)
      this.#sparseTicks = ticks
    }
    this.#sparsePositions[at] = frame.position
    this.#sparseLsns[at] = frame.baseLsn
    this.#sparseTicks[at] = frame.baseTimeTick
    this.#sparseCount = at + 1
    this.#nextSparsePosition = frame.position + SPARSE_STEP_BYTES
  }

  #addPosting(name: string, position: number): void {
    const at = this.#postingCount
    if (at === this.#postings.length) {
      this.#postings = grown(this.#postings, new Uint32Array(at * 2))
      this.#previous = grown(this.#previous, new Int32Array(at * 2))
    }
    const slot = name === this.#lastName ? this.#lastSlot : this.#slotOf(name)
    this.#postings[at] = position / FRAME_STEP_BYTES
    this.#previous[at] = this.#newest[slot]!
    this.#newest[slot] = at
    this.#postingCount = at + 1
  }

  #slotOf(name: string): number {
    let slot = this.#slots.get(name)
    if (slot === undefined) {
      slot = this.#slots.size
      if (slot === this.#newest.length) this.#newest = grown(this.#newest, new Int32Array(slot * 2))
      this.#newest[slot] = -1
      this.#slots.set(name, slot)
    }
    this.#lastName = name
    this.#lastSlot = slot
    return slot
  }
}

/** From positions in any order, with repetitions. */
export function ascendingPositions(positions: ArrayLike<number>): Float64Array {
  const sorted = Float64Array.from(positions).sort()
  let count = 0
  for (let i = 0; i < sorted.length; i++) {
    const position = sorted[i]!
    if (count === 0 || sorted[count - 1] !== position) sorted[count++] = position
  }
  return sorted.subarray(0, count)
}

function grown<T extends Float64Array | Uint32Array | Int32Array>(from: T, to: T): T {
  to.set(from)
  return to
}
