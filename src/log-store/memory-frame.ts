/** A frame of the in-memory store: one copy of the body, seen by any number of readers through their own filters. */
import {
  type BodyHead,
  decodeNodeSection,
  decodeProperties,
  hash64,
  type NodeSection,
} from '../../native-free-storage/index.ts'
import type { LogStoreRecord, StoreFrame } from './log-store.ts'

const noBytes = new Uint8Array(0)

export interface MemoryFrameParts {
  readonly baseLsn: number
  readonly baseTimeTick: bigint
  readonly recordCount: number
  readonly head: BodyHead
  readonly bytes: Buffer
  readonly hash: bigint
  readonly nodeSection: Buffer
}

/** What is kept: never changed once it is durable. */
export interface MemoryFrame extends MemoryFrameParts {
  readonly nodeHash: bigint
  /** Null: no record is void. */
  readonly voids: NodeSection | null
}

export function createMemoryFrame(parts: MemoryFrameParts): MemoryFrame {
  const { nodeSection, recordCount } = parts
  if (nodeSection.length === 0) return { ...parts, nodeHash: 0n, voids: null }
  return { ...parts, nodeHash: hash64(nodeSection), voids: decodeNodeSection(nodeSection, recordCount) }
}

/** What a reader asked for. `null` means everything. */
export interface FrameFilter {
  /** With the empty name in it: its records belong to every vchannel. */
  vchannels: ReadonlySet<string> | null
  types: ReadonlySet<number> | null
  /** Records below it are left out of the frame's iteration. */
  fromLsn: number
}

export function createFilter(
  vchannels: readonly string[] | undefined,
  types: readonly number[] | undefined,
  fromLsn: number,
): FrameFilter {
  return {
    vchannels: vchannels === undefined ? null : new Set([...vchannels, '']),
    types: types === undefined ? null : new Set(types),
    fromLsn,
  }
}

/** Whether row `row` of the frame is one that the reader asked for. */
function wants(frame: MemoryFrame, filter: FrameFilter, row: number): boolean {
  const { head } = frame
  if (frame.baseLsn + row < filter.fromLsn || frame.voids?.isVoid(row)) return false
  if (filter.types !== null && !filter.types.has(head.type(row))) return false
  return filter.vchannels === null || filter.vchannels.has(head.vchannels[head.vchannelIndex(row)]!)
}

/** Whether the frame holds any record that the reader asked for. */
export function holdsWanted(frame: MemoryFrame, filter: FrameFilter): boolean {
  for (let row = 0; row < frame.recordCount; row++) if (wants(frame, filter, row)) return true
  return false
}

/** One reader's view of a frame. */
export class MemoryFrameView implements StoreFrame {
  readonly kind = 'records'
  readonly gap = null
  readonly #frame: MemoryFrame
  readonly #filter: FrameFilter

  constructor(frame: MemoryFrame, filter: FrameFilter) {
    this.#frame = frame
    this.#filter = filter
  }

  get next(): { lsn: number } {
    return { lsn: this.lastLsn + 1 }
  }

  get baseLsn(): number {
    return this.#frame.baseLsn
  }

  get lastLsn(): number {
    return this.#frame.baseLsn + this.#frame.recordCount - 1
  }

  get baseTimeTick(): bigint {
    return this.#frame.baseTimeTick
  }

  get lastTimeTick(): bigint {
    return this.#frame.baseTimeTick + BigInt(this.#frame.recordCount - 1)
  }

  get recordCount(): number {
    return this.#frame.recordCount
  }

  get head(): BodyHead {
    return this.#frame.head
  }

  get bodyHash(): bigint {
    return this.#frame.hash
  }

  get bodyLength(): number {
    return this.#frame.bytes.length
  }

  get nodeSection(): Uint8Array {
    return this.#frame.nodeSection
  }

  get nodeHash(): bigint {
    return this.#frame.nodeHash
  }

  section(index: number): Uint8Array | null {
    const { head, bytes } = this.#frame
    const name = head.vchannels[index]
    if (name === undefined) return null
    if (this.#filter.vchannels !== null && !this.#filter.vchannels.has(name)) return null
    const start = head.sectionOffset(index)
    return bytes.subarray(start, start + head.sectionLength(index))
  }

  *[Symbol.iterator](): Iterator<LogStoreRecord> {
    const frame = this.#frame
    const { head, bytes } = frame
    // Where the next record of each vchannel begins in the body.
    const cursors = new Float64Array(head.vchannels.length)
    for (let index = 0; index < cursors.length; index++) cursors[index] = head.sectionOffset(index)
    for (let row = 0; row < frame.recordCount; row++) {
      const index = head.vchannelIndex(row)
      const start = cursors[index]!
      const payloadStart = start + head.propertiesLength(row)
      const end = payloadStart + head.payloadLength(row)
      cursors[index] = end
      if (!wants(frame, this.#filter, row)) continue
      yield {
        lsn: frame.baseLsn + row,
        timeTick: frame.baseTimeTick + BigInt(row),
        vchannel: head.vchannels[index]!,
        type: head.type(row),
        properties: payloadStart === start ? {} : decodeProperties(bytes.subarray(start, payloadStart)),
        payload: head.hasNullPayload(row) ? noBytes : bytes.subarray(payloadStart, end),
      }
    }
  }
}
