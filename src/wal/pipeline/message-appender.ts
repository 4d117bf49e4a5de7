/**
 * Messages of this process on their way into the log. The short way is for plain ones, which nothing has to be asked
 * about: one hold of the lock, and the store's promise. All others go past the stages.
 */
import type { AppendedRange, EncodedBody, LogStore } from '../../log-store/log-store.ts'
import { isExclusive } from '../../message/message-type.ts'
import { KEY_PROPERTY } from '../../message/property-names.ts'
import type { DeduplicationStage } from '../deduplication/deduplication-stage.ts'
import type { KeyPlace } from '../deduplication/key-table.ts'
import type { SnapshotKeeper } from '../state/snapshot-keeper.ts'
import type { MutableMessage, WalAppended } from '../types.ts'
import { NO_OPTIONS, type SharedContext, type UnitOptions, unitOfBody, unitOfMessages } from '../unit.ts'
import type { AdmissionGate } from './admission-gate.ts'
import type { AppendPipeline, StartedAppend } from './append-pipeline.ts'
import type { ExclusiveLock } from './exclusive-lock.ts'
import type { UnitResult } from './interceptor.ts'
import { checkMessage } from './limits.ts'
import { messagesOfBody } from './messages-of-body.ts'
import { copiesOf, type UserInterceptors } from './user-interceptors.ts'

export interface AppenderStatistics {
  /** Frames, records and bytes that were acknowledged; repeats are not among them. */
  appends: number
  records: number
  bytes: number
  /** Appends that were refused or failed. */
  failed: number
  /** Records that were in the log before. */
  duplicates: number
}

/** What a record with a key has to do with, on the short way. */
export interface KeyedStages {
  readonly keys: Pick<DeduplicationStage, 'claim' | 'released'>
  readonly snapshots: Pick<SnapshotKeeper, 'before' | 'durable' | 'applied' | 'leave'>
}

/** What a record costs in the log beside its payload and properties, about. */
const RECORD_BYTES = 16

export class MessageAppender {
  readonly #store: LogStore
  readonly #gate: AdmissionGate
  readonly #lock: ExclusiveLock
  readonly #users: UserInterceptors
  readonly #pipeline: AppendPipeline
  readonly #onAppended: (bytes: number) => void
  readonly #keyed: KeyedStages
  /** Told why an append failed. */
  onFailure: ((error: unknown) => void) | null = null
  readonly #counts: AppenderStatistics = { appends: 0, records: 0, bytes: 0, failed: 0, duplicates: 0 }

  constructor(
    store: LogStore,
    gate: AdmissionGate,
    lock: ExclusiveLock,
    users: UserInterceptors,
    pipeline: AppendPipeline,
    onAppended: (bytes: number) => void,
    keyed: KeyedStages,
  ) {
    this.#store = store
    this.#gate = gate
    this.#lock = lock
    this.#users = users
    this.#pipeline = pipeline
    this.#onAppended = onAppended
    this.#keyed = keyed
  }

