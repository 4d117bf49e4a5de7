/** A producer of this process: gives its records their sequences, so that a retry is recognized. */
import type { NodeAppender } from '../pipeline/node-appender.ts'
import type { MutableMessage, WalAppended, WalProducer } from '../types.ts'
import type { OpenedProducer } from './live-producers.ts'

export class EmbeddedProducer implements WalProducer {
  readonly id: string
  readonly vchannel: string
  readonly epoch: number
  readonly windowLost: boolean
  readonly #number: number
  readonly #appender: NodeAppender
  #lastSequence: number
  #next: number

  constructor(vchannel: string, id: string, opened: OpenedProducer, appender: NodeAppender) {
    this.vchannel = vchannel
    this.id = id
    this.epoch = opened.epoch
    this.windowLost = opened.windowLost
    this.#number = opened.producer
    this.#appender = appender
    this.#lastSequence = opened.lastSequence
    this.#next = opened.lastSequence + 1
  }

  get lastSequence(): number {
    return this.#lastSequence
  }

  /**
   * With a sequence that was written, it answers as the first append did. Rejects with SEQUENCE_GAP, SEQUENCE_FORGOTTEN,
   * PRODUCER_FENCED, FAILED_BEFORE, and with what `Wal.append` gives.
   */
  async append(
    message: Omit<MutableMessage, 'vchannel'>,
    options: { sequence?: number; signal?: AbortSignal } = {},
  ): Promise<WalAppended & { sequence: number }> {
    const sequence = options.sequence ?? this.#next
    const isNext = sequence === this.#next
    if (isNext) this.#next++
    const producer = { id: BigInt(this.#number), epoch: this.epoch, firstSequence: sequence }
    try {
      const { range, duplicate } = await this.#appender.appendMessages(
        [{ ...message, vchannel: this.vchannel }],
        { producer },
        { signal: options.signal },
      )
      if (sequence > this.#lastSequence) this.#lastSequence = sequence
      if (sequence >= this.#next) this.#next = sequence + 1
      return { lsn: range.firstLsn, timeTick: range.firstTimeTick, duplicate, sequence }
    } catch (error) {
      // What was not written is given its sequence again; a gap or a repeat that was refused has taken none.
      if (isNext && sequence < this.#next) this.#next = sequence
      throw error
    }
  }
}
