/**
 * Transactions as they are used: begin, commit, rollback, leases. What it decides becomes true with the record that it
 * writes (transaction-table.ts); so whoever reads the log never needs to know what stood here.
 */
import type { Clock, RecordInput, Timer } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { encodeHeader } from '../../message/message-header.ts'
import { MessageType } from '../../message/message-type.ts'
import { HEADER_PROPERTY } from '../../message/property-names.ts'
import type { NodeAppender } from '../pipeline/node-appender.ts'
import type { TransactionStatus, WalError } from '../types.ts'
import { CONTROL_RECORDS_MAX, type ControlPlace, ControlQueue } from './control-queue.ts'
import { endedError, type RollbackReason, transactionError } from './transaction-errors.ts'
import { TransactionSession } from './transaction-session.ts'
import { type TransactionSessions, TransactionStage } from './transaction-stage.ts'
import { ENDED_MAX, type TransactionTable } from './transaction-table.ts'

export interface TransactionLimits {
  /** Of one that says nothing else. Default 10,000. */
  keepaliveMs?: number | undefined
  /** The longest that a transaction may be open, whatever is appended to it. Default 3,600,000. */
  lifetimeMs?: number | undefined
  /** Payloads and properties of one transaction. Default 64 MiB. */
  bytesMax?: number | undefined
  /** Records of one transaction. Default 1,048,576. */
  recordsMax?: number | undefined
  /** Open at a time in the pchannel. Default 65,536. */
  openMax?: number | undefined
}

export interface BegunTransaction {
  /** LSN of its begin. */
  readonly transaction: number
  /** Of its begin. */
  readonly timeTick: bigint
  readonly keepaliveMs: number
}

export interface TransactionStatistics {
  open: number
  begun: number
  committed: number
  rolledBack: number
  expired: number
}

/** The longest keepalive: a day. */
export const KEEPALIVE_MS_MAX = 86_400_000
/** A rollback that was not written is tried again after so long, each time twice as long, while the log may take it. */
const RETRY_MS = 1_000
const RETRY_MS_MAX = 60_000
/** How long a close waits for rollbacks; an opening writes those that are left. */
const CLOSE_WAIT_MS = 5_000

interface Leased {
  readonly session: TransactionSession
  timer: Timer | null
  /** Of the commit or the rollback that is under way. */
  ending: Promise<ControlPlace> | null
  reason: RollbackReason | null
  /** Until the next attempt to write its rollback. */
  retryMs: number
}

export class TransactionManager {
  readonly stage: TransactionStage
  readonly #clock: Clock
  readonly #table: TransactionTable
  readonly #appender: Pick<NodeAppender, 'appendControl'>
  readonly #queue: ControlQueue
  readonly #limits: { readonly [K in keyof Required<TransactionLimits>]: number }
  readonly #leased = new Map<number, Leased>()
  /** Why those that ended last were rolled back. */
  readonly #reasons = new Map<number, RollbackReason>()
  readonly #beginning = new Set<Promise<unknown>>()
  readonly #counts = { begun: 0, committed: 0, rolledBack: 0, expired: 0 }
  #isClosing = false
  #isClosed = false

