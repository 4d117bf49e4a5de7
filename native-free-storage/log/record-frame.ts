/**
 * What a reader gets: frames, and the records in them.
 *
 * A frame holds views of the bytes that were read or cached; they stay valid as long as they are held, and nothing
 * writes to them. A view keeps the read it came from in memory (about 1 MiB): who keeps single records for long copies
 * them.
 */
import { TidelogError } from '../errors.ts'
import type { BodyHead } from '../format/body-head.ts'
import { FormatError } from '../format/format-error.ts'
import { type FrameHeader, lastTickOf } from '../format/frame-header.ts'
import type { GapReason } from '../format/gap.ts'
import type { NodeSection } from '../format/node-section.ts'
import { decodeProperties } from '../format/properties.ts'

export type FrameType = 'records' | 'gap' | 'tick'

export interface FrameGap {
  readonly firstLsn: number
  readonly count: number
  readonly reason: GapReason
}

/** Which records of a frame a reader wants. */
export interface Selection {
  /** Records before it are below the start of the read. */
  readonly firstIndex: number
  /** Records from it on are not wanted; left out: to the end of the frame. */
  readonly endIndex?: number
  /** Byte i is 1: records of vchannel i are wanted. Null: all are. */
  readonly vchannels: Uint8Array | null
  readonly types: ReadonlySet<number> | null
}

export interface RecordFrameParts {
  readonly type: FrameType
  /** File name in the log's directory. */
  readonly file: string
  readonly header: FrameHeader
  readonly nextLsn: number
  readonly gap: FrameGap | null
  readonly head: BodyHead | null
  /** The whole body, verified in all its sections; null when some were left out. */
  readonly body: Buffer | null
  /** Without padding; null where a section was left out. Only where `body` is null. */
  readonly sections: readonly (Buffer | null)[] | null
  readonly nodeBytes: Buffer
  readonly node: NodeSection | null
  readonly selection: Selection
}

const NO_PROPERTIES: Readonly<Record<string, string>> = Object.freeze(Object.create(null))

export class RecordFrame implements Iterable<LogRecord> {
  /** `gap`: LSNs that were skipped. `tick`: a stored time tick. Both have no records. */
  readonly kind: FrameType
  /** The file that the frame stands in, and where: for tools and messages. */
  readonly file: string
  readonly position: number
  readonly ownerTerm: number
  readonly incarnation: number
  readonly baseLsn: number
  /** Of the last record, or the last LSN skipped; of a tick the LSN before it. */
  readonly lastLsn: number
  readonly baseTimeTick: bigint
  readonly recordCount: number
  readonly gap: FrameGap | null
  /** The verified head of the body (directory, names, table); null where there is no body. */
  readonly head: BodyHead | null
  /** The whole body as the producer encoded it; null where sections were left out, or there is none. */
  readonly body: Buffer | null
  readonly bodyHash: bigint
  readonly bodyLength: number
  readonly nodeSection: Buffer
  readonly nodeHash: bigint
  readonly #header: FrameHeader
  readonly #sections: (Buffer | null | undefined)[] | null
  readonly #node: NodeSection | null
  readonly #selection: Selection
  /** Of the records that may be wanted. */
  readonly #end: number

  constructor(parts: RecordFrameParts) {
    const { header } = parts
    this.kind = parts.type
    this.file = parts.file
    this.position = header.position
    this.ownerTerm = header.ownerTerm
    this.incarnation = header.incarnation
    this.baseLsn = header.baseLsn
    this.lastLsn = parts.nextLsn - 1
    this.baseTimeTick = header.baseTimeTick
    this.recordCount = header.recordCount
    this.gap = parts.gap
    this.head = parts.head
    this.body = parts.body
    this.bodyHash = header.bodyHash
    this.bodyLength = header.bodyLength
    this.nodeSection = parts.nodeBytes
    this.nodeHash = header.nodeHash
    this.#header = header
    this.#sections = parts.head === null ? null : parts.sections === null ? [] : [...parts.sections]
    this.#node = parts.node
    this.#selection = parts.selection
    this.#end = Math.min(header.recordCount, parts.selection.endIndex ?? header.recordCount)
  }

