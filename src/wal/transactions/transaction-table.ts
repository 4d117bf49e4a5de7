/**
 * Which transactions are open, what their commits have to say, and how the last ones have ended: what the log says, and
 * nothing that is still under way. A part of the WAL's state (state/): changed by effects alone.
 */
import type { Effect } from '../effect.ts'
import { foldLsn } from './transaction-hash.ts'
import { TruncationSpans } from './truncation-spans.ts'

/** Ended transactions whose answer is known: a repeated commit or rollback is answered as the first was. */
export const ENDED_MAX = 65_536
/** What a decoder believes; opening is bounded below it by the manager. */
const OPEN_MAX = 1_048_576
const NAME_LENGTH_MAX = 255
const KEEPALIVE_MAX = 2 ** 48
const HASH_END = 2n ** 64n
const TICK_END = 2n ** 63n

export interface OpenTransactionRecord {
  /** LSN of its begin. */
  readonly transaction: number
  readonly vchannel: string
  readonly keepaliveMs: number
  /** Records of it that are in the log, their payloads and properties, and `foldLsn` over their LSNs. */
  readonly bodies: number
  readonly bytes: number
  readonly hash: bigint
}

/** `expired`: rolled back, by its lease. */
export type TransactionOutcome = 'committed' | 'rolled-back' | 'exclusive' | 'expired'

export interface EndedTransaction {
  readonly outcome: TransactionOutcome
  /** Of the record that ended it. */
  readonly lsn: number
  readonly timeTick: bigint
}

type Changing = { -readonly [K in keyof OpenTransactionRecord]: OpenTransactionRecord[K] }

const OUTCOMES: readonly TransactionOutcome[] = ['committed', 'rolled-back', 'exclusive', 'expired']

export class TransactionTable {
  /** Ascending: begins are applied in LSN order. */
  readonly #open = new Map<number, Changing>()
  /** In the order in which they ended. */
  readonly #ended = new Map<number, EndedTransaction>()
  /** Their ids in that order, from `#oldest` on: a map that loses its first entry again and again is slow to find it. */
  #order: number[] = []
  #oldest = 0
  readonly #spans: TruncationSpans

  constructor(spans = new TruncationSpans()) {
    this.#spans = spans
  }

  get openCount(): number {
    return this.#open.size
  }

  open(transaction: number): OpenTransactionRecord | undefined {
    return this.#open.get(transaction)
  }

  /** Ascending. */
  openTransactions(): IterableIterator<OpenTransactionRecord> {
    return this.#open.values()
  }

  /** Undefined too of one that ended before the last 65,536. */
  ended(transaction: number): EndedTransaction | undefined {
    return this.#ended.get(transaction)
  }

  /**
   * How far the log must be kept when nothing below `lsn` is needed any more: transactions that are open, and those that
   * were committed at or above it, are kept from their begins on.
   */
  truncationFloor(lsn: number): number {
    let floor = this.#spans.floor(lsn)
    for (const { transaction } of this.#open.values()) {
      floor = Math.min(floor, transaction)
      break
    }
    return floor
  }

  /** The log begins at `lsn` now. */
  truncated(lsn: number): void {
    this.#spans.dropBelow(lsn)
  }

