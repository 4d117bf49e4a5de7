/**
 * The effects (effect.ts) of a frame, of a received body, and of records of this process: one implementation, so that
 * what is applied at an append is what a replay applies. Void rows have none.
 */
import {
  type BodyHead,
  type Context,
  decodeContext,
  decodeNodeSection,
  decodeProperties,
  type RecordInput,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { EncodedBody, StoreFrame } from '../log-store/log-store.ts'
import { decodeHeader } from '../message/message-header.ts'
import { exclusiveScope, isExclusive, isSystemType, MessageType } from '../message/message-type.ts'
import { HEADER_PROPERTY, KEY_PROPERTY } from '../message/property-names.ts'
import type { BodyEffect, Effect, SequenceEffect } from './effect.ts'

export const NO_EFFECTS: readonly Effect[] = []

type Growing<T> = { -readonly [K in keyof T]: T[K] }

/** What the rows of a frame say, wherever they stand. */
interface Rows {
  readonly recordCount: number
  readonly contextCount: number
  /** For messages of errors: where row 0 stands; -1 when it has no place yet. */
  readonly baseLsn: number
  isVoid(row: number): boolean
  type(row: number): number
  vchannel(row: number): string
  /** -1: none. */
  contextIndex(row: number): number
  context(index: number): Uint8Array
  /** Payload and properties. */
  bytes(row: number): number
  property(row: number, name: string): string | undefined
  hasProperties(row: number): boolean
}

/** FRAME_INVALID for a record of the node's own that says nothing that it can have written. */
export function effectsOfFrame(frame: StoreFrame): readonly Effect[] {
  const { head, recordCount, baseLsn, nodeSection } = frame
  if (head === null || frame.kind !== 'records') return NO_EFFECTS
  const node = nodeSection.length === 0 ? null : decodeNodeSection(nodeSection, recordCount)
  const isVoid = node?.hasVoids === true ? (row: number) => node.isVoid(row) : never
  return effectsOf(new EncodedRows(head, (index) => frame.section(index), isVoid, baseLsn))
}

/** Of a body on its way into the log. INVALID_ARGUMENT instead of FRAME_INVALID. */
export function effectsOfBody({ head, bytes }: EncodedBody): readonly Effect[] {
  const section = (index: number): Uint8Array => {
    const start = head.sectionOffset(index)
    return bytes.subarray(start, start + head.sectionLength(index))
  }
  return effectsOf(new EncodedRows(head, section, never, -1))
}

export function effectsOfRecords(records: readonly RecordInput[], contexts: readonly Uint8Array[]): readonly Effect[] {
  return effectsOf(new RecordRows(records, contexts))
}

/**
 * The same effects without those of the rows in `voids`. A row becomes void for its key alone, so a run of a transaction
 * or a producer is never void in part.
 */
export function withoutVoids(effects: readonly Effect[], voids: readonly number[]): readonly Effect[] {
  if (voids.length === 0) return effects
  const skipped = new Set(voids)
  return effects.filter(({ row }) => !skipped.has(row))
}

function effectsOf(rows: Rows): readonly Effect[] {
  let effects: Effect[] | null = null
  const { recordCount, contextCount } = rows
  const contexts: Context[] = []
  const seen: number[] = []
  for (let index = 0; index < contextCount; index++) {
    contexts.push(decodeContext(rows.context(index)))
    seen.push(0)
  }
  // Runs of consecutive rows, which grow while they go on.
  let body: Growing<BodyEffect> | null = null
  let sequence: Growing<SequenceEffect> | null = null
  for (let row = 0; row < recordCount; row++) {
    const index = contextCount === 0 ? -1 : rows.contextIndex(row)
    const nth = index < 0 ? 0 : seen[index]!++
    if (rows.isVoid(row)) continue
    const type = rows.type(row)
    if (type !== 0) {
      const own = effectOfType(rows, row, type)
      if (own !== null) {
        effects ??= []
        effects.push(own)
      }
    }
    if (index >= 0 && !isSystemType(type)) {
      const { transaction, producer } = contexts[index]!
      const vchannel = rows.vchannel(row)
      if (transaction !== undefined) {
        const id = Number(transaction)
        const bytes = rows.bytes(row)
        if (body !== null && body.row + body.count === row && body.transaction === id && body.vchannel === vchannel) {
          body.count++
          body.bytes += bytes
        } else {
          body = { kind: 'body', row, vchannel, count: 1, transaction: id, bytes }
          effects ??= []
          effects.push(body)
        }
      }
      if (producer !== undefined) {
        const id = Number(producer.id)
        const { epoch } = producer
        const firstSequence = producer.firstSequence + nth
        if (
          sequence !== null &&
          sequence.row + sequence.count === row &&
          sequence.producer === id &&
          sequence.epoch === epoch &&
          sequence.vchannel === vchannel &&
          sequence.firstSequence + sequence.count === firstSequence
        ) {
          sequence.count++
        } else {
          sequence = { kind: 'sequence', row, vchannel, count: 1, producer: id, epoch, firstSequence }
          effects ??= []
          effects.push(sequence)
        }
      }
    }
    if (rows.hasProperties(row)) {
      const key = rows.property(row, KEY_PROPERTY)
      if (key !== undefined) {
        effects ??= []
        effects.push({ kind: 'key', row, vchannel: rows.vchannel(row), key })
      }
    }
  }
  return effects ?? NO_EFFECTS
}

function effectOfType(rows: Rows, row: number, type: number): Effect | null {
  switch (type) {
    case MessageType.beginTxn: {
      const keepaliveMs = integer(rows, row, 'keepalive_milliseconds')
      return { kind: 'begin', row, vchannel: rows.vchannel(row), keepaliveMs }
    }
    case MessageType.commitTxn: {
      const hash = field(rows, row, 'hash')
      return {
        kind: 'commit',
        row,
        vchannel: rows.vchannel(row),
        transaction: integer(rows, row, 'begin'),
        bodies: integer(rows, row, 'bodies'),
        hash: typeof hash === 'bigint' ? hash : BigInt(integer(rows, row, 'hash')),
      }
    }
    case MessageType.rollbackTxn: {
      const all = field(rows, row, 'all') === true
      const transaction = all ? null : integer(rows, row, 'begin')
      const expired = field(rows, row, 'expired') === true
      return { kind: 'rollback', row, vchannel: rows.vchannel(row), transaction, expired }
    }
    case MessageType.producerEpoch: {
      const name = field(rows, row, 'name')
      if (typeof name !== 'string') throw invalidRow(rows, row, 'name')
      const producer = field(rows, row, 'producer') === undefined ? null : integer(rows, row, 'producer')
      return { kind: 'epoch', row, vchannel: rows.vchannel(row), name, producer, epoch: integer(rows, row, 'epoch') }
    }
    default:
      return isExclusive(type)
        ? { kind: 'exclusive', row, vchannel: exclusiveScope(type, rows.vchannel(row)), type }
        : null
  }
}

function field(rows: Rows, row: number, name: string): unknown {
  const text = rows.property(row, HEADER_PROPERTY)
  if (text === undefined) throw invalidRow(rows, row, name)
  let header: Readonly<Record<string, unknown>> | undefined
  try {
    header = decodeHeader(rows.type(row), text) as Readonly<Record<string, unknown>> | undefined
  } catch (error) {
    throw invalidRow(rows, row, name, error)
  }
  return header?.[name]
}

function integer(rows: Rows, row: number, name: string): number {
  const value = field(rows, row, name)
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0) throw invalidRow(rows, row, name)
  return number
}

