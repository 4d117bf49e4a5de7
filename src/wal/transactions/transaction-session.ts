/**
 * One open transaction as it is used: its state, its lease, and its records that are under way. What the log knows of it
 * stands in the table. Nothing of a session outlives the process.
 */
import { TidelogError } from '../../errors.ts'
import type { UnitResult } from '../pipeline/interceptor.ts'
import type { WalError } from '../types.ts'
import { transactionError } from './transaction-errors.ts'

/** Frames of a transaction whose place is known: a repeat of one of them is answered as the first was. */
export const SESSION_WINDOW = 256

export type SessionState = 'open' | 'committing' | 'rolling-back' | 'ended'

/** Records of one frame, under way. Settles with null when they were not written, or nobody knows. */
export interface SessionFlight {
  readonly first: number
  readonly count: number
  readonly bytes: number
  readonly settled: Promise<UnitResult | null>
}

interface OwnFlight extends SessionFlight {
  /** A frame before it was not written: it is refused when its turn comes. */
  isDoomed: boolean
  settle(result: UnitResult | null): void
}

interface Written {
  readonly first: number
  readonly count: number
  readonly result: UnitResult
}

/** What becomes of a frame that asks to be let in. */
export type SessionVerdict =
  | { kind: 'reserved'; flight: SessionFlight }
  | { kind: 'repeat'; result: UnitResult }
  | { kind: 'wait'; flight: SessionFlight }

export class TransactionSession {
  /** LSN of its begin. */
  readonly id: number
  readonly vchannel: string
  readonly keepaliveMs: number
  readonly begunMs: number
  lastUsedMs: number
  state: SessionState = 'open'
  /** It can only be rolled back: one of its records has failed. */
  failure: unknown = null
  /** By index of the first record. */
  readonly #flights = new Map<number, OwnFlight>()
  readonly #window: Written[] = []
  /** Records and bytes, with those under way. */
  #records = 0
  #bytes = 0
  /** Records that have their place in the log: so a frame behind one that was refused at last is refused too. */
  #placed = 0
  #onIdle: (() => void)[] = []

  constructor(id: number, vchannel: string, keepaliveMs: number, nowMs: number) {
    this.id = id
    this.vchannel = vchannel
    this.keepaliveMs = keepaliveMs
    this.begunMs = nowMs
    this.lastUsedMs = nowMs
  }

  get records(): number {
    return this.#records
  }

  get bytes(): number {
    return this.#bytes
  }

  get underWay(): number {
    return this.#flights.size
  }

  /**
   * `index`: of the first record, as the client counts; null: it follows the others. Throws SEQUENCE_GAP,
   * SEQUENCE_STRADDLED, SEQUENCE_FORGOTTEN.
   */
  ask(index: number | null, count: number, bytes: number): SessionVerdict {
    const first = index ?? this.#records
    const flight = this.#flights.get(first)
    if (flight !== undefined && (flight.isDoomed || flight.count === count)) return { kind: 'wait', flight }
    if (first === this.#records) return { kind: 'reserved', flight: this.#reserve(first, count, bytes) }
    if (first > this.#records) {
      const message = `record ${first} of the transaction ${this.id} came where ${this.#records} has to follow`
      throw transactionError('SEQUENCE_GAP', message)
    }
    const written = this.#window.find((frame) => frame.first === first && frame.count === count)
    if (written !== undefined) return { kind: 'repeat', result: written.result }
    const known = this.#window[0]?.first ?? 0
    const what = `the records ${first} to ${first + count - 1} of the transaction ${this.id}`
    if (first + count <= known && flight === undefined) {
      throw transactionError('SEQUENCE_FORGOTTEN', `${what} were written, and where is not known any more`)
    }
    throw transactionError('SEQUENCE_STRADDLED', `${what} were sent before in other frames`)
  }

  /** The last question, in the order of the log: null means that the frame is placed. */
  place({ first, count }: SessionFlight): WalError | null {
    if (first !== this.#placed || this.#flights.get(first)?.isDoomed === true) {
      const message = `records of the transaction ${this.id} before record ${first} were not written; this frame was refused`
      return new TidelogError('FAILED_BEFORE', message, { outcome: 'not-written', retriable: true }) as WalError
    }
    this.#placed = first + count
    return null
  }

  settled({ first, count }: SessionFlight, result: UnitResult): void {
    this.#window.push({ first, count, result: { ...result, duplicate: true } })
    if (this.#window.length > SESSION_WINDOW) this.#window.shift()
    this.#take(first)?.settle(result)
  }

  /** They come again, or never: what was behind them is refused too. */
  failed({ first, bytes }: SessionFlight): void {
    this.#bytes -= bytes
    const flight = this.#take(first)
    if (flight?.isDoomed === false) {
      this.#records = first
      for (const other of this.#flights.values()) if (other.first > first) other.isDoomed = true
    }
    flight?.settle(null)
  }

  /** Settles when nothing of it is under way. */
  idle(): Promise<void> {
    if (this.#flights.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onIdle.push(resolve)
    })
  }

  #reserve(first: number, count: number, bytes: number): SessionFlight {
    let settle: (result: UnitResult | null) => void = () => {}
    const settled = new Promise<UnitResult | null>((resolve) => {
      settle = resolve
    })
    const flight: OwnFlight = { first, count, bytes, isDoomed: false, settled, settle }
    this.#flights.set(first, flight)
    this.#records = first + count
    this.#bytes += bytes
    return flight
  }

  #take(first: number): OwnFlight | undefined {
    const flight = this.#flights.get(first)
    this.#flights.delete(first)
    if (this.#flights.size === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
    return flight
  }
}
