/** An open transaction: a lane of frames with its context, and its end. */
import { encodeContext } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { MessageType } from '../protocol/message.ts'
import { decodeTxnEnded, encodeTxnEnd, type TxnBegun, type TxnEnded } from '../protocol/wal-messages.ts'
import { type AppendEntry, SubmitOrder, withOutcome } from './append-entry.ts'
import type { Appends } from './appends.ts'
import { refused } from './check-record.ts'
import { FrameLane } from './frame-lane.ts'
import { insist } from './insistent-request.ts'
import type { LaneOwner } from './lane-owner.ts'
import { SubmittedTicket } from './producer.ts'
import type { Session } from './session.ts'
import type { Appended, AppendedBatch, AppendRecord, BatchOptions, Ticket, Transaction } from './types.ts'

/** Batches are cut into frames of about so much. */
const CHUNK_RECORDS = 8192
const CHUNK_BYTES = 1024 * 1024

/** The node says these of a transaction that is over, with nothing of it visible. */
const overCodes: ReadonlySet<string> = new Set(['TRANSACTION_ABORTED', 'TRANSACTION_EXPIRED'])

export class ClientTransaction implements Transaction, LaneOwner {
  readonly id: number
  readonly vchannel: string
  readonly group: number
  readonly keepaliveMs: number
  readonly failsWhole = true
  readonly #session: Session
  readonly #appends: Appends
  readonly #order = new SubmitOrder()
  readonly #lane: FrameLane
  readonly #context: Uint8Array
  readonly #onOver: (transaction: ClientTransaction) => void
  #records = 0
  #failure: TidelogError<string> | null = null
  #state: 'open' | 'committing' | 'rolling-back' = 'open'
  #committed: Promise<TxnEnded> | null = null
  #rolledBack: Promise<void> | null = null
  #over = false