function invalidRow(rows: Rows, row: number, name: string, cause?: unknown): TidelogError {
  const what = `record of type ${rows.type(row)} without a right "${name}" in its header`
  if (rows.baseLsn < 0) return new TidelogError('INVALID_ARGUMENT', `a ${what}`, { outcome: 'not-written', cause })
  const lsn = rows.baseLsn + row
  return new TidelogError('FRAME_INVALID', `LSN ${lsn}: a ${what}: this WAL's node has not written it`, { lsn, cause })
}

function never(): boolean {
  return false
}

const KEY_BYTES = Buffer.from(KEY_PROPERTY)
const NO_BYTES = Buffer.alloc(0)

class EncodedRows implements Rows {
  readonly recordCount: number
  readonly contextCount: number
  readonly baseLsn: number
  readonly isVoid: (row: number) => boolean
  readonly #head: BodyHead
  readonly #section: (index: number) => Uint8Array | null
  #decodedRow = -1
  #decoded: Readonly<Record<string, string>> = {}

  constructor(
    head: BodyHead,
    section: (index: number) => Uint8Array | null,
    isVoid: (row: number) => boolean,
    baseLsn: number,
  ) {
    this.recordCount = head.recordCount
    this.contextCount = head.contextCount
    this.baseLsn = baseLsn
    this.isVoid = isVoid
    this.#head = head
    this.#section = section
  }

