/** One append on its way: a record or a batch, until it is settled. */
import type { RecordInput } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { onAbort } from './abort-listeners.ts'
import type { Appended, AppendedBatch } from './types.ts'

/** What the records of one producer share: once one fails for good, those submitted before that fail too. */
export class SubmitOrder {
  /** Counted up at each failure: entries of an older one are not sent any more. */
  epoch = 0
  firstFailure: TidelogError<string> | null = null
  unsettled = 0
  #idle: (() => void)[] = []

  fail(error: TidelogError<string>): void {
    this.epoch++
    this.firstFailure ??= error
  }

  settled(): void {
    this.unsettled--
    if (this.unsettled === 0) for (const resolve of this.#idle.splice(0)) resolve()
  }

  idle(): Promise<void> {
    if (this.unsettled === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }
}

export interface EntryInput {
  vchannel: string
  /** One record of `append` and `submit`; a batch is an array. */
  records: RecordInput | readonly RecordInput[]
  bytes: number
  deadlineMs: number
  barrierTick: bigint
  signal: AbortSignal | undefined
  order: SubmitOrder | null
  /** Gives the bytes back. */
  onSettled: (entry: AppendEntry) => void
}

export class AppendEntry {
  readonly vchannel: string
  readonly records: RecordInput | readonly RecordInput[]
  readonly bytes: number
  readonly deadlineMs: number
  readonly barrierTick: bigint
  readonly order: SubmitOrder | null
  /** It goes in a frame of its own: it was refused in one with others. */
  alone = false
  /** Given to a connection, and not answered with "not written". */
  sent = false
  settled = false
  /** Why the node refused it last; it goes again. */
  refusal: TidelogError<string> | null = null
  readonly #epoch: number
  readonly #onSettled: (entry: AppendEntry) => void
  readonly #stopListening: (() => void) | undefined
  #result: Appended | AppendedBatch | TidelogError<string> | null = null
  #promise: Promise<Appended | AppendedBatch> | null = null
  #resolve: ((range: Appended | AppendedBatch) => void) | null = null
  #reject: ((error: TidelogError<string>) => void) | null = null

  constructor(input: EntryInput) {
    this.vchannel = input.vchannel
    this.records = input.records
    this.bytes = input.bytes
    this.deadlineMs = input.deadlineMs
    this.barrierTick = input.barrierTick
    this.order = input.order
    this.#epoch = input.order === null ? 0 : input.order.epoch
    this.#onSettled = input.onSettled
    if (input.order !== null) input.order.unsettled++
    const { signal } = input
    if (signal !== undefined) {
      this.#stopListening = onAbort(signal, () => {
        const outcome = this.sent ? 'unknown' : 'not-written'
        this.fail(new TidelogError<string>('ABORTED', 'aborted by the caller', { cause: signal.reason, outcome }))
      })
    }
  }

  get isBatch(): boolean {
    return Array.isArray(this.records)
  }

  get count(): number {
    return Array.isArray(this.records) ? this.records.length : 1
  }

  /** One that was submitted before it has failed for good. */
  get doomed(): boolean {
    return this.order !== null && this.order.epoch !== this.#epoch
  }

  /** Made when it is first asked for: most tickets are never looked at. */
  get promise(): Promise<Appended | AppendedBatch> {
    if (this.#promise === null) {
      const result = this.#result
      if (result === null) {
        this.#promise = new Promise((resolve, reject) => {
          this.#resolve = resolve
          this.#reject = reject
        })
      } else this.#promise = result instanceof TidelogError ? Promise.reject(result) : Promise.resolve(result)
      this.#promise.catch(() => {})
    }
    return this.#promise
  }

  /** `baseLsn` and `baseTimeTick` are those of its first record. */
  succeed(baseLsn: number, baseTimeTick: bigint): void {
    const last = this.count - 1
    const range = this.isBatch
      ? {
          firstLsn: baseLsn,
          lastLsn: baseLsn + last,
          firstTimeTick: baseTimeTick,
          lastTimeTick: baseTimeTick + BigInt(last),
        }
      : { lsn: baseLsn, timeTick: baseTimeTick }
    if (!this.#settle(range)) return
    this.#resolve?.(range)
  }

  fail(error: TidelogError<string>): void {
    if (this.#settle(error)) this.#reject?.(error)
  }

  #settle(result: Appended | AppendedBatch | TidelogError<string>): boolean {
    if (this.settled) return false
    this.settled = true
    this.#result = result
    this.#stopListening?.()
    if (this.order !== null) {
      if (result instanceof TidelogError && !this.doomed) this.order.fail(result)
      this.order.settled()
    }
    this.#onSettled(this)
    return true
  }
}

export function failedBefore(): TidelogError<string> {
  const message = 'a record submitted before it on this producer has failed; nothing of this one was written'
  return new TidelogError<string>('FAILED_BEFORE', message, { retriable: true, outcome: 'not-written' })
}