  constructor(
    session: Session,
    appends: Appends,
    vchannel: string,
    begun: TxnBegun,
    onOver: (transaction: ClientTransaction) => void,
  ) {
    this.id = begun.transaction
    this.vchannel = vchannel
    this.group = begun.group
    this.keepaliveMs = begun.keepaliveMs
    this.#session = session
    this.#appends = appends
    this.#onOver = onOver
    this.#context = encodeContext({ transaction: BigInt(begun.transaction) })
    this.#lane = new FrameLane(session, this, 0)
    appends.addLane(this.#lane)
  }

  async append(record: AppendRecord): Promise<Appended> {
    return (await this.#enter(record).promise) as Appended
  }

  async submit(record: AppendRecord): Promise<Ticket> {
    const entry = this.#enter(record)
    await this.#appends.room(this.vchannel, this.#order)
    return new SubmittedTicket(entry)
  }

  #enter(record: AppendRecord): AppendEntry {
    this.#checkOpen()
    const entry = this.#appends.appendTo(this.#lane, this.vchannel, record, {}, this.#order)
    this.#records++
    return entry
  }

  async appendBatch(records: readonly AppendRecord[], options: BatchOptions = {}): Promise<AppendedBatch> {
    this.#checkOpen()
    if (!Array.isArray(records) || records.length === 0) throw refused('a batch is an array of one record or more')
    const parts: Promise<AppendedBatch>[] = []
    for (const chunk of chunksOf(records)) {
      // Its memory is bounded by what is on the way, not by the batch.
      const room = this.#appends.room(this.vchannel, this.#order)
      if (room !== null) await room
      this.#checkOpen()
      const entry = this.#appends.appendBatchTo(this.#lane, this.vchannel, chunk, options, this.#order)
      this.#records += chunk.length
      parts.push(entry.promise as Promise<AppendedBatch>)
    }
    const ranges = await Promise.all(parts)
    const first = ranges[0]!
    const last = ranges.at(-1)!
    return { ...first, lastLsn: last.lastLsn, lastTimeTick: last.lastTimeTick, transaction: this.id }
  }

  commit(): Promise<{ lsn: number; timeTick: bigint }> {
    if (this.#state === 'rolling-back' && this.#failure === null) return Promise.reject(stateError('is rolled back'))
    if (this.#committed === null) {
      if (this.#state === 'open') this.#state = 'committing'
      this.#committed = this.#commit()
      this.#committed.catch(() => {})
    }
    return this.#committed
  }

  rollback(): Promise<void> {
    if (this.#state === 'committing') return Promise.reject(stateError('is committed or being committed'))
    if (this.#rolledBack === null) {
      this.#state = 'rolling-back'
      this.#rolledBack = this.#rollback()
      this.#rolledBack.catch(() => {})
    }
    return this.#rolledBack
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (this.#committed ?? this.rollback()).catch(() => {})
  }

  context(): Uint8Array {
    return this.#context
  }

  transactionIndex(first: number): number {
    return first
  }

  greet(): null {
    return null
  }

  othersError(error: TidelogError<string>): TidelogError<string> {
    return overCodes.has(error.code) ? error : abortedBy(error)
  }

  isUndone(error: TidelogError<string>): boolean {
    return overCodes.has(error.code)
  }

  onAcknowledged(): void {}

  onEnded(error: TidelogError<string>): void {
    if (this.#state === 'rolling-back' || this.#over) return
    this.#failure = error
    // Nothing of it is wanted any more: the node need not wait for its keepalive.
    if (this.#state === 'open') void this.rollback()
  }

  async #commit(): Promise<TxnEnded> {
    try {
      await this.#order.idle()
      if (this.#failure === null) return await this.#end(true)
      await this.#rollback()
      throw withOutcome(this.othersError(this.#failure), 'not-written')
    } finally {
      this.#leave()
    }
  }

  async #rollback(): Promise<void> {
    try {
      this.#lane.fail(this.#failure ?? stateError('was rolled back'))
      const over = this.#failure !== null && overCodes.has(this.#failure.code)
      if (!over && this.#session.closed === null) await this.#end(false)
    } catch (error) {
      // What the node has ended already, or rolls back itself for want of its keepalive.
      if (this.#failure === null && !overCodes.has((error as TidelogError<string>).code)) throw error
    } finally {
      this.#leave()
    }
  }

  async #end(commit: boolean): Promise<TxnEnded> {
    const { appendTimeoutMs } = this.#session.settings
    const bodies = commit ? this.#records : 0
    const answer = await insist(this.#session, {
      type: MessageType.txnEnd,
      wanted: MessageType.txnEnded,
      meta: encodeTxnEnd({ group: this.group, transaction: this.id, commit, bodies }),
      timeoutMs: appendTimeoutMs,
      what: commit ? 'the commit' : 'the rollback',
    })
    const ended = decodeTxnEnded(answer.meta)
    this.#session.ticks.raise(this.group, ended.timeTick)
    return ended
  }

  #leave(): void {
    if (this.#over) return
    this.#over = true
    this.#lane.fail(this.#failure ?? stateError('has ended'))
    this.#appends.removeLane(this.#lane)
    this.#onOver(this)
  }

  #checkOpen(): void {
    if (this.#failure !== null) throw withOutcome(this.othersError(this.#failure), 'not-written')
    if (this.#state === 'committing') throw stateError('is committed or being committed')
    if (this.#state === 'rolling-back') throw stateError('is rolled back')
  }
}

function stateError(what: string): TidelogError<string> {
  return new TidelogError<string>('TRANSACTION_STATE', `the transaction ${what}`, { outcome: 'not-written' })
}

function abortedBy(cause: TidelogError<string>): TidelogError<string> {
  const message = `the transaction is rolled back: one of its records has failed: ${cause.code}: ${cause.message}`
  return new TidelogError<string>('TRANSACTION_ABORTED', message, { cause, outcome: 'not-written' })
}

function* chunksOf(records: readonly AppendRecord[]): Generator<readonly AppendRecord[]> {
  let from = 0
  let bytes = 0
  for (const [index, record] of records.entries()) {
    const size = record?.payload?.length ?? 0
    if (index > from && (index - from >= CHUNK_RECORDS || bytes + size > CHUNK_BYTES)) {
      yield records.slice(from, index)
      from = index
      bytes = 0
    }
    bytes += size
  }
  yield records.slice(from)
}
