/** `connect`: the one way into the client library. */
import { loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { parseAddress } from '../protocol/address.ts'
import type { TickMessage } from '../protocol/consume-messages.ts'
import { KEEPALIVE_MS_MAX, NAME_BYTES_MAX } from '../protocol/limits.ts'
import { MessageType } from '../protocol/message.ts'
import { decodeProducerOpened, decodeTxnBegun, encodeProducerOpen, encodeTxnBegin } from '../protocol/wal-messages.ts'
import { Appends } from './appends.ts'
import { checkName, refused } from './check-record.ts'
import { SequencedProducer } from './identified-producer.ts'
import { insist } from './insistent-request.ts'
import { NodeRequests } from './node-requests.ts'
import { VchannelProducer } from './producer.ts'
import { ConsumedRecords } from './record-stream.ts'
import { Session } from './session.ts'
import { settingsOf } from './settings.ts'
import type { ClientProducerStatus, ClientStatus, ClientTransactionStatus, ClientVchannel } from './status-types.ts'
import { ClientTransaction } from './transaction.ts'
import type {
  Appended,
  AppendedBatch,
  AppendOptions,
  AppendRecord,
  BatchOptions,
  Client,
  ClientOptions,
  ConfirmedOptions,
  ConsumeOptions,
  IdentifiedProducer,
  Producer,
  ProducerOptions,
  RecordStream,
  RequestOptions,
  Transaction,
  TransactionOptions,
} from './types.ts'

export const DEFAULT_ADDRESS = 'tcp://127.0.0.1:7420'

/**
 * Connects to a node: `tcp://HOST:PORT` or `unix:PATH`. Throws INVALID_ARGUMENT, SERVER_UNREACHABLE, PROTOCOL_VERSION,
 * PROTOCOL_VIOLATION. Afterwards a lost connection is opened again by itself.
 */
export async function connect(address: string = DEFAULT_ADDRESS, options: ClientOptions = {}): Promise<Client> {
  const session = new Session(parseAddress(address), settingsOf(options))
  await loadChecksum()
  await session.open()
  return new ConnectedClient(address, session)
}

class ConnectedClient implements Client {
  readonly address: string
  readonly #session: Session
  readonly #appends: Appends
  readonly #requests: NodeRequests
  readonly #consumers = new Set<ConsumedRecords>()
  readonly #transactions = new Set<ClientTransaction>()
  #closing: Promise<void> | null = null

  constructor(address: string, session: Session) {
    this.address = address
    this.#session = session
    this.#appends = new Appends(session)
    this.#requests = new NodeRequests(session)
    session.add({ onTick: (tick) => this.#onTick(tick) })
  }

  get recordBytesMax(): number {
    return this.#session.limits.recordBytesMax
  }

  async append(vchannel: string, record: AppendRecord, options: AppendOptions = {}): Promise<Appended> {
    return (await this.#appends.append(vchannel, record, options, null).promise) as Appended
  }

  async appendBatch(
    vchannel: string,
    records: readonly AppendRecord[],
    options: BatchOptions = {},
  ): Promise<AppendedBatch> {
    if (Array.isArray(records) && !this.#appends.fitsOneFrame(records)) {
      return await this.#appendInTransaction(vchannel, records, options)
    }
    return (await this.#appends.appendBatch(vchannel, records, options, null).promise) as AppendedBatch
  }

  producer(vchannel: string): Promise<Producer>
  producer(vchannel: string, options: ProducerOptions): Promise<IdentifiedProducer>
  async producer(vchannel: string, options?: ProducerOptions): Promise<Producer> {
    checkName(vchannel)
    this.#checkOpen()
    if (options?.id === undefined) return new VchannelProducer(vchannel, this.#appends)
    return await this.#openProducer(vchannel, options.id, options.signal)
  }

  async begin(vchannel: string, options: TransactionOptions = {}): Promise<Transaction> {
    return await this.#begin(vchannel, options)
  }

  async confirmed(vchannel: string, options: ConfirmedOptions = {}): Promise<bigint> {
    return await this.#requests.confirmed(vchannel, options)
  }

  consume(vchannels: string | readonly string[], options: ConsumeOptions = {}): RecordStream {
    const stream: ConsumedRecords = new ConsumedRecords(this.#session, vchannels, options, {
      onBegin: () => this.#consumers.add(stream),
      onEnd: () => this.#consumers.delete(stream),
    })
    return stream
  }

  vchannels(options: RequestOptions = {}): Promise<ClientVchannel[]> {
    return this.#requests.vchannels(options)
  }

  async vchannel(name: string, options: RequestOptions = {}): Promise<ClientVchannel> {
    return await this.#requests.resolve(name, false, options)
  }

  async createVchannel(name: string, options: RequestOptions = {}): Promise<ClientVchannel> {
    return await this.#requests.resolve(name, true, options)
  }

  status(options: RequestOptions = {}): Promise<ClientStatus> {
    return this.#requests.status(options)
  }

  transactions(options: RequestOptions = {}): Promise<ClientTransactionStatus[]> {
    return this.#requests.transactions(options)
  }

  producers(options: RequestOptions = {}): Promise<ClientProducerStatus[]> {
    return this.#requests.producers(options)
  }

  async truncate(vchannel: string, lsn: number, options: RequestOptions = {}): Promise<{ firstLsn: number }> {
    return await this.#requests.truncate(vchannel, lsn, options)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #begin(vchannel: string, { keepaliveMs = 0, signal }: TransactionOptions): Promise<ClientTransaction> {
    checkName(vchannel)
    this.#checkOpen()
    if (!Number.isInteger(keepaliveMs) || keepaliveMs < 0 || keepaliveMs > KEEPALIVE_MS_MAX) {
      throw refused(`keepaliveMs is an integer from 0 to ${KEEPALIVE_MS_MAX}, not ${String(keepaliveMs)}`)
    }
    await this.#appends.ensure(vchannel, signal)
    const answer = await insist(this.#session, {
      type: MessageType.txnBegin,
      wanted: MessageType.txnBegun,
      meta: encodeTxnBegin({ vchannel, keepaliveMs }),
      timeoutMs: this.#session.settings.requestTimeoutMs,
      signal,
      what: 'the begin of a transaction',
    })
    this.#checkOpen()
    const begun = decodeTxnBegun(answer.meta)
    this.#session.ticks.raise(begun.group, begun.timeTick)
    const transaction = new ClientTransaction(this.#session, this.#appends, vchannel, begun, (over) =>
      this.#transactions.delete(over),
    )
    this.#transactions.add(transaction)
    return transaction
  }

  async #appendInTransaction(
    vchannel: string,
    records: readonly AppendRecord[],
    { barrierTick, signal }: BatchOptions,
  ): Promise<AppendedBatch> {
    const transaction = await this.#begin(vchannel, { signal })
    try {
      const range = await transaction.appendBatch(records, { barrierTick, signal })
      const { timeTick } = await transaction.commit()
      return { ...range, firstTimeTick: timeTick, lastTimeTick: timeTick }
    } finally {
      await transaction[Symbol.asyncDispose]()
    }
  }

  async #openProducer(vchannel: string, id: string, signal: AbortSignal | undefined): Promise<IdentifiedProducer> {
    if (typeof id !== 'string' || id === '' || Buffer.byteLength(id) > NAME_BYTES_MAX) {
      throw refused(`the id of a producer is a string of 1 to ${NAME_BYTES_MAX} bytes`)
    }
    await this.#appends.ensure(vchannel, signal)
    const { connection } = this.#session
    const answer = await insist(this.#session, {
      type: MessageType.producerOpen,
      wanted: MessageType.producerOpened,
      meta: encodeProducerOpen({ vchannel, id }),
      timeoutMs: this.#session.settings.requestTimeoutMs,
      signal,
      what: 'the opening of a producer',
    })
    this.#checkOpen()
    const opened = decodeProducerOpened(answer.meta)
    const same = this.#session.connection === connection ? connection : null
    return new SequencedProducer(this.#session, this.#appends, { vchannel, id }, opened, same)
  }

  async #close(): Promise<void> {
    const { clock, closeTimeoutMs } = this.#session.settings
    const closed = new TidelogError<string>('CLOSED', 'the client is closed', { outcome: 'not-written' })
    this.#appends.refuseNew(closed)
    for (const consumer of [...this.#consumers]) consumer.end()
    const settled = Promise.all([...this.#transactions].map((open) => open[Symbol.asyncDispose]()))
    let timer: { cancel(): void } | null = null
    const late = new Promise<void>((resolve) => {
      timer = clock.after(closeTimeoutMs, resolve, true)
    })
    await Promise.race([settled.then(() => this.#appends.idle()), late])
    timer!.cancel()
    this.#appends.fail(closed)
    await this.#session.close()
  }

  #checkOpen(): void {
    if (this.#closing !== null)
      throw new TidelogError<string>('CLOSED', 'the client is closed', { outcome: 'not-written' })
  }

  #onTick(tick: TickMessage): void {
    for (const consumer of this.#consumers) consumer.onTick(tick)
  }
}
