/** A frame as it came: verified whole before anything of it is delivered, decoded record by record as it is iterated. */
import {
  type BodyHead,
  decodeNodeSection,
  decodeProperties,
  FormatError,
  hash64,
  type NodeSection,
  openBodyHead,
  verifySection,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { WireFrame } from '../protocol/consume-messages.ts'
import { paddedTo8 } from '../protocol/u64.ts'
import type { ConsumedRecord } from './types.ts'

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

export class ReceivedFrame {
  readonly group: number
  readonly baseLsn: number
  readonly lastLsn: number
  readonly lastTimeTick: bigint
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
  }) {
    const { wire, head, node } = input
    this.group = input.group
    this.baseLsn = wire.baseLsn
    this.lastLsn = wire.baseLsn + wire.recordCount - 1
    this.#baseTimeTick = wire.baseTimeTick
    this.lastTimeTick = wire.baseTimeTick + BigInt(wire.recordCount - 1)
    this.messageBytes = input.messageBytes
    this.#head = head
    this.#voids = node.hasVoids ? node : null
    this.#sectionAt = input.sectionAt
    this.#body = input.body
    this.#filter = input.filter
    this.#offsets = head.rowOffsets()
  }

  /** Throws FRAME_DAMAGED: what came is not what was produced. */
  static open(group: number, wire: WireFrame, body: Buffer, messageBytes: number, filter: RecordFilter): ReceivedFrame {
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
        if (filter.names.has(name) && sectionAt[index] === -1)
          throw damaged(wire, `the section of "${name}" is missing`)
      }
      const node = decodeNodeSection(nodeBytes, wire.recordCount)
      return new ReceivedFrame({ group, wire, body, head, node, sectionAt, messageBytes, filter })
    } catch (error) {
      if (error instanceof FormatError) throw damaged(wire, error.message, error)
      throw error
    }
  }

  /** The next record that was asked for, or null at the end. */
  next(): ConsumedRecord | null {
    const head = this.#head
    const { names, types, fromLsn, fromTick, untilLsn } = this.#filter
    while (this.#row < head.recordCount) {
      const row = this.#row++
      const lsn = this.baseLsn + row
      if (lsn < fromLsn) continue
      if (lsn >= untilLsn) return null
      if (types !== null && !types.has(head.type(row))) continue
      const vchannelIndex = head.vchannelIndex(row)
      const vchannel = head.vchannels[vchannelIndex]!
      if (vchannel !== '' && !names.has(vchannel)) continue
      if (this.#voids?.isVoid(row)) continue
      const timeTick = this.#baseTimeTick + BigInt(row)
      if (timeTick < fromTick) continue
      const start = this.#sectionAt[vchannelIndex]! + this.#offsets[row]!
      const payloadAt = start + head.propertiesLength(row)
      return {
        vchannel,
        lsn,
        timeTick,
        type: head.type(row),
        properties: payloadAt === start ? NO_PROPERTIES : this.#properties(start, payloadAt, lsn),
        payload:
          head.payloadLength(row) === 0
            ? NO_BYTES
            : this.#body.subarray(payloadAt, payloadAt + head.payloadLength(row)),
        isNull: head.hasNullPayload(row),
      }
    }
    return null
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

function damaged(wire: WireFrame, why: string, cause?: unknown): TidelogError<string> {
  return new TidelogError<string>('FRAME_DAMAGED', `the frame at LSN ${wire.baseLsn} came damaged: ${why}`, {
    lsn: wire.baseLsn,
    lsnFrom: wire.baseLsn,
    lsnTo: wire.baseLsn + wire.recordCount - 1,
    cause,
  })
}
