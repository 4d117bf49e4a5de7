/** The requests of a connection that have one answer each: how many are under way, and that each gets its answer. */
import { TidelogError } from '../../errors.ts'
import { encodeControl } from '../../protocol/control-codec.ts'
import { PRODUCERS_MAX } from '../../protocol/limits.ts'
import { encodeMessage, type Message, MessageType, messageTypeName } from '../../protocol/message.ts'
import { violation } from '../../protocol/violation.ts'
import { decodeConfirm } from '../../protocol/wal-messages.ts'
import { errorToWire } from '../../protocol/wire-error.ts'
import type { NodeService } from '../node-service.ts'
import { ConfirmWaiters } from './confirm-waiters.ts'
import type { ConnectionOptions } from './options.ts'
import { answerRequest } from './requests.ts'
import { answerWalRequest } from './wal-requests.ts'

export interface RequestDeskOptions {
  service: NodeService
  options: ConnectionOptions
  send: (message: Buffer) => void
  /** After one was answered. */
  onAnswered: () => void
  /** An answer that could not be made: the connection is of no use. */
  onBroken: () => void
  transactionIdle(group: number, transaction: number): Promise<void> | null
}

export class RequestDesk {
  readonly #options: RequestDeskOptions
  readonly #confirms: ConfirmWaiters
  /** Number and epoch of the producers that were opened on this connection. */
  readonly #producers = new Map<number, number>()
  readonly #idle: (() => void)[] = []
  #underWay = 0
  #plain = 0
  #transactions = 0

  constructor(options: RequestDeskOptions) {
    const { clock, confirmsMax } = options.options
    this.#options = options
    this.#confirms = new ConfirmWaiters({ service: options.service, clock, waitersMax: confirmsMax })
  }

  /** So many are worked on that nothing more is to be read. */
  get isFull(): boolean {
    const { requestsMax, transactionRequestsMax } = this.#options.options
    return this.#plain > requestsMax || this.#transactions > transactionRequestsMax
  }

  hasOpened(producer: number, epoch: number): boolean {
    return this.#producers.get(producer) === epoch
  }

  /** Throws PROTOCOL_VIOLATION for what cannot be read, or is no request. */
  take(message: Message): void {
    const { type, requestId, meta } = message
    if (requestId === 0) throw violation('a request has the id 0')
    const { service, transactionIdle } = this.#options
    if (type === MessageType.confirm) {
      this.#reply(requestId, this.#confirms.confirm(requestId, decodeConfirm(meta)), nothing)
      return
    }
    const answer = answerRequest(service, message)
    if (answer !== null) {
      this.answer(requestId, answer)
      return
    }
    const parts = {
      service,
      transactionIdle,
      onProducerOpened: (opened: { producer: number; epoch: number }) => this.#addProducer(opened),
    }
    const walAnswer = answerWalRequest(parts, message)
    if (walAnswer === null) throw violation(`a client does not send ${messageTypeName(type)}`)
    if (type === MessageType.txnBegin || type === MessageType.txnEnd) {
      this.#transactions++
      this.#reply(requestId, walAnswer, () => this.#transactions--)
    } else this.answer(requestId, walAnswer)
  }

  /** Counts as a request until `answer` is there; an error becomes an ERROR. */
  answer(requestId: number, answer: Promise<Buffer>): void {
    this.#plain++
    this.#reply(requestId, answer, () => this.#plain--)
  }

  /** The connection ends: those that only wait are told so. */
  end(): void {
    this.#confirms.end()
  }

  /** Settles when every request has its answer. */
  idle(): Promise<void> {
    if (this.#underWay === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  #addProducer({ producer, epoch }: { producer: number; epoch: number }): void {
    if (this.#producers.size >= PRODUCERS_MAX && !this.#producers.has(producer)) {
      throw new TidelogError('LIMIT_EXCEEDED', `more than ${PRODUCERS_MAX} producers were opened on this connection`)
    }
    this.#producers.set(producer, epoch)
  }

  #reply(requestId: number, answer: Promise<Buffer>, onAnswered: () => void): void {
    const { send, onBroken } = this.#options
    this.#underWay++
    answer
      .catch((error: unknown) => encodeMessage(MessageType.error, requestId, encodeControl(errorToWire(error))))
      .then((message) => {
        onAnswered()
        this.#underWay--
        send(message)
        this.#options.onAnswered()
        if (this.#underWay === 0) for (const resolve of this.#idle.splice(0)) resolve()
      })
      .catch(onBroken)
  }
}

function nothing(): void {}
