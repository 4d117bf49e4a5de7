/**
 * Opening producers: an epoch is durable before it is answered, and fences the one before it from its place in the log
 * on. Opens of one producer go one after the other.
 */
import { TidelogError } from '../../errors.ts'
import { encodeHeader } from '../../message/message-header.ts'
import { MessageType } from '../../message/message-type.ts'
import { HEADER_PROPERTY } from '../../message/property-names.ts'
import type { EpochEffect } from '../effect.ts'
import type { NodeAppender } from '../pipeline/node-appender.ts'
import { fenced, LiveProducer } from './live-producer.ts'
import { PRODUCERS_MAX, type ProducerTable } from './producer-table.ts'

/** Bytes of UTF-8. */
export const PRODUCER_NAME_BYTES_MAX = 256
const OPENS_MAX = 4_096

export interface OpenedProducer {
  /** Its number in the log. */
  readonly producer: number
  readonly epoch: number
  /** Of the last record that is in the log; 0 when there is none, or nobody knows. */
  readonly lastSequence: number
  /** What it wrote before is not known any more: its next sequence is believed, and repeats are not recognized. */
  readonly windowLost: boolean
}

export class LiveProducers {
  readonly #table: ProducerTable
  readonly #appender: NodeAppender
  readonly #live = new Map<number, LiveProducer>()
  /** By vchannel and name: the last open that was asked for. */
  readonly #opening = new Map<string, Promise<unknown>>()
  #opens = 0

  constructor(table: ProducerTable, appender: NodeAppender) {
    this.#table = table
    this.#appender = appender
  }

  get(producer: number): LiveProducer | undefined {
    const live = this.#live.get(producer)
    if (live !== undefined) return live
    const record = this.#table.byNumber(producer)
    return record === undefined ? undefined : this.#begin(record.producer)
  }

  /**
   * Begins a new epoch. Rejects with INVALID_ARGUMENT (the name), LIMIT_EXCEEDED, QUEUE_FULL, or what the append of its
   * record gives.
   */
  open(vchannel: string, name: string): Promise<OpenedProducer> {
    const fault = nameFault(name)
    if (fault !== null) {
      const message = `the producer id ${JSON.stringify(name)} is refused: ${fault}`
      return Promise.reject(new TidelogError('INVALID_ARGUMENT', message, { outcome: 'not-written' }))
    }
    if (this.#opens >= OPENS_MAX) {
      const message = `${this.#opens} producers are being opened; try again later`
      return Promise.reject(new TidelogError('QUEUE_FULL', message, { outcome: 'not-written', retriable: true }))
    }
    const key = `${vchannel}\n${name}`
    const before = this.#opening.get(key) ?? Promise.resolve()
    this.#opens++
    const opened = before
      .catch(() => {})
      .then(() => this.#open(vchannel, name))
      .finally(() => {
        this.#opens--
        if (this.#opening.get(key) === opened) this.#opening.delete(key)
      })
    this.#opening.set(key, opened)
    return opened
  }

  /** For a client that comes back. Throws PRODUCER_FENCED when `epoch` is not the newest one, PRODUCER_UNKNOWN. */
  resume(vchannel: string, name: string, epoch: number): OpenedProducer {
    const record = this.#table.byName(vchannel, name)
    if (record === undefined || epoch > record.epoch) {
      const message = `there is no epoch ${epoch} of a producer "${name}" of "${vchannel}"`
      throw new TidelogError('PRODUCER_UNKNOWN', message, { outcome: 'not-written' })
    }
    const live = this.get(record.producer)!
    if (epoch < record.epoch || live.isFenced) throw fenced(record, epoch)
    return answerOf(live)
  }

  /** The record of an epoch has its place in the log. */
  epochPlaced({ producer }: EpochEffect): void {
    if (producer !== null) this.get(producer)?.fence()
  }

  async #open(vchannel: string, name: string): Promise<OpenedProducer> {
    const known = this.#table.byName(vchannel, name)
    if (known === undefined && this.#table.size >= PRODUCERS_MAX) {
      const message = `there are ${this.#table.size} producers in this pchannel; no more can be opened`
      throw new TidelogError('LIMIT_EXCEEDED', message, { outcome: 'not-written' })
    }
    const epoch = (known?.epoch ?? 0) + 1
    const header = encodeHeader(MessageType.producerEpoch, { name, epoch, producer: known?.producer })
    const properties = { [HEADER_PROPERTY]: header }
    const { range } = await this.#appender.appendControl([{ vchannel, type: MessageType.producerEpoch, properties }])
    return answerOf(this.#begin(known?.producer ?? range.firstLsn))
  }

  /** What the log says now is what the new epoch goes on from. */
  #begin(producer: number): LiveProducer {
    const live = new LiveProducer(this.#table.byNumber(producer)!)
    this.#live.set(producer, live)
    return live
  }
}

function answerOf({ record, epoch }: LiveProducer): OpenedProducer {
  const { producer, lastSequence } = record
  return { producer, epoch, lastSequence: Math.max(0, lastSequence), windowLost: lastSequence < 0 }
}

function nameFault(name: string): string | null {
  if (typeof name !== 'string' || name.length === 0) return 'it is empty'
  if (Buffer.byteLength(name) > PRODUCER_NAME_BYTES_MAX) return `it has more than ${PRODUCER_NAME_BYTES_MAX} bytes`
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f]|[\ud800-\udfff]/u.test(name)) return 'it has a control character or half a character'
  return null
}
