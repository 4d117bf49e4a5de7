/**
 * A frame as it came, or a part of a transaction: verified whole before anything of it is delivered, decoded record by
 * record as it is iterated.
 */
import {
  type BodyHead,
  decodeContext,
  decodeNodeSection,
  decodeProperties,
  FormatError,
  hash64,
  type NodeSection,
  openBodyHead,
  verifySection,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { isSystemType } from '../message/message-type.ts'
import type { TransactionPart, WireFrame } from '../protocol/consume-messages.ts'
import { paddedTo8 } from '../protocol/u64.ts'
import { ReceivedRecord } from './received-record.ts'
import type { ConsumedRecord, RecordPosition } from './types.ts'

const NO_BYTES = new Uint8Array(0)
const NO_PROPERTIES: Readonly<Record<string, string>> = Object.freeze(Object.create(null))

/** Which records of a frame were asked for. */
export interface RecordFilter {
  names: ReadonlySet<string>
  types: ReadonlySet<number> | null
  /** Records below it were delivered before, or not asked for. */
  fromLsn: number
  fromTick: bigint
  /** Records at or above it are not asked for. */
  untilLsn: number
}

/** Which records of its transaction came in parts before this one, and which were delivered before. */
export interface PartPlace {
  before: number
  /** Of the records of this part, from the first one on. */
  skip: number
}

export class ReceivedFrame {
  readonly group: number
  readonly baseLsn: number
  readonly lastLsn: number
  /** Once the frame has been delivered, everything with a tick at or below it has; 0n: nothing can be said. */
  readonly lastTimeTick: bigint
  /** Of a part: how many of its records were asked for, delivered before or not. Of a frame by itself 0. */
  readonly partRecords: number
  /** What it took of the credit. */
  readonly messageBytes: number
  /** A watermark that came behind it. */
  tickAfter = 0n
  readonly #head: BodyHead
  readonly #baseTimeTick: bigint
  readonly #voids: NodeSection | null
  /** Section i begins here in the body that came; -1: it is not present. */
  readonly #sectionAt: Float64Array
  readonly #body: Buffer
  readonly #filter: RecordFilter
  readonly #offsets: Uint32Array
  /** Of each context whether it names a transaction; null: none does. */
  readonly #inTransaction: readonly boolean[] | null
  readonly #part: TransactionPart | null
  /** Of a part: the rows that were asked for. */
  readonly #rows: readonly number[]
  readonly #before: number
  /** The next row; of a part its index in `rows`. */
  #row = 0

  private constructor(input: {
    group: number
    wire: WireFrame
    body: Buffer
    head: BodyHead
    node: NodeSection
    sectionAt: Float64Array
    messageBytes: number
    filter: RecordFilter
    place: PartPlace
  }) {
    const { wire, head, node, place } = input
    this.group = input.group
    this.baseLsn = wire.baseLsn
    this.lastLsn = wire.baseLsn + wire.recordCount - 1
    this.#baseTimeTick = wire.baseTimeTick
    this.messageBytes = input.messageBytes
    this.#head = head
    this.#voids = node.hasVoids ? node : null
    this.#sectionAt = input.sectionAt
    this.#body = input.body
    this.#filter = input.filter
    this.#offsets = head.rowOffsets()
    const transactions = transactionsOf(head)
    this.#inTransaction = transactions === null ? null : transactions.map((id) => id !== undefined)
    const { part } = wire
    this.#part = part
    this.#before = place.before
    if (part === null) {
      this.lastTimeTick = wire.baseTimeTick + BigInt(wire.recordCount - 1)
      this.#rows = []
    } else {
      this.lastTimeTick = part.last ? part.commitTick : 0n
      this.#rows = this.#rowsOf(transactions, BigInt(part.transaction), part.commitTick)
      this.#row = place.skip
    }
    this.partRecords = this.#rows.length
  }

  /** Throws FRAME_DAMAGED: what came is not what was produced. */
  static open(
    group: number,
    wire: WireFrame,
    body: Buffer,
    messageBytes: number,
    filter: RecordFilter,
    place: PartPlace = { before: 0, skip: 0 },
  ): ReceivedFrame {
    try {
      const head = openBodyHead(body.subarray(0, wire.headLength), wire.bodyLength, wire.recordCount, wire.bodyHash)
      const nodeEnd = wire.headLength + wire.nodeLength
      const nodeBytes = body.subarray(wire.headLength, nodeEnd)
      if ((nodeBytes.length === 0 ? 0n : hash64(nodeBytes)) !== wire.nodeHash) {
        throw damaged(wire, 'the node section does not have its hash')
      }
      const sectionAt = new Float64Array(head.vchannelCount).fill(-1)
      let at = nodeEnd
      for (const index of wire.sections) {
        if (index >= head.vchannelCount) throw damaged(wire, `it has no section ${index}`)
        const length = head.sectionLength(index)
        if (at + length > body.length) throw damaged(wire, 'its sections are cut off')
        if (!verifySection(head, index, body.subarray(at, at + length))) {
          throw damaged(wire, `section ${index} does not have its hash`)
        }
        sectionAt[index] = at
        const end = at + paddedTo8(length)
        for (let padding = at + length; padding < end; padding++) {
          if (body[padding] !== 0) throw damaged(wire, `the padding of section ${index} is not zero`)
        }
        at = end
      }
      if (at !== body.length) throw damaged(wire, 'bytes stand behind its sections')
      for (const [index, name] of head.vchannels.entries()) {
        if (wire.part === null && filter.names.has(name) && sectionAt[index] === -1)
          throw damaged(wire, `the section of "${name}" is missing`)
      }
      if (wire.part !== null && wire.sections.length === 0) throw damaged(wire, 'it is a part without a section')
      const node = decodeNodeSection(nodeBytes, wire.recordCount)
      return new ReceivedFrame({ group, wire, body, head, node, sectionAt, messageBytes, filter, place })
    } catch (error) {
      if (error instanceof FormatError) throw damaged(wire, error.message, error)
      throw error
    }
  }

  /** The next record that was asked for, or null at the end. */
  next(): ConsumedRecord | null {
    if (this.#part !== null) return this.#nextOfPart(this.#part)
    const head = this.#head
    const { names, types, fromLsn, fromTick, untilLsn } = this.#filter
    while (this.#row < head.recordCount) {
      const row = this.#row++
      const lsn = this.baseLsn + row
      if (lsn < fromLsn) continue
      if (lsn >= untilLsn) return null
      const type = head.type(row)
      if (types !== null && !types.has(type)) continue
      if (isSystemType(type)) continue
      if (this.#inTransaction !== null && this.#isInTransaction(row)) continue
      const vchannel = head.vchannels[head.vchannelIndex(row)]!
      if (vchannel !== '' && !names.has(vchannel)) continue
      if (this.#voids?.isVoid(row)) continue
      const timeTick = this.#baseTimeTick + BigInt(row)
      if (timeTick < fromTick) continue
      return this.#record(row, timeTick, null, { lsn: lsn + 1 })
    }
    return null
  }

  #nextOfPart({ transaction, commitLsn, commitTick, last }: TransactionPart): ConsumedRecord | null {
    if (this.#row >= this.#rows.length) return null
    const index = this.#row++
    const atEnd = last && index === this.#rows.length - 1
    const position = atEnd ? { lsn: commitLsn + 1 } : { lsn: commitLsn, skip: this.#before + index + 1 }
    return this.#record(this.#rows[index]!, commitTick, transaction, position)
  }

  /** The rows of a part that were asked for, all or none of them by the tick of the commit. */
  #rowsOf(transactions: readonly (bigint | undefined)[] | null, transaction: bigint, commitTick: bigint): number[] {
    const rows: number[] = []
    const { names, types, fromTick } = this.#filter
    if (transactions === null || commitTick < fromTick) return rows
    const head = this.#head
    for (let row = 0; row < head.recordCount; row++) {
      const context = head.contextIndex(row)
      if (context < 0 || transactions[context] !== transaction) continue
      const type = head.type(row)
      if ((types !== null && !types.has(type)) || isSystemType(type)) continue
      const section = head.vchannelIndex(row)
      const vchannel = head.vchannels[section]!
      if ((vchannel !== '' && !names.has(vchannel)) || this.#voids?.isVoid(row)) continue
      // On another vchannel than its transaction it counts for nothing.
      if (this.#sectionAt[section] === -1) continue
      rows.push(row)
    }
    return rows
  }

  #isInTransaction(row: number): boolean {
    const context = this.#head.contextIndex(row)
    return context >= 0 && this.#inTransaction![context]!
  }

  #record(row: number, timeTick: bigint, transaction: number | null, position: RecordPosition): ConsumedRecord {
    const head = this.#head
    const lsn = this.baseLsn + row
    const vchannelIndex = head.vchannelIndex(row)
    const start = this.#sectionAt[vchannelIndex]! + this.#offsets[row]!
    const payloadAt = start + head.propertiesLength(row)
    const payloadLength = head.payloadLength(row)
    return new ReceivedRecord(
      head.vchannels[vchannelIndex]!,
      lsn,
      timeTick,
      head.type(row),
      payloadAt === start ? NO_PROPERTIES : this.#properties(start, payloadAt, lsn),
      payloadLength === 0 ? NO_BYTES : this.#body.subarray(payloadAt, payloadAt + payloadLength),
      head.hasNullPayload(row),
      transaction,
      position,
    )
  }

  #properties(from: number, to: number, lsn: number): Readonly<Record<string, string>> {
    try {
      return decodeProperties(this.#body.subarray(from, to))
    } catch (cause) {
      throw new TidelogError<string>('FRAME_DAMAGED', `the properties of the record at LSN ${lsn} are damaged`, {
        lsn,
        cause,
      })
    }
  }
}

/** Of each context the transaction that it names; null when none does. */
function transactionsOf(head: BodyHead): (bigint | undefined)[] | null {
  let any = false
  const transactions: (bigint | undefined)[] = []
  for (let index = 0; index < head.contextCount; index++) {
    const { transaction } = decodeContext(head.context(index))
    transactions.push(transaction)
    if (transaction !== undefined) any = true
  }
  return any ? transactions : null
}

function damaged(wire: WireFrame, why: string, cause?: unknown): TidelogError<string> {
  return new TidelogError<string>('FRAME_DAMAGED', `the frame at LSN ${wire.baseLsn} came damaged: ${why}`, {
    lsn: wire.baseLsn,
    lsnFrom: wire.baseLsn,
    lsnTo: wire.baseLsn + wire.recordCount - 1,
    cause,
  })
}