  constructor(
    clock: Clock,
    table: TransactionTable,
    appender: Pick<NodeAppender, 'appendControl'>,
    limits: TransactionLimits = {},
  ) {
    this.#clock = clock
    this.#table = table
    this.#appender = appender
    this.#queue = new ControlQueue(appender)
    const { keepaliveMs = 10_000, lifetimeMs = 3_600_000, recordsMax = 1_048_576, openMax = 65_536 } = limits
    this.#limits = { keepaliveMs, lifetimeMs, bytesMax: limits.bytesMax ?? 64 * 1024 * 1024, recordsMax, openMax }
    this.stage = new TransactionStage(this.#sessions)
  }

  get statistics(): TransactionStatistics {
    return { open: this.#leased.size, ...this.#counts }
  }

  /**
   * Rolls back what the log leaves open, before anything is admitted. `isLost`: the state is not known; one record ends all,
   * and its tick is given, above which everything is known. Else 0n.
   */
  async recover(isLost: boolean): Promise<bigint> {
    if (isLost) {
      const { range } = await this.#appender.appendControl([control('', MessageType.rollbackTxn, { all: true })])
      return range.firstTimeTick
    }
    const records: RecordInput[] = []
    for (const { vchannel, transaction } of this.#table.openTransactions())
      records.push(rollbackOf(vchannel, transaction, false))
    const frames: Promise<unknown>[] = []
    for (let from = 0; from < records.length; from += CONTROL_RECORDS_MAX) {
      frames.push(this.#appender.appendControl(records.slice(from, from + CONTROL_RECORDS_MAX)))
    }
    await Promise.all(frames)
    return 0n
  }

  /**
   * Settles when the begin is durable. Rejects with INVALID_ARGUMENT, LIMIT_EXCEEDED (retriable), CLOSED, ABORTED, or as
   * an append does.
   */
  async begin(
    vchannel: string,
    options: { keepaliveMs?: number | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<BegunTransaction> {
    const { keepaliveMs = this.#limits.keepaliveMs, signal } = options
    if (!Number.isSafeInteger(keepaliveMs) || keepaliveMs < 1 || keepaliveMs > KEEPALIVE_MS_MAX) {
      const message = `a keepalive of ${String(keepaliveMs)} ms; it has to be an integer from 1 to ${KEEPALIVE_MS_MAX}`
      throw transactionError('INVALID_ARGUMENT', message)
    }
    if (typeof vchannel !== 'string' || vchannel === '') {
      throw transactionError('INVALID_ARGUMENT', 'a transaction is one of a vchannel, and this names none')
    }
    if (this.#isClosing) throw closed()
    if (signal?.aborted) throw aborted(signal)
    const { openMax } = this.#limits
    if (this.#leased.size + this.#beginning.size >= openMax) {
      const message = `${openMax} transactions are open in this pchannel; begin again when some have ended`
      throw new TidelogError('LIMIT_EXCEEDED', message, { outcome: 'not-written', retriable: true })
    }
    const record = control(vchannel, MessageType.beginTxn, { keepalive_milliseconds: keepaliveMs })
    const written = this.#queue.append(record, () => null)
    this.#beginning.add(written)
    try {
      const { lsn, timeTick } = await written
      if (signal?.aborted) {
        // Nobody will use it.
        void this.rollback(lsn).catch(() => {})
        throw aborted(signal)
      }
      return { transaction: lsn, timeTick, keepaliveMs }
    } finally {
      this.#beginning.delete(written)
    }
  }

  /**
   * Waits for the records that are under way. `bodies`: how many the caller has appended; TRANSACTION_STATE when it is
   * another number, and it stays open. A repeat is answered as the first was. Rejects with TRANSACTION_ABORTED when one of
   * its records has failed (it is rolled back then), TRANSACTION_EXPIRED, TRANSACTION_STATE, or as an append does: with
   * `not-written` it is open as before.
   */
  commit(transaction: number, bodies?: number): Promise<ControlPlace> {
    const leased = this.#leased.get(transaction)
    if (leased === undefined) return this.#answer(transaction, 'committed')
    const { session } = leased
    if (session.state === 'committing') return leased.ending!
    if (session.state !== 'open') return Promise.reject(this.#refusal(transaction))
    if (bodies !== undefined && bodies !== session.records && session.failure === null) {
      const message = `the transaction ${transaction} has ${session.records} records here, and its client has sent ${bodies}`
      return Promise.reject(transactionError('TRANSACTION_STATE', message))
    }
    session.state = 'committing'
    leased.ending = this.#commit(leased)
    leased.ending.catch(() => {})
    return leased.ending
  }

  /** Idempotent. Records that have no place in the log yet are refused. Rejects with TRANSACTION_STATE, or as an append. */
  rollback(transaction: number): Promise<ControlPlace> {
    const leased = this.#leased.get(transaction)
    if (leased === undefined) return this.#answer(transaction, 'rolled-back')
    if (leased.session.state === 'committing') return Promise.reject(this.#refusal(transaction))
    return this.#rollBack(leased, 'caller')
  }

  /** One of its records was refused before it came here: it can only be rolled back. */
  doom(transaction: number, error: unknown): void {
    const session = this.#leased.get(transaction)?.session
    if (session !== undefined) session.failure ??= error
  }

  /** Those that are open, the oldest first. */
  list(): TransactionStatus[] {
    const now = this.#clock.monotonicMs()
    return [...this.#leased.values()].map(({ session }) => ({
      transaction: session.id,
      vchannel: session.vchannel,
      state: session.state as TransactionStatus['state'],
      bodies: session.records,
      bytes: session.bytes,
      ageMs: Math.max(0, Math.floor(now - session.begunMs)),
      leftMs: Math.max(0, Math.ceil(this.#dueMs(session, now) - now)),
      keepaliveMs: session.keepaliveMs,
    }))
  }

  /** Commits that are under way go on, all others are rolled back; what does not end in time is left to the next opening. */
  async close(): Promise<void> {
    this.#isClosing = true
    let late: Timer | undefined
    const deadline = new Promise<void>((resolve) => {
      late = this.#clock.after(CLOSE_WAIT_MS, resolve)
    })
    await Promise.race([this.#endAll(), deadline])
    late?.cancel()
    this.#isClosed = true
    for (const { session, timer } of this.#leased.values()) {
      timer?.cancel()
      session.state = 'ended'
    }
    this.#leased.clear()
  }

  async #endAll(): Promise<void> {
    await Promise.allSettled(this.#beginning)
    const ends = [...this.#leased.values()].map((leased) =>
      leased.session.state === 'open' ? this.#rollBack(leased, 'closed') : leased.ending,
    )
    await Promise.allSettled(ends)
  }

  async #commit(leased: Leased): Promise<ControlPlace> {
    const { session } = leased
    await session.idle()
    if (session.state === 'ended') throw this.#refusal(session.id)
    if (session.failure !== null) {
      const cause = session.failure
      session.state = 'open'
      await this.#rollBack(leased, 'failed').catch(() => {
        // It is tried again; nothing of it is visible either way.
      })
      const message = `the transaction ${session.id} is rolled back: one of its records has failed`
      throw transactionError('TRANSACTION_ABORTED', message, cause)
    }
    const { bodies, hash } = this.#table.open(session.id)!
    const record = control(session.vchannel, MessageType.commitTxn, { begin: session.id, bodies, hash })
    return await this.#write(leased, record)
  }

  #rollBack(leased: Leased, reason: RollbackReason): Promise<ControlPlace> {
    const { session } = leased
    if (session.state === 'rolling-back') return leased.ending!
    session.state = 'rolling-back'
    leased.reason ??= reason
    leased.ending = this.#writeRollback(leased)
    leased.ending.catch(() => {})
    return leased.ending
  }

  async #writeRollback(leased: Leased): Promise<ControlPlace> {
    const { session } = leased
    try {
      return await this.#write(leased, rollbackOf(session.vchannel, session.id, leased.reason === 'expired'))
    } catch (error) {
      // An exclusive message was first: it has ended as it was to end.
      const ended = this.#table.ended(session.id)
      if (ended !== undefined && ended.outcome !== 'committed') return ended
      throw error
    }
  }

  /** What ends it. Where nothing was written, it is open again: to be committed again, or to be rolled back. */
  async #write(leased: Leased, record: RecordInput): Promise<ControlPlace> {
    const { session } = leased
    try {
      return await this.#queue.append(record, () => (session.state === 'ended' ? this.#refusal(session.id) : null))
    } catch (error) {
      const { state } = session as { state: TransactionSession['state'] }
      if (state !== 'ended' && error instanceof TidelogError && error.outcome === 'not-written') {
        session.state = 'open'
        leased.ending = null
        if (state === 'committing') {
          this.#arm(leased, session.keepaliveMs)
        } else {
          session.failure ??= error
          // Of a log that takes nothing more it is left to the next opening.
          if (error.retriable) {
            this.#arm(leased, leased.retryMs)
            leased.retryMs = Math.min(2 * leased.retryMs, RETRY_MS_MAX)
          }
        }
      }
      throw error
    }
  }

  /** A repeat of what ended it. */
  #answer(transaction: number, outcome: 'committed' | 'rolled-back'): Promise<ControlPlace> {
    const ended = this.#table.ended(transaction)
    const isSame = ended !== undefined && (ended.outcome === 'committed') === (outcome === 'committed')
    if (isSame) return Promise.resolve({ lsn: ended.lsn, timeTick: ended.timeTick })
    return Promise.reject(this.#refusal(transaction))
  }

  #refusal(transaction: number): WalError {
    const state = this.#leased.get(transaction)?.session.state
    if (state === 'committing') {
      return transactionError('TRANSACTION_STATE', `the transaction ${transaction} is being committed`)
    }
    if (state === 'rolling-back') {
      const expired = this.#leased.get(transaction)!.reason === 'expired'
      const message = `the transaction ${transaction} is being rolled back${expired ? ': it has expired' : ''}`
      return transactionError(expired ? 'TRANSACTION_EXPIRED' : 'TRANSACTION_STATE', message)
    }
    if (this.#isClosing && this.#table.open(transaction) !== undefined) return closed()
    return endedError(transaction, this.#table.ended(transaction), this.#reasons.get(transaction) ?? null)
  }

  // --- leases -----------------------------------------------------------------------------------------------------

  #dueMs(session: TransactionSession, now: number): number {
    const end = session.begunMs + this.#limits.lifetimeMs
    const used = session.underWay > 0 ? now : session.lastUsedMs
    return Math.min(used + session.keepaliveMs, end)
  }

  #arm(leased: Leased, delayMs: number): void {
    leased.timer?.cancel()
    leased.timer = this.#clock.after(delayMs, () => {
      leased.timer = null
      this.#look(leased)
    })
  }

  /** Appends only note when they came; the timer looks whether there was one. */
  #look(leased: Leased): void {
    const { session } = leased
    // One that is being ended is armed again where that fails.
    if (session.state !== 'open') return
    const now = this.#clock.monotonicMs()
    const left = this.#dueMs(session, now) - now
    if (left > 0 && leased.reason === null) {
      this.#arm(leased, left)
      return
    }
    if (leased.reason === null) this.#counts.expired++
    void this.#rollBack(leased, 'expired')
  }

  /** What the stage asks and tells. */
  get #sessions(): TransactionSessions {
    return {
      get: (transaction) => this.#leased.get(transaction)?.session,
      refusal: (transaction) => this.#refusal(transaction),
      isOpenInLog: (transaction) => this.#table.open(transaction) !== undefined,
      checkSize: (session, records, bytes) => this.#checkSize(session, records, bytes),
      used: (session) => {
        session.lastUsedMs = this.#clock.monotonicMs()
      },
      began: (transaction, vchannel, keepaliveMs) => this.#began(transaction, vchannel, keepaliveMs),
      ended: (transaction) => this.#ended(transaction),
      endedAll: (vchannel) => {
        for (const { session } of this.#leased.values()) {
          if (vchannel === '' || session.vchannel === vchannel) this.#ended(session.id)
        }
      },
    }
  }

  #checkSize(session: TransactionSession, records: number, bytes: number): void {
    const { recordsMax, bytesMax } = this.#limits
    const name = `the transaction ${session.id}`
    if (session.records + records > recordsMax) {
      throw transactionError('LIMIT_EXCEEDED', `${name} would have more than ${recordsMax} records`)
    }
    if (session.bytes + bytes > bytesMax) {
      throw transactionError('LIMIT_EXCEEDED', `${name} would have more than ${bytesMax} bytes`)
    }
  }

