/**
 * Where the records of `produce` go: plainly, with an idempotency key each, as those of a producer with an identity, or
 * all in one transaction.
 */
import type { Client, IdentifiedProducer, Producer, Transaction } from '../client/types.ts'
import { TidelogError } from '../errors.ts'
import type { Acknowledgement } from './acknowledgement-report.ts'
import type { InputRecord } from './produce-input.ts'

export interface ProduceSink {
  /** Settles when there is room for one more. */
  submit(record: InputRecord): Promise<{ acknowledged: Promise<Acknowledgement> }>
  /** All of the input was submitted, and acknowledged. Gives what there is to say of it, as JSON and for people. */
  finish(): Promise<{ json: Record<string, unknown>; text: string } | null>
  /** Something failed, or was interrupted. */
  abandon(): Promise<void>
}

/** How long a transaction of the command line may wait for the next record of its input. */
const keepaliveMs = 60_000

export interface SinkOptions {
  transaction?: boolean | undefined
  producer?: string | undefined
  windowLostIsFine?: boolean | undefined
}

export async function openSink(client: Client, vchannel: string, options: SinkOptions): Promise<ProduceSink> {
  if (options.transaction) return new TransactionSink(client, vchannel)
  if (options.producer === undefined) return new PlainSink(await client.producer(vchannel))
  const producer = await client.producer(vchannel, { id: options.producer })
  if (producer.windowLost && options.windowLostIsFine !== true) {
    const message =
      `the daemon has lost what it knew of producers, and cannot tell whether ${JSON.stringify(producer.id)} has written ` +
      `to ${JSON.stringify(vchannel)} before`
    throw new TidelogError('WINDOW_LOST', message, { outcome: 'not-written' })
  }
  return new IdentifiedSink(producer)
}

class PlainSink implements ProduceSink {
  readonly #producer: Producer

  constructor(producer: Producer) {
    this.#producer = producer
  }

  async submit({ key, ...record }: InputRecord): Promise<{ acknowledged: Promise<Acknowledgement> }> {
    return await this.#producer.submit(record, { idempotencyKey: key })
  }

  async finish(): Promise<null> {
    return null
  }

  async abandon(): Promise<void> {}
}

/** Record n of the input, counted from 1, has sequence n: what is in the log already is not sent again. */
class IdentifiedSink implements ProduceSink {
  readonly #producer: IdentifiedProducer
  readonly #known: number
  #sequence = 0

  constructor(producer: IdentifiedProducer) {
    this.#producer = producer
    this.#known = producer.lastSequence
  }

  async submit({ key: _, ...record }: InputRecord): Promise<{ acknowledged: Promise<Acknowledgement> }> {
    this.#sequence++
    if (this.#sequence > this.#known) return await this.#producer.submit(record)
    return { acknowledged: Promise.resolve({ sequence: this.#sequence, duplicate: true }) }
  }

  async finish(): Promise<null> {
    return null
  }

  async abandon(): Promise<void> {}
}

/** Begun with the first record: an input that is slow to begin costs nothing. */
class TransactionSink implements ProduceSink {
  readonly #client: Client
  readonly #vchannel: string
  #transaction: Transaction | null = null
  #records = 0

  constructor(client: Client, vchannel: string) {
    this.#client = client
    this.#vchannel = vchannel
  }

  async submit({ key: _, ...record }: InputRecord): Promise<{ acknowledged: Promise<Acknowledgement> }> {
    this.#transaction ??= await this.#client.begin(this.#vchannel, { keepaliveMs })
    const transaction = this.#transaction.id
    const { acknowledged } = await this.#transaction.submit(record)
    this.#records++
    return { acknowledged: acknowledged.then(({ lsn }) => ({ lsn, transaction })) }
  }

  async finish(): Promise<{ json: Record<string, unknown>; text: string } | null> {
    if (this.#transaction === null) return null
    const { id } = this.#transaction
    const { lsn, timeTick } = await this.#transaction.commit()
    const vchannel = this.#vchannel
    return {
      json: { vchannel, transaction: id, committed: true, records: this.#records, lsn, timeTick: String(timeTick) },
      text: `transaction ${id} was committed at LSN ${lsn}, time tick ${timeTick}`,
    }
  }

  async abandon(): Promise<void> {
    await this.#transaction?.[Symbol.asyncDispose]()
  }
}