  statistics(): AppenderStatistics {
    return { ...this.#counts }
  }

  /**
   * The short way, of messages that `checkMessage` has passed: null where there is none for them. `bytes`: of all.
   * Throws RATE_LIMITED.
   */
  short<T>(
    messages: readonly MutableMessage[],
    bytes: number,
    options: UnitOptions,
    answer: (firstLsn: number, lastLsn: number, firstTimeTick: bigint, lastTimeTick: bigint) => T,
  ): Promise<T> | null {
    if (this.#users.hasBefore || this.#users.hasAfter || !this.#gate.isOpen) return null
    const { vchannel } = messages[0]!
    for (let index = 0; index < messages.length; index++) {
      const message = messages[index]!
      if (message.header !== undefined || message.vchannel !== vchannel) return null
      if (message.type !== undefined && message.type !== 0 && isExclusive(message.type)) return null
    }
    if (!this.#lock.tryShared(vchannel)) return null
    this.#pipeline.begin()
    const { barrierTick, signal } = options
    const plain = barrierTick === 0n && signal === undefined
    const counts = this.#counts
    return this.#store.appendRecords(messages, plain ? undefined : { barrierTick, signal }).then(
      (range) => {
        this.#lock.leaveShared(vchannel)
        counts.appends++
        counts.records += messages.length
        counts.bytes += bytes
        this.#onAppended(bytes + RECORD_BYTES * messages.length)
        this.#pipeline.end()
        return answer(range.firstLsn, range.lastLsn, range.firstTimeTick, range.lastTimeTick)
      },
      (error: unknown) => {
        this.#lock.leaveShared(vchannel)
        counts.failed++
        this.onFailure?.(error)
        this.#pipeline.end()
        throw error
      },
    )
  }

  /**
   * The same for one message with an idempotency key. It shares a frame with others as a plain one does, and is asked about
   * by the deduplication alone. Throws KEY_FORGOTTEN too.
   */
  shortKeyed(message: MutableMessage, bytes: number, key: string, options: UnitOptions): Promise<WalAppended> | null {
    if (this.#users.hasBefore || this.#users.hasAfter || !this.#gate.isOpen) return null
    const { vchannel, type, properties, payload } = message
    const { barrierTick, firstTriedAt, signal } = options
    if (message.header !== undefined || signal !== undefined) return null
    if (type !== undefined && type !== 0 && isExclusive(type)) return null
    if (!this.#lock.tryShared(vchannel)) return null
    const { keys, snapshots } = this.#keyed
    const counts = this.#counts
    let known: KeyPlace | 'under way' | null
    try {
      known = keys.claim(vchannel, key, firstTriedAt)
    } catch (error) {
      this.#lock.leaveShared(vchannel)
      counts.failed++
      this.onFailure?.(error)
      throw error
    }
    if (known !== null) {
      this.#lock.leaveShared(vchannel)
      if (known === 'under way') return null
      counts.duplicates++
      return Promise.resolve({ lsn: known.lsn, timeTick: known.timeTick, duplicate: true })
    }
    this.#pipeline.begin()
    snapshots.before()
    const over = () => {
      snapshots.leave()
      keys.released(vchannel, key)
      this.#lock.leaveShared(vchannel)
      this.#pipeline.end()
    }
    const record = { vchannel, type, properties: { ...properties, [KEY_PROPERTY]: key }, payload }
    const refused = (error: unknown): never => {
      counts.failed++
      this.onFailure?.(error)
      over()
      throw error
    }
    let appended: Promise<AppendedRange>
    try {
      appended = this.#store.appendRecords([record], barrierTick === 0n ? undefined : { barrierTick })
    } catch (error) {
      return refused(error)
    }
    return appended.then((range) => {
      try {
        snapshots.durable(range)
        this.#pipeline.apply([{ kind: 'key', row: 0, vchannel, key }], range)
        snapshots.applied(range, false)
        counts.appends++
        counts.records++
        counts.bytes += bytes
        this.#onAppended(bytes + RECORD_BYTES)
      } finally {
        over()
      }
      return { lsn: range.firstLsn, timeTick: range.firstTimeTick, duplicate: false }
    }, refused)
  }

  /** Past all stages. Never throws. */
  append(
    messages: readonly MutableMessage[],
    bytes: number,
    key: string | undefined,
    shared: SharedContext | null,
    options: UnitOptions = NO_OPTIONS,
  ): StartedAppend {
    const own = this.#users.hasBefore ? copiesOf(messages) : [...messages]
    return this.#start(bytes, own, options, () => {
      // An interceptor may have changed them.
      let length = bytes
      if (this.#users.hasBefore) {
        length = 0
        for (let index = 0; index < own.length; index++) length += checkMessage(own[index]!, index)
      }
      return unitOfMessages(own, length, key, shared, options)
    })
  }

  /** A body that a client encoded. Never throws. */
  appendBody(body: EncodedBody, transactionIndex: number | null, options: UnitOptions = NO_OPTIONS): StartedAppend {
    const messages = this.#users.hasBefore || this.#users.hasAfter ? messagesOfBody(body) : null
    return this.#start(body.bytes.length, messages, options, () => unitOfBody(body, transactionIndex, options))
  }

  #start(
    bytes: number,
    messages: readonly MutableMessage[] | null,
    options: UnitOptions,
    makeUnit: () => ReturnType<typeof unitOfBody>,
  ): StartedAppend {
    this.#pipeline.begin()
    let isIn = false
    const run = (): StartedAppend => {
      const unit = makeUnit()
      return this.#pipeline.run(unit, (result) => this.#count(unit.bytes, messages, result))
    }
    const asked = (): Promise<void> | undefined =>
      messages === null ? undefined : this.#users.before(messages, options.barrierTick)
    const over = () => {
      if (isIn) this.#gate.release(bytes)
      this.#pipeline.end()
    }
    let started: StartedAppend
    try {
      const admitted = this.#gate.isOpen ? null : this.#gate.enter(bytes, options.signal)
      isIn = !this.#gate.isOpen
      const waiting =
        admitted === null
          ? asked()
          : admitted.then(asked, (error: unknown) => {
              // It has left the gate by itself.
              isIn = false
              throw error
            })
      started = waiting === undefined ? run() : later(waiting.then(run))
    } catch (error) {
      started = { entered: null, settled: Promise.reject(error) }
    }
    const settled = started.settled.then(
      (result) => {
        if (result.duplicate) this.#counts.duplicates += result.range.lastLsn - result.range.firstLsn + 1
        over()
        return result
      },
      (error: unknown) => {
        this.#counts.failed++
        this.onFailure?.(error)
        over()
        throw error
      },
    )
    return { entered: started.entered, settled }
  }

  /** It is durable. In LSN order. */
  #count(bytes: number, messages: readonly MutableMessage[] | null, result: UnitResult): void {
    const { firstLsn, lastLsn } = result.range
    this.#counts.appends++
    this.#counts.records += lastLsn - firstLsn + 1 - result.duplicates.length
    this.#counts.bytes += bytes
    this.#counts.duplicates += result.duplicates.length
    this.#onAppended(bytes + RECORD_BYTES * (lastLsn - firstLsn + 1))
    if (messages !== null && this.#users.hasAfter) this.#users.after(messages, result)
  }
}

/** An append that begins when something else has settled. */
function later(begun: Promise<StartedAppend>): StartedAppend {
  const settled = begun.then(({ settled: inner }) => inner)
  const entered = begun.then(
    ({ entered: inner }) => inner ?? undefined,
    () => undefined,
  )
  return { entered, settled }
}
