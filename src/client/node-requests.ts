/** What a client asks of the node beside producing and consuming. All of it can be asked twice. */
import { TidelogError } from '../errors.ts'
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
import { CONFIRM_WAIT_MS_MAX, LIST_LIMIT_MAX } from '../protocol/limits.ts'
import { type Message, MessageType } from '../protocol/message.ts'
import {
  decodeConfirmed,
  decodeProducerListed,
  decodeTxnListed,
  encodeConfirm,
  encodeProducerList,
  encodeTxnList,
} from '../protocol/wal-messages.ts'
import { checkName, refused } from './check-record.ts'
import type { Session } from './session.ts'
import { abortable } from './settings.ts'
import type {
  ClientGroupStatus,
  ClientProducerStatus,
  ClientStatus,
  ClientTransactionStatus,
  ClientVchannel,
} from './status-types.ts'
import type { ConfirmedOptions, RequestOptions } from './types.ts'

export class NodeRequests {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  async vchannels(options: RequestOptions): Promise<ClientVchannel[]> {
    const all: ClientVchannel[] = []
    for (let after = ''; ; ) {
      const meta = encodeList({ after, limit: LIST_LIMIT_MAX })
      const { vchannels, more } = decodeListed(await this.#ask(MessageType.list, MessageType.listed, meta, options))
      all.push(...vchannels)
      const last = vchannels.at(-1)
      if (!more || last === undefined) return all
      after = last.name
    }
  }

  async resolve(name: string, create: boolean, options: RequestOptions): Promise<ClientVchannel> {
    checkName(name)
    const meta = encodeResolve({ vchannel: name, create })
    return decodeResolved(await this.#ask(MessageType.resolve, MessageType.resolved, meta, options))
  }

  async status(options: RequestOptions): Promise<ClientStatus> {
    const groups: ClientGroupStatus[] = []
    for (;;) {
      const meta = encodeStatus(groups.length)
      const answer = await this.#ask(MessageType.status, MessageType.statusIs, meta, options)
      const { groups: some, more, space } = decodeStatusIs(answer)
      groups.push(...some)
      if (!more || some.length === 0) return { server: this.#session.serverName, groups, space }
    }
  }

  async transactions(options: RequestOptions): Promise<ClientTransactionStatus[]> {
    const all: ClientTransactionStatus[] = []
    for (;;) {
      const meta = encodeTxnList(all.length)
      const answer = await this.#ask(MessageType.txnList, MessageType.txnListed, meta, options)
      const { transactions, more } = decodeTxnListed(answer)
      all.push(...transactions)
      if (!more || transactions.length === 0) return all
    }
  }

  async producers(options: RequestOptions): Promise<ClientProducerStatus[]> {
    const all: ClientProducerStatus[] = []
    for (;;) {
      const meta = encodeProducerList(all.length)
      const answer = await this.#ask(MessageType.producerList, MessageType.producerListed, meta, options)
      const { producers, more } = decodeProducerListed(answer)
      all.push(...producers)
      if (!more || producers.length === 0) return all
    }
  }

  async truncate(vchannel: string, lsn: number, options: RequestOptions): Promise<{ firstLsn: number }> {
    checkName(vchannel)
    if (!Number.isSafeInteger(lsn) || lsn < 0) throw refused(`${String(lsn)} is not an LSN`)
    const meta = encodeTruncate({ vchannel, lsn })
    return { firstLsn: decodeTruncated(await this.#ask(MessageType.truncate, MessageType.truncated, meta, options)) }
  }

  /** The node waits for the tick; when the connection is lost it is asked again. */
  async confirmed(vchannel: string, options: ConfirmedOptions): Promise<bigint> {
    const { clock, requestTimeoutMs } = this.#session.settings
    const { atLeast = 0n, timeoutMs = requestTimeoutMs, signal } = options
    if (typeof atLeast !== 'bigint' || atLeast < 0n || atLeast >= 2n ** 64n)
      throw refused('a tick is a bigint of 64 bits')
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) throw refused('timeoutMs is a number from 0 on')
    const untilMs = clock.monotonicMs() + timeoutMs
    const { group } = await this.resolve(vchannel, false, { signal })
    const waiting = { given: false }
    const what = `the watermark of ${vchannel} has not reached ${atLeast}; the request`
    const leftMs = Math.max(0, untilMs - clock.monotonicMs())
    try {
      const confirmed = this.#confirm(group, atLeast, untilMs, waiting)
      return await abortable(confirmed, { clock, timeoutMs: leftMs, signal, what })
    } finally {
      waiting.given = true
    }
  }

  async #confirm(group: number, atLeast: bigint, untilMs: number, waiting: { given: boolean }): Promise<bigint> {
    const { clock } = this.#session.settings
    for (;;) {
      const connection = await this.#session.connected()
      const leftMs = untilMs - clock.monotonicMs()
      if (waiting.given || leftMs < 0) throw new TidelogError<string>('TIMEOUT', 'it was late', { retriable: true })
      const waitMs = Math.min(CONFIRM_WAIT_MS_MAX, Math.ceil(leftMs))
      try {
        const meta = encodeConfirm({ group, atLeast, waitMs })
        const answer = await connection.request(MessageType.confirm, MessageType.confirmed, meta)
        const timeTick = decodeConfirmed(answer.meta)
        this.#session.ticks.raise(group, timeTick)
        return timeTick
      } catch (error) {
        const { code } = error as TidelogError<string>
        if (code !== 'CONNECTION_LOST' && (code !== 'TIMEOUT' || waitMs < CONFIRM_WAIT_MS_MAX)) throw error
      }
    }
  }

  async #ask(type: MessageType, wanted: MessageType, meta: Buffer, { signal }: RequestOptions): Promise<Buffer> {
    const answer: Message = await this.#session.request(type, wanted, meta, { signal, repeat: true })
    return answer.meta
  }
}
