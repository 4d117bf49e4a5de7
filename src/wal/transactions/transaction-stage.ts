/**
 * The stage that asks whether a transaction still takes what comes: bodies of their session, begins, commits and
 * rollbacks of the state. It is also where sessions hear what the log has made of them.
 */
import { TidelogError } from '../../errors.ts'
import type { BodyEffect } from '../effect.ts'
import type { AppendUnit, Stage, UnitResult } from '../pipeline/interceptor.ts'
import type { WalError } from '../types.ts'
import { transactionError } from './transaction-errors.ts'
import type { SessionFlight, TransactionSession } from './transaction-session.ts'

/** What the stage asks and tells the manager. */
export interface TransactionSessions {
  get(transaction: number): TransactionSession | undefined
  /** Why a call on one that has no session, or whose session is over, is refused. */
  refusal(transaction: number): WalError
  isOpenInLog(transaction: number): boolean
  /** LIMIT_EXCEEDED. */
  checkSize(session: TransactionSession, records: number, bytes: number): void
  used(session: TransactionSession): void
  began(transaction: number, vchannel: string, keepaliveMs: number): void
  ended(transaction: number): void
  /** The empty name: the whole pchannel. Null of a rollback of all. */
  endedAll(vchannel: string): void
}

interface Held {
  readonly session: TransactionSession
  readonly flight: SessionFlight
}

/** Repeats that wait for what they repeat. */
const WAITERS_MAX = 65_536

export class TransactionStage implements Stage {
  readonly name = 'transaction'
  readonly #sessions: TransactionSessions
  readonly #held = new Map<AppendUnit, Held>()
  #waiting = 0

  constructor(sessions: TransactionSessions) {
    this.#sessions = sessions
  }

  /**
   * Throws TRANSACTION_STATE, TRANSACTION_EXPIRED, TRANSACTION_ABORTED, LIMIT_EXCEEDED, SEQUENCE_GAP,
   * SEQUENCE_STRADDLED, SEQUENCE_FORGOTTEN, INVALID_ARGUMENT, QUEUE_FULL, ABORTED: not written.
   */
  before(unit: AppendUnit): void | Promise<void> {
    let body: BodyEffect | null = null
    for (const effect of unit.effects) {
      if (effect.kind === 'body') {
        if (body !== null) throw mixed()
        body = effect
      }
    }
    if (body !== null) return this.#askBody(unit, body)
    const refusal = this.#refusalOfEnds(unit)
    if (refusal !== null) throw refusal
  }

  admit(unit: AppendUnit): WalError | null {
    const held = this.#held.get(unit)
    if (held === undefined) return this.#refusalOfEnds(unit)
    const { session, flight } = held
    if (session.state === 'rolling-back' || session.state === 'ended') return this.#sessions.refusal(session.id)
    return session.place(flight)
  }

  after(unit: AppendUnit, result: UnitResult): void {
    const held = this.#held.get(unit)
    if (held !== undefined) {
      this.#held.delete(unit)
      this.#sessions.used(held.session)
      held.session.settled(held.flight, result)
      return
    }
    for (const effect of unit.effects) {
      if (effect.kind === 'begin') {
        this.#sessions.began(result.range.firstLsn + effect.row, effect.vchannel, effect.keepaliveMs)
      } else if (effect.kind === 'commit') {
        this.#sessions.ended(effect.transaction)
      } else if (effect.kind === 'rollback') {
        if (effect.transaction === null) this.#sessions.endedAll('')
        else this.#sessions.ended(effect.transaction)
      } else if (effect.kind === 'exclusive') {
        this.#sessions.endedAll(effect.vchannel)
      }
    }
  }

  failed(unit: AppendUnit, error: unknown): void {
    const held = this.#held.get(unit)
    if (held === undefined) return
    this.#held.delete(unit)
    const { session, flight } = held
    const isUnwritten = error instanceof TidelogError && error.outcome === 'not-written'
    // A client sends what was not written again, under the same index, or its commit is refused for its number.
    if (unit.transactionIndex === null || !isUnwritten) session.failure ??= error
    session.failed(flight)
  }

  #askBody(unit: AppendUnit, { vchannel, transaction, count, bytes }: BodyEffect): void | Promise<void> {
    if (count !== unit.recordCount) throw mixed()
    const session = this.#sessions.get(transaction)
    if (session === undefined) throw this.#sessions.refusal(transaction)
    if (session.vchannel !== vchannel) {
      const message = `the transaction ${transaction} is one of "${session.vchannel}", and its records are for "${vchannel}"`
      throw transactionError('INVALID_ARGUMENT', message)
    }
    if (session.state !== 'open') throw this.#sessions.refusal(transaction)
    if (session.failure !== null) {
      const message = `the transaction ${transaction} can only be rolled back: one of its records has failed`
      throw transactionError('TRANSACTION_ABORTED', message, session.failure)
    }
    const index = unit.transactionIndex
    if (index === null || index >= session.records) this.#sessions.checkSize(session, count, bytes)
    const verdict = session.ask(index, count, bytes)
    this.#sessions.used(session)
    if (verdict.kind === 'reserved') {
      this.#held.set(unit, { session, flight: verdict.flight })
    } else if (verdict.kind === 'repeat') {
      unit.answer = verdict.result
    } else {
      return this.#wait(unit, verdict.flight.settled).then((result) => {
        if (result === null) return this.before(unit)
        unit.answer = { ...result, duplicate: true }
      })
    }
  }

  /** Exclusive messages, rollbacks and commits may have come first while this one waited for its turn. */
  #refusalOfEnds(unit: AppendUnit): WalError | null {
    for (const effect of unit.effects) {
      const ends = effect.kind === 'commit' || effect.kind === 'rollback' ? effect.transaction : null
      if (ends !== null && !this.#sessions.isOpenInLog(ends)) return this.#sessions.refusal(ends)
    }
    return null
  }

  /** Its end is that of an append, which has a deadline. */
  #wait<T>({ signal }: AppendUnit, settled: Promise<T>): Promise<T> {
    if (this.#waiting >= WAITERS_MAX) {
      const message = `${this.#waiting} repeats wait for what they repeat; try again later`
      return Promise.reject(new TidelogError('QUEUE_FULL', message, { outcome: 'not-written', retriable: true }))
    }
    this.#waiting++
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        const message = 'the append was aborted while it waited for the one that it repeats'
        reject(new TidelogError('ABORTED', message, { outcome: 'not-written', cause: signal?.reason }))
      }
      if (signal?.aborted) onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      void settled.then((value) => {
        signal?.removeEventListener('abort', onAbort)
        resolve(value)
      })
    }).finally(() => {
      this.#waiting--
    })
  }
}

function mixed(): WalError {
  return transactionError('INVALID_ARGUMENT', 'a frame of a transaction holds records of that transaction alone')
}
