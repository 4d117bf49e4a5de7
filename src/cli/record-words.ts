/**
 * What a record of a log means, in words: its type by name, its typed header, the transaction and the producer that its
 * context names. Of one frame after the other, their records in LSN order.
 */
import {
  type Context,
  decodeContext,
  decodeNodeSection,
  type LogRecord,
  type RecordFrame,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { decodeHeader, type HeaderFields } from '../message/message-header.ts'
import { exclusiveScope, isExclusive, MessageType, messageTypeName } from '../message/message-type.ts'
import { HEADER_PROPERTY, KEY_PROPERTY } from '../message/property-names.ts'
import { printable } from './text-table.ts'

export interface RecordMeaning {
  /** `Insert`; `record` for an application's own, `type 4711` where the number has no name. */
  typeName: string
  header: HeaderFields | undefined
  /** Id of the transaction that it is a part of, its begin and end too; null: none, or all of them (a rollback). */
  transaction: number | null
  producer: { id: number; epoch: number; sequence: number | null } | null
  key: string | undefined
  /** For people; empty when there is nothing to say. */
  words: string
}

export class FrameWords {
  readonly #frame: RecordFrame
  readonly #contexts: Context[] = []
  /** Rows of each context up to `#counted`, which is the row that comes next. */
  readonly #rows: number[] = []
  #counted = 0

  constructor(frame: RecordFrame) {
    this.#frame = frame
    const count = frame.head?.contextCount ?? 0
    for (let index = 0; index < count; index++) {
      this.#contexts.push(decodeContext(frame.head!.context(index)))
      this.#rows.push(0)
    }
  }

  /** Records that readers skip. */
  get voidCount(): number {
    const { nodeSection, recordCount } = this.#frame
    if (nodeSection.length === 0) return 0
    const node = decodeNodeSection(nodeSection, recordCount)
    let count = 0
    for (let row = 0; row < recordCount; row++) if (node.isVoid(row)) count++
    return count
  }

  /** In LSN order. A header that no node has written is told in the words; it ends nothing. */
  of(record: LogRecord): RecordMeaning {
    const { type, vchannel } = record
    const meaning: RecordMeaning = {
      typeName: messageTypeName(type),
      header: undefined,
      transaction: null,
      producer: null,
      key: undefined,
      words: '',
    }
    const words: string[] = []
    const text = record.properties[HEADER_PROPERTY]
    meaning.key = record.properties[KEY_PROPERTY]
    if (text !== undefined) {
      try {
        meaning.header = decodeHeader(type, text)
      } catch (error) {
        if (!(error instanceof TidelogError)) throw error
        words.push(`DAMAGED header: ${printable(error.message)}`)
      }
    }
    if (meaning.header !== undefined) this.#ofControl(record, meaning, meaning.header, words)
    if (isExclusive(type)) {
      const all = exclusiveScope(type, vchannel) === ''
      words.push(`ends the transactions that are open on ${all ? 'the pchannel' : 'its vchannel'}`)
    }
    this.#ofContext(record, meaning, words)
    if (meaning.key !== undefined) words.push(`key ${JSON.stringify(printable(meaning.key))}`)
    meaning.words = words.join(', ')
    return meaning
  }

  #ofControl({ type, lsn }: LogRecord, meaning: RecordMeaning, header: HeaderFields, words: string[]): void {
    if (type === MessageType.beginTxn) {
      meaning.transaction = lsn
      words.push(`transaction ${lsn} begins, ${header.keepalive_milliseconds} ms without an append end it`)
    } else if (type === MessageType.commitTxn) {
      meaning.transaction = Number(header.begin)
      words.push(`transaction ${header.begin} is committed: ${header.bodies} records`)
    } else if (type === MessageType.rollbackTxn && header.all === true) {
      words.push('every open transaction is rolled back')
    } else if (type === MessageType.rollbackTxn) {
      meaning.transaction = Number(header.begin)
      words.push(`transaction ${header.begin} is rolled back`)
    } else if (type === MessageType.producerEpoch) {
      const id = header.producer === undefined ? lsn : Number(header.producer)
      meaning.producer = { id, epoch: Number(header.epoch), sequence: null }
      words.push(`epoch ${header.epoch} of producer ${JSON.stringify(printable(String(header.name)))}, number ${id}`)
    }
  }

  #ofContext({ index: row }: LogRecord, meaning: RecordMeaning, words: string[]): void {
    const head = this.#frame.head!
    if (this.#contexts.length === 0) return
    for (; this.#counted < row; this.#counted++) {
      const before = head.contextIndex(this.#counted)
      if (before >= 0) this.#rows[before]!++
    }
    const index = head.contextIndex(row)
    if (index < 0) return
    const { transaction, producer } = this.#contexts[index]!
    if (transaction !== undefined) {
      meaning.transaction = Number(transaction)
      words.push(`in transaction ${transaction}`)
    }
    if (producer !== undefined) {
      const sequence = producer.firstSequence + this.#rows[index]!
      meaning.producer = { id: Number(producer.id), epoch: producer.epoch, sequence }
      words.push(`producer ${producer.id}, epoch ${producer.epoch}, sequence ${sequence}`)
    }
  }
}