  type(row: number): number {
    return this.#head.type(row)
  }

  vchannel(row: number): string {
    return this.#head.vchannels[this.#head.vchannelIndex(row)]!
  }

  contextIndex(row: number): number {
    return this.#head.contextIndex(row)
  }

  context(index: number): Uint8Array {
    return this.#head.context(index)
  }

  bytes(row: number): number {
    return this.#head.payloadLength(row) + this.#head.propertiesLength(row)
  }

  hasProperties(row: number): boolean {
    return this.#head.propertiesLength(row) > 0
  }

  property(row: number, name: string): string | undefined {
    if (this.#decodedRow !== row) {
      const bytes = this.#properties(row)
      // Most properties are the users' own: they are searched, not decoded.
      if (name === KEY_PROPERTY && !bytes.includes(KEY_BYTES)) return undefined
      this.#decoded = bytes.length === 0 ? {} : decodeProperties(bytes)
      this.#decodedRow = row
    }
    return Object.hasOwn(this.#decoded, name) ? this.#decoded[name] : undefined
  }

  #properties(row: number): Buffer {
    const index = this.#head.vchannelIndex(row)
    const section = this.#section(index)
    if (section === null) return NO_BYTES
    const start = this.#head.rowOffsets()[row]!
    return Buffer.from(section.buffer, section.byteOffset + start, this.#head.propertiesLength(row))
  }
}

class RecordRows implements Rows {
  readonly baseLsn = -1
  readonly recordCount: number
  readonly contextCount: number
  readonly #records: readonly RecordInput[]
  readonly #contexts: readonly Uint8Array[]

  constructor(records: readonly RecordInput[], contexts: readonly Uint8Array[]) {
    this.#records = records
    this.#contexts = contexts
    this.recordCount = records.length
    this.contextCount = contexts.length
  }

  isVoid(): boolean {
    return false
  }

  type(row: number): number {
    return this.#records[row]!.type ?? 0
  }

  vchannel(row: number): string {
    return this.#records[row]!.vchannel
  }

  contextIndex(row: number): number {
    return this.#records[row]!.contextIndex ?? -1
  }

  context(index: number): Uint8Array {
    return this.#contexts[index]!
  }

  /** As they will be encoded: 2 bytes, and 6 for each property, beside the text. */
  bytes(row: number): number {
    const { payload, properties } = this.#records[row]!
    let bytes = payload == null ? 0 : payload.length
    if (properties !== undefined) {
      let isEmpty = true
      for (const name in properties) {
        if (isEmpty) bytes += 2
        isEmpty = false
        bytes += 6 + Buffer.byteLength(name) + Buffer.byteLength(properties[name]!)
      }
    }
    return bytes
  }

  hasProperties(row: number): boolean {
    return this.#records[row]!.properties !== undefined
  }

  property(row: number, name: string): string | undefined {
    const { properties } = this.#records[row]!
    return properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined
  }
}
