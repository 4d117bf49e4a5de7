/** One append on its way: a record or a batch, until it is settled. */
import type { RecordInput } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { onAbort } from './abort-listeners.ts'
import type { Appended, AppendedBatch, SequencedAppend } from './types.ts'

type Result = Appended | SequencedAppend | AppendedBatch

/** What the records of one producer share: once one fails for good, those submitted before that fail too. */
export class SubmitOrder {
  /** Counted up at each failure: entries of an older one are not sent any more. */
  epoch = 0
  unsettled = 0
  /** Of those that are not settled. */
  bytes = 0
  #firstFailure: TidelogError<string> | null = null
  #idle: (() => void)[] = []
  #room: { belowBytes: number; resolve: () => void }[] = []

  fail(error: TidelogError<string>): void {
    this.epoch++
    this.#firstFailure ??= error
  }

  settled(bytes: number): void {
    this.unsettled--
    this.bytes -= bytes
    if (this.#room.length > 0) {
      const waiting = this.#room
      this.#room = waiting.filter(({ belowBytes }) => this.bytes >= belowBytes)
      for (const { belowBytes, resolve } of waiting) if (this.bytes < belowBytes) resolve()
    }
    if (this.unsettled === 0) for (const resolve of this.#idle.splice(0)) resolve()
  }

  idle(): Promise<void> {
    if (this.unsettled === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** Settles when all are; rejects with the first failure since it was asked last. */
  async flush(): Promise<void> {
    await this.idle()
    const failure = this.#firstFailure
    this.#firstFailure = null
    if (failure !== null) throw failure
  }

  /** Settles when less than so many bytes are not settled, or when it is let go. */
  room(belowBytes: number): Promise<void> {
    return new Promise((resolve) => this.#room.push({ belowBytes, resolve }))
  }

  letGo(): void {
    for (const { resolve } of this.#room.splice(0)) resolve()
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
  /** It has an idempotency key: what became of it can be asked by sending it again. */
  isKeyed?: boolean | undefined
  /** A tick that the caller knew when it first tried the key; 0n: not said. */
  firstTriedAt?: bigint | undefined
  /** It goes in a frame of its own. */
  alone?: boolean | undefined
  /** Of the first record, as the caller wants it; 0: the next one. */
  sequence?: number | undefined
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
  readonly isKeyed: boolean
  /** What the node is told about the first try of the key; 0n: this is the first, as far as is known. */
  firstTriedAt: bigint
  /** A tick that was known when it was sent first. */
  sentAtTick = 0n
  /** Of its first record; 0 where records have none, or until it is given. */
  sequence: number
  /** The caller has given it. */
  readonly explicitSequence: boolean
  /** It goes in a frame of its own: it is exclusive, or was refused in one with others. */
  alone: boolean
  /** Sent before without an answer: it may be in the log, whatever a later refusal says. */
  mayBeWritten = false
  /** Given to a connection, and not answered with "not written". */
  sent = false
  settled = false
  /** Why the node refused it last; it goes again. */
  refusal: TidelogError<string> | null = null
  readonly #epoch: number
  readonly #onSettled: (entry: AppendEntry) => void
  readonly #stopListening: (() => void) | undefined
  #result: Result | TidelogError<string> | null = null
  #promise: Promise<Result> | null = null
  #resolve: ((range: Result) => void) | null = null
  #reject: ((error: TidelogError<string>) => void) | null = null

  constructor(input: EntryInput) {
    this.vchannel = input.vchannel
    this.records = input.records
    this.bytes = input.bytes
    this.deadlineMs = input.deadlineMs
    this.barrierTick = input.barrierTick
    this.order = input.order
    this.isKeyed = input.isKeyed ?? false
    this.firstTriedAt = input.firstTriedAt ?? 0n
    this.sequence = input.sequence ?? 0
    this.explicitSequence = this.sequence > 0
    this.alone = input.alone ?? false
    this.#epoch = input.order === null ? 0 : input.order.epoch
    this.#onSettled = input.onSettled
    if (input.order !== null) {
      input.order.unsettled++
      input.order.bytes += input.bytes
    }
    const { signal } = input
    if (signal !== undefined) {
      this.#stopListening = onAbort(signal, () => {
        const outcome = this.sent || this.mayBeWritten ? 'unknown' : 'not-written'
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
  get promise(): Promise<Result> {
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
  succeed(baseLsn: number, baseTimeTick: bigint, duplicate = false): void {
    const range = this.#resultOf(baseLsn, baseTimeTick, duplicate)
    if (!this.#settle(range)) return
    this.#resolve?.(range)
  }

  fail(error: TidelogError<string>): void {
    if (this.#settle(error)) this.#reject?.(error)
  }

  /** One that was submitted before it has failed: nothing of this one goes any more. */
  failBehind(): void {
    this.fail(this.mayBeWritten ? withOutcome(failedBefore(), 'unknown') : failedBefore())
  }

  #resultOf(lsn: number, timeTick: bigint, duplicate: boolean): Result {
    const last = this.count - 1
    if (this.isBatch) {
      return {
        firstLsn: lsn,
        lastLsn: lsn + last,
        firstTimeTick: timeTick,
        lastTimeTick: timeTick + BigInt(last),
        duplicate,
        transaction: null,
      }
    }
    return this.sequence === 0 ? { lsn, timeTick, duplicate } : { lsn, timeTick, duplicate, sequence: this.sequence }
  }

  #settle(result: Result | TidelogError<string>): boolean {
    if (this.settled) return false
    this.settled = true
    this.#result = result
    this.#stopListening?.()
    if (this.order !== null) {
      if (result instanceof TidelogError && !this.doomed) this.order.fail(result)
      this.order.settled(this.bytes)
    }
    this.#onSettled(this)
    return true
  }
}

export function failedBefore(): TidelogError<string> {
  const message = 'a record submitted before it on this producer has failed; nothing of this one was written'
  return new TidelogError<string>('FAILED_BEFORE', message, { retriable: true, outcome: 'not-written' })
}

export function withOutcome(error: TidelogError<string>, outcome: 'unknown' | 'not-written'): TidelogError<string> {
  return new TidelogError<string>(error.code, error.message, {
    outcome,
    retriable: error.retriable,
    lsn: error.lsn,
    cause: error.cause,
  })
}

/** The error of an entry that is given up: unknown where an earlier try may have been written. */
export function givenUp(entry: AppendEntry, error: TidelogError<string>): TidelogError<string> {
  return withOutcome(error, entry.mayBeWritten ? 'unknown' : 'not-written')
}

/** The error of one whose time is over. */
export function late(
  outcome: 'unknown' | 'not-written',
  refusal: TidelogError<string> | null = null,
): TidelogError<string> {
  const what = outcome === 'unknown' ? 'not acknowledged' : refusal === null ? 'not sent' : 'refused and not taken'
  const why = refusal === null ? '' : `; the last refusal: ${refusal.code}: ${refusal.message}`
  return new TidelogError<string>('TIMEOUT', `the record was ${what} in time${why}`, {
    outcome,
    retriable: outcome === 'not-written',
    cause: refusal ?? undefined,
  })
}
