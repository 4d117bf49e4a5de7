/**
 * One pchannel's write-ahead log: frames with meaning. Appends go through the pipeline (pipeline/), which decides what is
 * written; what is written decides everything else, so that an opening reads the same state back (state/).
 */
import { bodyLimits, type Clock, loadChecksum, nodeEnvironment, type Timer } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { EncodedBody, LogStore } from '../log-store/log-store.ts'
import { appendAsTransaction } from './batch-transaction.ts'
import { ConfirmedTicks } from './confirmed.ts'
import { DeduplicationStage } from './deduplication/deduplication-stage.ts'
import { EmbeddedProducer } from './deduplication/embedded-producer.ts'
import { defaultKeyWindow } from './deduplication/key-table.ts'
import { LiveProducers, type OpenedProducer } from './deduplication/live-producers.ts'
import { Admission, type ThrottleState } from './pipeline/admission.ts'
import { AdmissionGate } from './pipeline/admission-gate.ts'
import { AppendPipeline, type StartedAppend } from './pipeline/append-pipeline.ts'
import { ExclusiveLock } from './pipeline/exclusive-lock.ts'
import type { Stage } from './pipeline/interceptor.ts'
import { checkKey, checkMessage, checkTick, checkVchannel, invalid } from './pipeline/limits.ts'
import { MessageAppender } from './pipeline/message-appender.ts'
import type { NodeAppender } from './pipeline/node-appender.ts'
import { UserInterceptors } from './pipeline/user-interceptors.ts'
import { createScanner } from './scan/scanner.ts'
import { type RecoveredState, recoverState } from './state/recovery.ts'
import { SnapshotKeeper } from './state/snapshot-keeper.ts'
import type { WalState } from './state/wal-state.ts'
import type { ControlPlace } from './transactions/control-queue.ts'
import { type BegunTransaction, TransactionManager } from './transactions/transaction-manager.ts'
import { beginTransaction } from './transactions/wal-transaction.ts'
import type {
  MutableMessage,
  ProducerStatus,
  Scan,
  ScanOptions,
  TransactionStatus,
  TxnOptions,
  WalAppended,
  WalAppendedBatch,
  WalAppendOptions,
  WalProducer,
  WalTxn,
} from './types.ts'
import { NO_OPTIONS, type UnitOptions, unitOfRecords } from './unit.ts'
import { type AppendBodyOptions, checkOptions, type WalOptions, type WalStatus } from './wal-options.ts'

export type { AppendBodyOptions, WalOptions, WalStatistics, WalStatus } from './wal-options.ts'

const INTERVAL_MS = 10
const EXCLUSIVE_WAIT_MS = 30_000
const EXCLUSIVE_WAITERS_MAX = 65_536
/** How long a close waits for appends that are still asked about. What is in the log's queue is written in any case. */
const CLOSE_WAIT_MS = 10_000
const FRAME_BYTES_MAX = 16 * 1024 * 1024

export class Wal implements AsyncDisposable {
  readonly #store: LogStore
  readonly #clock: Clock
  readonly #bound: Admission
  readonly #lock: ExclusiveLock
  readonly #users: UserInterceptors
  readonly #pipeline: AppendPipeline
  readonly #appender: MessageAppender
  readonly #state: WalState
  readonly #snapshots: SnapshotKeeper
  readonly #deduplication: DeduplicationStage
  readonly #transactions: TransactionManager
  readonly #producers: LiveProducers
  readonly #confirmed: ConfirmedTicks
  readonly #frameBytesMax: number
  #closing: Promise<void> | null = null

