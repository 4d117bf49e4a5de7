/** Pipelining in order on one vchannel: `submit` settles on back-pressure, its ticket on durability. */
import { TidelogError } from '../errors.ts'
import { type AppendEntry, SubmitOrder } from './append-entry.ts'
import type { Appends } from './appends.ts'
import type {
  Appended,
  AppendedBatch,
  AppendOptions,
  AppendRecord,
  BatchOptions,
  BatchTicket,
  Producer,
  Ticket,
} from './types.ts'

export class VchannelProducer implements Producer {
  readonly vchannel: string
  readonly #appends: Appends
  readonly #order = new SubmitOrder()
  #closed = false

  constructor(vchannel: string, appends: Appends) {
    this.vchannel = vchannel
    this.#appends = appends
  }

  async submit(record: AppendRecord, options: AppendOptions = {}): Promise<Ticket> {
    this.#checkOpen()
    const entry = this.#appends.append(this.vchannel, record, options, this.#order)
    const room = this.#appends.room(this.vchannel, this.#order)
    if (room !== null) await room
    return new SubmittedTicket(entry)
  }

  async submitBatch(records: readonly AppendRecord[], options: BatchOptions = {}): Promise<BatchTicket> {
    this.#checkOpen()
    const entry = this.#appends.appendBatch(this.vchannel, records, options, this.#order)
    const room = this.#appends.room(this.vchannel, this.#order)
    if (room !== null) await room
    return new SubmittedBatchTicket(entry)
  }

  async flush(): Promise<void> {
    await this.#order.flush()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.flush()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #checkOpen(): void {
    if (this.#closed) throw new TidelogError<string>('CLOSED', 'the producer is closed', { outcome: 'not-written' })
  }
}

export class SubmittedTicket implements Ticket {
  readonly #entry: AppendEntry

  constructor(entry: AppendEntry) {
    this.#entry = entry
  }

  get acknowledged(): Promise<Appended> {
    return this.#entry.promise as Promise<Appended>
  }
}

export class SubmittedBatchTicket implements BatchTicket {
  readonly #entry: AppendEntry

  constructor(entry: AppendEntry) {
    this.#entry = entry
  }

  get acknowledged(): Promise<AppendedBatch> {
    return this.#entry.promise as Promise<AppendedBatch>
  }
}