  /** `lsn` and `timeTick` of its (first) record. Effects of another kind change nothing. */
  apply(effect: Effect, lsn: number, timeTick: bigint): void {
    switch (effect.kind) {
      case 'begin': {
        const { vchannel, keepaliveMs } = effect
        const hash = BigInt(lsn)
        this.#open.set(lsn, { transaction: lsn, vchannel, keepaliveMs, bodies: 0, bytes: 0, hash })
        return
      }
      case 'body': {
        // Of one that is not open they count for nothing, as for readers.
        const open = this.#open.get(effect.transaction)
        if (open === undefined || open.vchannel !== effect.vchannel) return
        open.bodies += effect.count
        open.bytes += effect.bytes
        for (let index = 0; index < effect.count; index++) open.hash = foldLsn(open.hash, lsn + index)
        return
      }
      case 'commit':
        if (!this.#open.has(effect.transaction)) return
        this.#spans.add(lsn, effect.transaction)
        this.#end(effect.transaction, { outcome: 'committed', lsn, timeTick })
        return
      case 'rollback': {
        const ended: EndedTransaction = { outcome: effect.expired ? 'expired' : 'rolled-back', lsn, timeTick }
        if (effect.transaction === null) this.#endAll('', ended)
        else if (this.#open.has(effect.transaction)) this.#end(effect.transaction, ended)
        return
      }
      case 'exclusive':
        this.#endAll(effect.vchannel, { outcome: 'exclusive', lsn, timeTick })
        return
      default:
    }
  }

  /** Plain values, for a snapshot. */
  encode(): unknown[] {
    const open: unknown[] = []
    for (const { transaction, vchannel, keepaliveMs, bodies, bytes, hash } of this.#open.values()) {
      open.push([transaction, vchannel, keepaliveMs, bodies, bytes, hash])
    }
    const ended: unknown[] = []
    for (const [transaction, { outcome, lsn, timeTick }] of this.#ended) {
      ended.push([transaction, OUTCOMES.indexOf(outcome), lsn, timeTick])
    }
    return [open, ended, this.#spans.encode()]
  }

  /** Throws an Error for what `encode` cannot have given. Integers may be numbers or bigints. */
  static decode(value: unknown): TransactionTable {
    const [open, ended, spans] = tuple(value, 3, 'the state of transactions')
    const table = new TransactionTable(TruncationSpans.decode(spans))
    let before = -1
    for (const item of list(open, OPEN_MAX, 'open transactions')) {
      const record = decodeOpen(item)
      if (record.transaction <= before) throw new Error('open transactions do not ascend')
      before = record.transaction
      table.#open.set(record.transaction, record)
    }
    for (const item of list(ended, ENDED_MAX, 'ended transactions')) {
      const [id, outcome, lsn, timeTick] = tuple(item, 4, 'an ended transaction')
      const transaction = integer(id, Number.MAX_SAFE_INTEGER, 'an ended transaction')
      if (table.#ended.has(transaction) || table.#open.has(transaction)) {
        throw new Error(`the transaction ${transaction} is there twice`)
      }
      table.#order.push(transaction)
      table.#ended.set(transaction, {
        outcome: OUTCOMES[integer(outcome, OUTCOMES.length - 1, 'an outcome')]!,
        lsn: integer(lsn, Number.MAX_SAFE_INTEGER, 'the LSN of an end'),
        timeTick: big(timeTick, TICK_END, 'the tick of an end'),
      })
    }
    return table
  }

  #endAll(vchannel: string, ended: EndedTransaction): void {
    for (const open of this.#open.values()) {
      if (vchannel === '' || open.vchannel === vchannel) this.#end(open.transaction, ended)
    }
  }

  #end(transaction: number, ended: EndedTransaction): void {
    this.#open.delete(transaction)
    this.#ended.set(transaction, ended)
    this.#order.push(transaction)
    if (this.#ended.size <= ENDED_MAX) return
    this.#ended.delete(this.#order[this.#oldest++]!)
    if (this.#oldest < ENDED_MAX) return
    this.#order = this.#order.slice(this.#oldest)
    this.#oldest = 0
  }
}

function decodeOpen(item: unknown): Changing {
  const [transaction, vchannel, keepaliveMs, bodies, bytes, hash] = tuple(item, 6, 'an open transaction')
  if (typeof vchannel !== 'string' || vchannel.length > NAME_LENGTH_MAX) {
    throw new Error('the vchannel of an open transaction is no name')
  }
  return {
    transaction: integer(transaction, Number.MAX_SAFE_INTEGER, 'an open transaction'),
    vchannel,
    keepaliveMs: integer(keepaliveMs, KEEPALIVE_MAX, 'a keepalive'),
    bodies: integer(bodies, Number.MAX_SAFE_INTEGER, 'a number of bodies'),
    bytes: integer(bytes, Number.MAX_SAFE_INTEGER, 'bytes of bodies'),
    hash: big(hash, HASH_END, 'the hash of a transaction'),
  }
}

function tuple(value: unknown, length: number, what: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length !== length) throw new Error(`${what} has no ${length} parts`)
  return value
}

function list(value: unknown, max: number, what: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max) throw new Error(`${what} are no list of at most ${max}`)
  return value
}

function integer(value: unknown, max: number, what: string): number {
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0 || number > max) {
    throw new Error(`${what} is no integer up to ${max}`)
  }
  return number
}

function big(value: unknown, end: bigint, what: string): bigint {
  const number = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value
  if (typeof number !== 'bigint' || number < 0n || number >= end) throw new Error(`${what} is no integer below ${end}`)
  return number
}
