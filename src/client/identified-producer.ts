/** A producer with an identity: a lane of frames with its number, epoch and sequences, opened again on each connection. */
import { encodeContext } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { MessageType } from '../protocol/message.ts'
import { decodeProducerOpened, encodeProducerOpen, type ProducerOpened } from '../protocol/wal-messages.ts'
import { SubmitOrder, withOutcome } from './append-entry.ts'
import type { Appends } from './appends.ts'
import { refused } from './check-record.ts'
import type { ClientConnection } from './connection.ts'
import { FrameLane } from './frame-lane.ts'
import type { LaneOwner } from './lane-owner.ts'
import { SubmittedBatchTicket, SubmittedTicket } from './producer.ts'
import type { Session } from './session.ts'
import type { AppendRecord, BatchOptions, BatchTicket, IdentifiedProducer, SequencedAppend, Ticket } from './types.ts'

export class SequencedProducer implements IdentifiedProducer, LaneOwner {
  readonly id: string
  readonly vchannel: string
  readonly group: number
  readonly epoch: number
  readonly windowLost: boolean
  readonly failsWhole = false
  readonly #producer: bigint
  readonly #appends: Appends
  readonly #order = new SubmitOrder()
  readonly #lane: FrameLane
  #lastSequence: number
  #closed = false

  /** `connection`: on which it was opened. */
  constructor(
    session: Session,
    appends: Appends,
    identity: { vchannel: string; id: string },
    opened: ProducerOpened,
    connection: ClientConnection | null,
  ) {
    this.id = identity.id
    this.vchannel = identity.vchannel
    this.group = opened.group
    this.epoch = opened.epoch
    this.windowLost = opened.windowLost
    this.#producer = BigInt(opened.producer)
    this.#lastSequence = opened.lastSequence
    this.#appends = appends
    this.#lane = new FrameLane(session, this, opened.lastSequence + 1)
    if (connection !== null) this.#lane.greeted(connection)
    appends.addLane(this.#lane)
  }

  get lastSequence(): number {
    return this.#lastSequence
  }

  async append(
    record: AppendRecord,
    options: { sequence?: number | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<SequencedAppend> {
    this.#checkOpen()
    const { sequence } = options
    if (sequence !== undefined && !(Number.isSafeInteger(sequence) && sequence >= 1)) {
      throw refused(`a sequence is an integer from 1 on, not ${String(sequence)}`)
    }
    const entry = this.#appends.appendTo(this.#lane, this.vchannel, record, options, this.#order)
    return (await entry.promise) as SequencedAppend
  }

  async submit(record: AppendRecord, options: BatchOptions = {}): Promise<Ticket> {
    this.#checkOpen()
    const { barrierTick, signal } = options
    const entry = this.#appends.appendTo(this.#lane, this.vchannel, record, { barrierTick, signal }, this.#order)
    await this.#appends.room(this.vchannel, this.#order)
    return new SubmittedTicket(entry)
  }

  async submitBatch(records: readonly AppendRecord[], options: BatchOptions = {}): Promise<BatchTicket> {
    this.#checkOpen()
    const entry = this.#appends.appendBatchTo(this.#lane, this.vchannel, records, options, this.#order)
    await this.#appends.room(this.vchannel, this.#order)
    return new SubmittedBatchTicket(entry)
  }

  async flush(): Promise<void> {
    await this.#order.flush()
  }

  async close(): Promise<void> {
    this.#closed = true
    try {
      await this.flush()
    } finally {
      this.#appends.removeLane(this.#lane)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  context(first: number): Uint8Array {
    return encodeContext({ producer: { id: this.#producer, epoch: this.epoch, firstSequence: first } })
  }

  transactionIndex(): number {
    return 0
  }

  /** Goes on in its epoch: PRODUCER_FENCED when it is no longer the newest. */
  async greet(connection: ClientConnection): Promise<void> {
    const meta = encodeProducerOpen({ vchannel: this.vchannel, id: this.id, epoch: this.epoch })
    const answer = await connection.request(MessageType.producerOpen, MessageType.producerOpened, meta)
    const { producer, group } = decodeProducerOpened(answer.meta)
    if (BigInt(producer) !== this.#producer || group !== this.group) {
      throw new TidelogError<string>('PRODUCER_UNKNOWN', `the producer "${this.id}" is another one on this node`)
    }
  }

  othersError(error: TidelogError<string>): TidelogError<string> {
    return error
  }

  isUndone(): boolean {
    return false
  }

  onAcknowledged(next: number): void {
    if (next - 1 > this.#lastSequence) this.#lastSequence = next - 1
  }

  onEnded(): void {
    this.#appends.removeLane(this.#lane)
  }

  #checkOpen(): void {
    if (this.#closed) throw new TidelogError<string>('CLOSED', 'the producer is closed', { outcome: 'not-written' })
    if (this.#lane.ended !== null) throw withOutcome(this.#lane.ended, 'not-written')
  }
}