  /** Of the last record, or the tick itself. */
  get lastTimeTick(): bigint {
    return lastTickOf(this.#header)
  }

  /** Where a reader goes on that has taken this frame. */
  get next(): { lsn: number } {
    return { lsn: this.lastLsn + 1 }
  }

  /** Stored bytes of section `index` without padding; null when it was left out. */
  section(index: number): Buffer | null {
    const { head, body } = this
    if (head === null || this.#sections === null || index >= head.vchannelCount) return null
    const known = this.#sections[index]
    if (known !== undefined || body === null) return known ?? null
    const start = head.sectionOffset(index)
    const bytes = body.subarray(start, start + head.sectionLength(index))
    this.#sections[index] = bytes
    return bytes
  }

  /** Whether the iteration gives at least one record. */
  hasWanted(): boolean {
    return this.#nextWanted(this.#selection.firstIndex) < this.#end
  }

  /** The records that were asked for, without the void ones, in LSN order. */
  *[Symbol.iterator](): Generator<LogRecord, void, undefined> {
    const { head } = this
    if (head === null) return
    const offsets = head.rowOffsets()
    for (let index = this.#nextWanted(this.#selection.firstIndex); index < this.#end; ) {
      yield new LogRecord(this, head, index, offsets[index]!)
      index = this.#nextWanted(index + 1)
    }
  }

  /** Decided by the table and the node section alone. */
  #nextWanted(from: number): number {
    const { head } = this
    const end = this.#end
    if (head === null) return end
    const { vchannels, types } = this.#selection
    const node = this.#node
    const voids = node?.hasVoids ? node : null
    if (vchannels === null && types === null && voids === null) return from
    for (let index = from; index < end; index++) {
      if (vchannels !== null && vchannels[head.vchannelIndex(index)] === 0) continue
      if (types !== null && !types.has(head.type(index))) continue
      if (voids?.isVoid(index)) continue
      return index
    }
    return end
  }
}

/** One record. What is behind a getter is decoded when it is asked for. */
export class LogRecord {
  readonly lsn: number
  /** In its frame, from 0. */
  readonly index: number
  readonly #frame: RecordFrame
  readonly #head: BodyHead
  readonly #offset: number
  #payload: Buffer | undefined
  #properties: Readonly<Record<string, string>> | undefined

  constructor(frame: RecordFrame, head: BodyHead, index: number, offset: number) {
    this.lsn = frame.baseLsn + index
    this.index = index
    this.#frame = frame
    this.#head = head
    this.#offset = offset
  }

  get timeTick(): bigint {
    return this.#frame.baseTimeTick + BigInt(this.index)
  }

  /** Empty: the record belongs to every vchannel of the log. */
  get vchannel(): string {
    return this.#head.vchannels[this.#head.vchannelIndex(this.index)]!
  }

  get type(): number {
    return this.#head.type(this.index)
  }

  /** A null payload is another thing than an empty one; `payload` is empty for both. */
  get isNull(): boolean {
    return this.#head.hasNullPayload(this.index)
  }

  /** A view; must not be written to. */
  get payload(): Uint8Array {
    if (this.#payload === undefined) {
      const start = this.#offset + this.#head.propertiesLength(this.index)
      this.#payload = this.#section().subarray(start, start + this.#head.payloadLength(this.index))
    }
    return this.#payload
  }

  /** Throws FRAME_DAMAGED when they break the format behind a right hash. */
  get properties(): Readonly<Record<string, string>> {
    this.#properties ??= this.#decodeProperties()
    return this.#properties
  }

  #decodeProperties(): Readonly<Record<string, string>> {
    const length = this.#head.propertiesLength(this.index)
    if (length === 0) return NO_PROPERTIES
    try {
      return decodeProperties(this.#section().subarray(this.#offset, this.#offset + length))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      const { file, position } = this.#frame
      const { lsn } = this
      const message = `the record with LSN ${lsn} in the frame at position ${position} of ${file} is damaged: ${error.message}`
      throw new TidelogError('FRAME_DAMAGED', message, { file, position, lsn, lsnFrom: lsn, lsnTo: lsn, cause: error })
    }
  }

  #section(): Buffer {
    const section = this.#frame.section(this.#head.vchannelIndex(this.index))
    if (section === null) throw new Error('invariant broken: a wanted record has no section')
    return section
  }
}
