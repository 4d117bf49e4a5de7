/**
 * A frame of an open transaction, copied out of what was read: a view would keep the whole read (1 MiB) in memory for a
 * frame of a few bytes. It has the section of the transaction's vchannel alone.
 */
import {
  type BodyHead,
  decodeNodeSection,
  decodeProperties,
  type NodeSection,
  openBodyHead,
} from '../../../native-free-storage/index.ts'
import type { LogStoreRecord, StoreFrame } from '../../log-store/log-store.ts'

/** What the objects of a held frame cost beside its bytes. */
const OVERHEAD_BYTES = 512
/** Frames up to here are kept whole, however little of them belongs to the transaction. */
const SMALL_BYTES = 1_024

/**
 * Null when less than half of what would be kept belongs to the transaction: such frames are read again. `bodyBytes`: of
 * the transaction's records in it, with their rows.
 */
export function holdFrame(frame: StoreFrame, section: number, bodyBytes: number): HeldFrame | null {
  const head = frame.head!
  const bytes = frame.section(section)
  if (bytes === null) return null
  const kept = head.headLength + bytes.length + frame.nodeSection.length
  return kept > SMALL_BYTES && kept > 2 * bodyBytes ? null : new HeldFrame(frame, section, bytes)
}

class HeldFrame implements StoreFrame {
  readonly kind = 'records'
  readonly gap = null
  readonly baseLsn: number
  readonly lastLsn: number
  readonly baseTimeTick: bigint
  readonly lastTimeTick: bigint
  readonly recordCount: number
  readonly head: BodyHead
  readonly bodyHash: bigint
  readonly bodyLength: number
  readonly nodeSection: Uint8Array
  readonly nodeHash: bigint
  /** Of memory that it takes. */
  readonly heldBytes: number
  readonly #index: number
  readonly #section: Uint8Array
  readonly #node: NodeSection | null

  constructor(frame: StoreFrame, index: number, section: Uint8Array) {
    this.baseLsn = frame.baseLsn
    this.lastLsn = frame.lastLsn
    this.baseTimeTick = frame.baseTimeTick
    this.lastTimeTick = frame.lastTimeTick
    this.recordCount = frame.recordCount
    this.bodyHash = frame.bodyHash
    this.bodyLength = frame.bodyLength
    this.nodeHash = frame.nodeHash
    const { headLength, bytes } = frame.head!
    const nodeLength = frame.nodeSection.length
    // A buffer of its own: a small one of the shared pool would keep the pool.
    const copy = Buffer.from(new ArrayBuffer(headLength + section.length + nodeLength))
    copy.set(bytes)
    copy.set(section, headLength)
    copy.set(frame.nodeSection, headLength + section.length)
    this.head = openBodyHead(copy.subarray(0, headLength), this.bodyLength, this.recordCount, null)
    this.#index = index
    this.#section = copy.subarray(headLength, headLength + section.length)
    this.nodeSection = copy.subarray(headLength + section.length)
    this.#node = nodeLength === 0 ? null : decodeNodeSection(this.nodeSection, this.recordCount)
    this.heldBytes = copy.length + OVERHEAD_BYTES
  }

  get next(): { lsn: number } {
    return { lsn: this.lastLsn + 1 }
  }

  section(index: number): Uint8Array | null {
    return index === this.#index ? this.#section : null
  }

  *[Symbol.iterator](): Generator<LogStoreRecord, void, undefined> {
    const { head } = this
    const offsets = head.rowOffsets()
    for (let row = 0; row < this.recordCount; row++) {
      if (head.vchannelIndex(row) !== this.#index || this.#node?.isVoid(row) === true) continue
      const start = offsets[row]!
      const payload = start + head.propertiesLength(row)
      yield {
        lsn: this.baseLsn + row,
        timeTick: this.baseTimeTick + BigInt(row),
        vchannel: head.vchannels[this.#index]!,
        type: head.type(row),
        properties: payload === start ? {} : decodeProperties(this.#section.subarray(start, payload)),
        payload: this.#section.subarray(payload, payload + head.payloadLength(row)),
      }
    }
  }
}

export type { HeldFrame }