  private constructor(store: LogStore, recovered: RecoveredState, options: WalOptions) {
    const clock = options.clock ?? nodeEnvironment().clock
    this.#store = store
    this.#clock = clock
    this.#frameBytesMax = options.frameBytesMax ?? FRAME_BYTES_MAX
    this.#bound = new Admission(clock, options.name ?? 'the log', options.admission)
    const bounds = options.admission === undefined ? [] : [this.#bound]
    if (options.nodeAdmission !== undefined) bounds.push(options.nodeAdmission)
    const gate = new AdmissionGate(clock, bounds)
    this.#lock = new ExclusiveLock(clock, {
      waitMs: options.exclusiveWaitMs ?? EXCLUSIVE_WAIT_MS,
      waitersMax: EXCLUSIVE_WAITERS_MAX,
    })
    this.#users = new UserInterceptors(options.interceptors ?? [], options.onInterceptorError ?? (() => {}))
    const { state, snapshots } = recovered
    this.#state = state
    this.#snapshots = new SnapshotKeeper(store, state, snapshots, options.snapshotIntervalBytes)
    store.setTruncationFloor((lsn) => this.#snapshots.floor(lsn))
    this.#producers = new LiveProducers(state.producers, this.#nodeAppender)
    this.#deduplication = new DeduplicationStage(this.#producers, state.keys)
    this.#transactions = new TransactionManager(clock, state.transactions, this.#nodeAppender, options.transactions)
    const stages: Stage[] = [this.#snapshots, this.#deduplication, this.#transactions.stage]
    this.#pipeline = new AppendPipeline(store, this.#lock, stages, (effects, { firstLsn, firstTimeTick }) =>
      state.apply(effects, firstLsn, firstTimeTick),
    )
    this.#appender = new MessageAppender(
      store,
      gate,
      this.#lock,
      this.#users,
      this.#pipeline,
      (bytes) => this.#snapshots.appended(bytes),
      { keys: this.#deduplication, snapshots: this.#snapshots },
    )
    this.#appender.onFailure = (error) => {
      if (error instanceof TidelogError && error.code === 'DISK_FULL') this.#snapshots.noRoom()
    }
    const intervalMs = options.timeTickIntervalMs ?? INTERVAL_MS
    this.#confirmed = new ConfirmedTicks(
      clock,
      intervalMs,
      () => store.watermark(),
      () => failureOf(store),
    )
  }

  /** Rebuilds the state; nothing is admitted before it has reached the log's end. */
  static async open(store: LogStore, options: WalOptions = {}): Promise<Wal> {
    await loadChecksum()
    checkOptions(options)
    const recovered = await recoverState(store, {
      keyWindow: { ...defaultKeyWindow, ...options.keys },
      replayBytesMax: options.replayBytesMax,
    })
    const wal = new Wal(store, recovered, options)
    recovered.state.keys.forgetBefore(await wal.#transactions.recover(recovered.isLost))
    return wal
  }

  get ownerTerm(): number {
    return this.#store.ownerTerm
  }

  get firstLsn(): number {
    return this.#store.firstLsn
  }

  get nextLsn(): number {
    return this.#store.nextLsn
  }

  /**
   * Appends a message, or a batch: all of it or nothing. Settles when it is durable at the log's level. A batch is one
   * frame; one that does not fit a frame becomes a transaction by itself, and must then be for one vchannel: its LSNs are
   * those of the first message and of the commit, its ticks are the commit's.
   *
   * Rejects with what an interceptor of the user's throws, or with a WalError, whose `outcome` is `not-written` or
   * `unknown`: INVALID_ARGUMENT, LIMIT_EXCEEDED, RATE_LIMITED, QUEUE_FULL, TIMEOUT (retriable), KEY_FORGOTTEN,
   * TICK_TOO_FAR_AHEAD, ABORTED, CLOSED, and the errors of a log that has failed.
   */
  append(message: MutableMessage, options?: WalAppendOptions): Promise<WalAppended>
  append(messages: readonly MutableMessage[], options?: WalAppendOptions): Promise<WalAppendedBatch>
  append(
    input: MutableMessage | readonly MutableMessage[],
    options?: WalAppendOptions,
  ): Promise<WalAppended | WalAppendedBatch> {
    try {
      this.#refuseIfClosed()
      return Array.isArray(input)
        ? this.#appendBatch(input, options)
        : this.#appendOne(input as MutableMessage, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** A body that a client encoded, checked when it was received. Never throws. Errors as of `append`. */
  appendBody(body: EncodedBody, options: AppendBodyOptions = {}): StartedAppend {
    if (this.#closing !== null) return { entered: null, settled: Promise.reject(closed()) }
    const { barrierTick = 0n, firstTriedAt = 0n, transactionIndex = null, signal } = options
    return this.#appender.appendBody(body, transactionIndex, { barrierTick, firstTriedAt, signal })
  }

  /**
   * Begins a transaction on one vchannel (docs/TRANSACTIONS.md). Rejects with INVALID_ARGUMENT, LIMIT_EXCEEDED, and what
   * an append rejects with.
   */
  async begin(vchannel: string, options: TxnOptions = {}): Promise<WalTxn> {
    this.#refuseIfClosed()
    checkVchannel(vchannel)
    return beginTransaction(this.#transactions, this.#nodeAppender, vchannel, options)
  }

  /** As `begin`, for whoever encodes its bodies itself. */
  async beginTransaction(vchannel: string, options: TxnOptions = {}): Promise<BegunTransaction> {
    this.#refuseIfClosed()
    checkVchannel(vchannel)
    return this.#transactions.begin(vchannel, options)
  }

  /** `bodies`: how many records the caller has appended. See `TransactionManager.commit`. */
  commitTransaction(transaction: number, bodies?: number): Promise<ControlPlace> {
    return this.#transactions.commit(transaction, bodies)
  }

  rollbackTransaction(transaction: number): Promise<ControlPlace> {
    return this.#transactions.rollback(transaction)
  }

  /** Those that are open, the oldest first. */
  transactions(): readonly TransactionStatus[] {
    return this.#transactions.list()
  }

  /**
   * A producer of this process: its records are in the log once, however often they are sent. Begins a new epoch, which
   * fences the one before. Rejects with INVALID_ARGUMENT (the id), LIMIT_EXCEEDED, and what an append rejects with.
   */
  async producer(vchannel: string, options: { id: string }): Promise<WalProducer> {
    const opened = await this.openProducer(vchannel, options.id)
    return new EmbeddedProducer(vchannel, options.id, opened, this.#nodeAppender)
  }

  /** A new epoch, durable when it is answered; for whoever encodes its frames itself. As `producer`. */
  openProducer(vchannel: string, id: string): Promise<OpenedProducer> {
    try {
      this.#refuseIfClosed()
      checkVchannel(vchannel)
      return this.#producers.open(vchannel, id)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** For a client that comes back with its epoch. Throws PRODUCER_FENCED, PRODUCER_UNKNOWN, CLOSED. */
  resumeProducer(vchannel: string, id: string, epoch: number): OpenedProducer {
    this.#refuseIfClosed()
    return this.#producers.resume(vchannel, id, epoch)
  }

  producers(): readonly ProducerStatus[] {
    return this.#state.producers.list()
  }

  /** The tick before which the idempotency keys of the vchannel are forgotten. Never goes back. */
  keyHorizon(vchannel: string): bigint {
    return this.#state.keys.horizon(vchannel)
  }

  /**
   * Reads messages in tick order, transactions as units (docs/READING.md). Begins at once: `latest`, and the end of a scan
   * that does not follow, are where the log ends in this call. Throws INVALID_ARGUMENT, POSITION_TRUNCATED.
   */
  scan(options: ScanOptions = {}): Scan {
    return createScanner(this.#store, options, { clock: this.#clock })
  }

  /** T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. */
  watermark(shared?: bigint): bigint {
    return this.#store.watermark(shared)
  }

  /** Settles when `nextLsn`, `firstLsn` or the state of the log has changed since the call. */
  changed(): Promise<void> {
    return this.#store.changed()
  }

  /**
   * The watermark, once it is at or above `atLeast` (at once, when that is left out): within one interval of it. Rejects
   * with ABORTED, CLOSED, or why the log has failed.
   */
  confirmed(options: { atLeast?: bigint | undefined; signal?: AbortSignal | undefined } = {}): Promise<bigint> {
    try {
      return this.#confirmed.atLeast(checkTick('atLeast', options.atLeast), options.signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Nothing below `lsn` is needed any more. Idempotent; what open transactions need is kept longer. */
  truncateBefore(lsn: number): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closed())
    return this.#snapshots.truncate(lsn)
  }

  /** What this pchannel's own bounds let in for now. */
  get throttle(): ThrottleState {
    return this.#bound.state
  }

  /** Told when appends are slowed or refused, and when that is over. Gives what ends it. */
  onThrottle(listener: (state: ThrottleState) => void): () => void {
    return this.#bound.onChange(listener)
  }

  /** Takes no tick: an idle WAL that is looked at writes nothing. */
  status(): WalStatus {
    const { waiting, waits } = this.#lock.statistics
    return {
      ...this.#store.status(),
      firstLsn: this.firstLsn,
      nextLsn: this.nextLsn,
      throttle: this.#bound.state,
      statistics: {
        ...this.#appender.statistics(),
        exclusiveWaits: waits,
        exclusiveWaiting: waiting,
        interceptorErrors: this.#users.errors,
        admission: this.#bound.statistics(),
        transactions: this.#transactions.statistics,
        snapshots: { ...this.#snapshots.counts },
        repeats: this.#deduplication.counts.repeats,
        repeatsRefused: this.#deduplication.counts.refused,
        keys: this.#state.keys.size,
        producers: this.#state.producers.size,
      },
    }
  }

  /** Settles what is under way, rolls back what is open, closes the log. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** What transactions and producers write with. */
  readonly #nodeAppender: NodeAppender = {
    appendControl: (records) => this.#pipeline.run(unitOfRecords(records, 0n)).settled,
    appendMessages: (messages, shared, options) => {
      try {
        let bytes = 0
        for (let index = 0; index < messages.length; index++) bytes += checkMessage(messages[index]!, index)
        const unitOptions = {
          ...NO_OPTIONS,
          barrierTick: options?.barrierTick ?? 0n,
          signal: options?.signal,
        }
        return this.#appender.append(messages, bytes, undefined, shared, unitOptions).settled
      } catch (error) {
        return Promise.reject(error)
      }
    },
  }

  async #close(): Promise<void> {
    // `#closing` is set when this runs on: nothing is admitted any more.
    await Promise.resolve()
    // What hangs in an interceptor of the user does not keep the log open: it is refused when it comes on.
    let late: Timer | undefined
    const deadline = new Promise<void>((resolve) => {
      late = this.#clock.after(CLOSE_WAIT_MS, resolve)
    })
    await Promise.race([this.#pipeline.idle(), deadline])
    await this.#transactions.close()
    await Promise.race([this.#pipeline.idle(), deadline])
    late?.cancel()
    this.#confirmed.close(closed())
    this.#bound.close()
    await this.#snapshots.close()
    await this.#store.close()
  }

  #appendOne(message: MutableMessage, options: WalAppendOptions | undefined): Promise<WalAppended> {
    const bytes = checkMessage(message, 0)
    const unitOptions = checkedOptions(options)
    const idempotencyKey = options?.idempotencyKey
    const messages = [message]
    if (idempotencyKey === undefined) {
      const short = this.#appender.short(messages, bytes, unitOptions, appendedOne)
      if (short !== null) return short
    } else {
      checkKey(idempotencyKey)
      const short = this.#appender.shortKeyed(message, bytes, idempotencyKey, unitOptions)
      if (short !== null) return short
    }
    const { settled } = this.#appender.append(messages, bytes, idempotencyKey, null, unitOptions)
    return settled.then(({ range, duplicate }) => ({
      lsn: range.firstLsn,
      timeTick: range.firstTimeTick,
      duplicate,
    }))
  }

  #appendBatch(messages: readonly MutableMessage[], options: WalAppendOptions | undefined): Promise<WalAppendedBatch> {
    if (messages.length === 0) throw invalid('a batch of no messages')
    if (options?.idempotencyKey !== undefined) {
      throw invalid('an idempotency key names one message: append each with its own key')
    }
    let bytes = 0
    for (let index = 0; index < messages.length; index++) bytes += checkMessage(messages[index]!, index)
    const unitOptions = checkedOptions(options)
    const isLarge = bytes > this.#frameBytesMax || messages.length > bodyLimits.recordsMax
    if (isLarge && messages.length > 1) {
      const limits = { frameBytesMax: this.#frameBytesMax, frameRecordsMax: bodyLimits.recordsMax }
      return appendAsTransaction(
        (vchannel, txnOptions) => this.begin(vchannel, txnOptions),
        this.#nodeAppender,
        messages,
        (index) => checkMessage(messages[index]!, index),
        limits,
        unitOptions,
      )
    }
    const short = this.#appender.short(messages, bytes, unitOptions, appendedBatch)
    if (short !== null) return short
    const { settled } = this.#appender.append(messages, bytes, undefined, null, unitOptions)
    return settled.then(({ range, duplicate }) => ({ ...range, duplicate }))
  }

  #refuseIfClosed(): void {
    if (this.#closing !== null) throw closed()
  }
}

function appendedOne(firstLsn: number, _lastLsn: number, firstTimeTick: bigint): WalAppended {
  return { lsn: firstLsn, timeTick: firstTimeTick, duplicate: false }
}

function appendedBatch(
  firstLsn: number,
  lastLsn: number,
  firstTimeTick: bigint,
  lastTimeTick: bigint,
): WalAppendedBatch {
  return { firstLsn, lastLsn, firstTimeTick, lastTimeTick, duplicate: false }
}

function checkedOptions(options: WalAppendOptions | undefined): UnitOptions {
  if (options === undefined) return NO_OPTIONS
  const { barrierTick, firstTriedAt, signal } = options
  return {
    barrierTick: checkTick('barrierTick', barrierTick),
    firstTriedAt: checkTick('firstTriedAt', firstTriedAt),
    signal,
  }
}

function closed(): TidelogError {
  return new TidelogError('CLOSED', 'the WAL is closed', { outcome: 'not-written' })
}

/** Why the watermark of the store will never move again. */
function failureOf(store: LogStore): TidelogError<string> | null {
  const { state, message, failure } = store.status()
  if (state !== 'failed') return null
  return new TidelogError<string>(failure?.code ?? 'POISONED', message)
}