  #began(transaction: number, vchannel: string, keepaliveMs: number): void {
    if (this.#isClosed) return
    const session = new TransactionSession(transaction, vchannel, keepaliveMs, this.#clock.monotonicMs())
    const leased: Leased = { session, timer: null, ending: null, reason: null, retryMs: RETRY_MS }
    this.#leased.set(transaction, leased)
    this.#counts.begun++
    this.#arm(leased, Math.min(keepaliveMs, this.#limits.lifetimeMs))
  }

  #ended(transaction: number): void {
    const leased = this.#leased.get(transaction)
    if (leased === undefined) return
    const { session, timer, reason } = leased
    timer?.cancel()
    session.state = 'ended'
    this.#leased.delete(transaction)
    if (this.#table.ended(transaction)?.outcome === 'committed') this.#counts.committed++
    else this.#counts.rolledBack++
    if (reason === null) return
    this.#reasons.set(transaction, reason)
    if (this.#reasons.size <= ENDED_MAX) return
    for (const oldest of this.#reasons.keys()) {
      this.#reasons.delete(oldest)
      return
    }
  }
}

function rollbackOf(vchannel: string, transaction: number, expired: boolean): RecordInput {
  return control(vchannel, MessageType.rollbackTxn, { begin: transaction, ...(expired ? { expired } : {}) })
}

function control(vchannel: string, type: number, fields: Readonly<Record<string, unknown>>): RecordInput {
  return { vchannel, type, properties: { [HEADER_PROPERTY]: encodeHeader(type, fields) } }
}

function closed(): WalError {
  return new TidelogError('CLOSED', 'the WAL is closed', { outcome: 'not-written' }) as WalError
}

function aborted(signal: AbortSignal): WalError {
  const message = 'the begin of the transaction was aborted'
  return new TidelogError('ABORTED', message, { outcome: 'not-written', cause: signal.reason }) as WalError
}
