/** `connect`: the one way into the client library. */
import { loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { parseAddress } from '../protocol/address.ts'
import type { TickMessage } from '../protocol/consume-messages.ts'
import {
  decodeListed,
  decodeResolved,
  decodeStatusIs,
  decodeTruncated,
  encodeList,
  encodeResolve,
  encodeStatus,
  encodeTruncate,
} from '../protocol/control-messages.ts'
import { LIST_LIMIT_MAX } from '../protocol/limits.ts'
import { MessageType } from '../protocol/message.ts'
import { Appends } from './appends.ts'
import { checkName, refused } from './check-record.ts'
import { VchannelProducer } from './producer.ts'
import { ConsumedRecords } from './record-stream.ts'
import { Session } from './session.ts'
import { settingsOf } from './settings.ts'
import type {
  Appended,
  AppendedBatch,
  AppendOptions,
  AppendRecord,
  Client,
  ClientGroupStatus,
  ClientOptions,
  ClientStatus,
  ClientVchannel,
  ConsumeOptions,
  Producer,
  RecordStream,
  RequestOptions,
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
  readonly #consumers = new Set<ConsumedRecords>()
  #closing: Promise<void> | null = null

  constructor(address: string, session: Session) {
    this.address = address
    this.#session = session
    this.#appends = new Appends(session)
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
    options: AppendOptions = {},
  ): Promise<AppendedBatch> {
    return (await this.#appends.appendBatch(vchannel, records, options, null).promise) as AppendedBatch
  }

  async producer(vchannel: string): Promise<Producer> {
    checkName(vchannel)
    this.#checkOpen()
    return new VchannelProducer(vchannel, this.#appends)
  }

  consume(vchannels: string | readonly string[], options: ConsumeOptions = {}): RecordStream {
    const stream: ConsumedRecords = new ConsumedRecords(this.#session, vchannels, options, {
      onBegin: () => this.#consumers.add(stream),
      onEnd: () => this.#consumers.delete(stream),
    })
    return stream
  }

  async vchannels({ signal }: RequestOptions = {}): Promise<ClientVchannel[]> {
    const all: ClientVchannel[] = []
    for (let after = ''; ; ) {
      const meta = encodeList({ after, limit: LIST_LIMIT_MAX })
      const answer = await this.#session.request(MessageType.list, MessageType.listed, meta, { signal, repeat: true })
      const { vchannels, more } = decodeListed(answer.meta)
      all.push(...vchannels)
      const last = vchannels.at(-1)
      if (!more || last === undefined) return all
      after = last.name
    }
  }

  async vchannel(name: string, options: RequestOptions = {}): Promise<ClientVchannel> {
    return await this.#resolve(name, false, options)
  }

  async createVchannel(name: string, options: RequestOptions = {}): Promise<ClientVchannel> {
    return await this.#resolve(name, true, options)
  }

  async status({ signal }: RequestOptions = {}): Promise<ClientStatus> {
    const groups: ClientGroupStatus[] = []
    for (;;) {
      const meta = encodeStatus(groups.length)
      const answer = await this.#session.request(MessageType.status, MessageType.statusIs, meta, {
        signal,
        repeat: true,
      })
      const { groups: some, more, space } = decodeStatusIs(answer.meta)
      groups.push(...some)
      if (!more || some.length === 0) return { server: this.#session.serverName, groups, space }
    }
  }

  async truncate(vchannel: string, lsn: number, { signal }: RequestOptions = {}): Promise<{ firstLsn: number }> {
    checkName(vchannel)
    if (!Number.isSafeInteger(lsn) || lsn < 0) throw refused(`${String(lsn)} is not an LSN`)
    const meta = encodeTruncate({ vchannel, lsn })
    // Twice is as once.
    const answer = await this.#session.request(MessageType.truncate, MessageType.truncated, meta, {
      signal,
      repeat: true,
    })
    return { firstLsn: decodeTruncated(answer.meta) }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const { clock, closeTimeoutMs } = this.#session.settings
    const closed = new TidelogError<string>('CLOSED', 'the client is closed', { outcome: 'not-written' })
    this.#appends.refuseNew(closed)
    for (const consumer of [...this.#consumers]) consumer.end()
    let timer: { cancel(): void } | null = null
    const late = new Promise<void>((resolve) => {
      timer = clock.after(closeTimeoutMs, resolve, true)
    })
    await Promise.race([this.#appends.idle(), late])
    timer!.cancel()
    this.#appends.fail(closed)
    await this.#session.close()
  }

  async #resolve(name: string, create: boolean, { signal }: RequestOptions): Promise<ClientVchannel> {
    checkName(name)
    const meta = encodeResolve({ vchannel: name, create })
    const answer = await this.#session.request(MessageType.resolve, MessageType.resolved, meta, {
      signal,
      repeat: true,
    })
    return decodeResolved(answer.meta)
  }

  #checkOpen(): void {
    if (this.#closing !== null)
      throw new TidelogError<string>('CLOSED', 'the client is closed', { outcome: 'not-written' })
  }

  #onTick(tick: TickMessage): void {
    for (const consumer of this.#consumers) consumer.onTick(tick)
  }
}
