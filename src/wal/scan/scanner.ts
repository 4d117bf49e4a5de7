/**
 * `wal.scan`: the messages of a log in tick order, transactions as units, from any position, over any log store.
 *
 * One read of the store, from its files to its tail, gives the frames; whatever is asked for is in memory, and a call of
 * `next` that finds it there costs one promise and no asynchronous function. Ticks come of what stands still: see
 * `#caughtUpTick`.
 */
import { type Clock, nodeEnvironment } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import type { LogStore, LogStoreReadOptions, LogStoreRecord, StoreFrame } from '../../log-store/log-store.ts'
import { isSystemType } from '../../message/message-type.ts'
import type { ImmutableMessage, Scan, ScanItem, ScannedTick, ScannedTransaction, ScanOptions } from '../types.ts'
import { detached, isNullIn, PlainMessage, TransactionMessage } from './immutable-message.ts'
import { isTick, resolveStart, type ScanStart } from './position.ts'
import { transactionsOf } from './row-roles.ts'
import {
  type AssembledStep,
  type AssemblerStatistics,
  TransactionAssembler,
  type TransactionStep,
} from './transaction-assembler.ts'

export interface ScannerSettings {
  /** For the times of ticks. Default: the system's. */
  clock?: Clock | undefined
  /** Payloads, properties and rows of one transaction; a larger one is LIMIT_EXCEEDED. Default 256 MiB. */
  transactionBytesMax?: number | undefined
}

/** What the package gives beside the public form, for tests and statistics. */
export interface Scanner extends Scan {
  statistics(): AssemblerStatistics
}

type Result = IteratorResult<ScanItem, undefined>

const TRANSACTION_BYTES_MAX = 256 * 1024 * 1024
/** As often as a node tells its readers of its watermark. */
const TICKS_EVERY_MS = 10
const MESSAGE_BYTES = 256
const DONE: Result = { done: true, value: undefined }

/**
 * Begins at once: `latest` and the end of a scan that does not follow are where the log ends in this call.
 *
 * Throws INVALID_ARGUMENT, and POSITION_TRUNCATED (`lsnFrom`: the first LSN that is left). What is iterated rejects with
 * POSITION_TRUNCATED too (it was truncated away meanwhile), TICK_ORDER (the log's ticks go back, or a commit does not fit
 * its bodies), LIMIT_EXCEEDED (a transaction that is too large), ABORTED, and the errors of reading.
 */
export function createScanner(store: LogStore, options: ScanOptions = {}, settings: ScannerSettings = {}): Scanner {
  return new LogScanner(store, options, settings)
}

class LogScanner implements Scanner {
  readonly #store: LogStore
  readonly #options: ScanOptions
  readonly #clock: Clock
  readonly #transactionBytesMax: number
  readonly #start: ScanStart
  /** Why it ends at the first call of `next`. */
  #refusal: TidelogError | null = null
  readonly #types: ReadonlySet<number> | null
  readonly #assembler: TransactionAssembler
  readonly #abort = new AbortController()
  /** Where one that does not follow ends, and the tick that is known there. */
  readonly #endLsn: number
  readonly #endTick: bigint
  readonly #ticksEveryMs: number | null
  #source: AsyncIterator<StoreFrame> | null = null
  /** The source has no more that is wanted. */
  #exhausted = false
  /** A frame that the source was asked for and has not given. */
  #pending: Promise<IteratorResult<StoreFrame>> | null = null
  #hasSettled = false
  #onSettled: (() => void) | null = null
  /** Records of the frame that is being given, which are delivered by themselves. */
  #records: Iterator<LogStoreRecord> | null = null
  #recordsOf: StoreFrame | null = null
  /** Of the frame: for each context its transaction; null: it is plain. */
  #mixed: readonly number[] | 'no-transactions' | null = null
  #steps: AsyncIterator<AssembledStep> | null = null
  /** Of the frames taken: the next LSN, the last tick. */
  #nextLsn = 0
  #lastTick = -1n
  /** A tick below which everything was given, to be told when it is time. */
  #givenTick = 0n
  #toldTick = 0n
  #toldAtMs = Number.NEGATIVE_INFINITY
  /** Looked at up to here for what the source has not given yet. */
  #probedLsn = 0
  #busy: Promise<unknown> | null = null
  #paused = false
  #ended = false
  #wake: (() => void) | null = null
  readonly #onAbort = (): void => {
    this.#abort.abort(this.#options.signal?.reason)
    this.#wake?.()
    // Nobody need call `next` any more.
    if (this.#busy === null) void this.#source?.return?.().catch(() => {})
  }

  constructor(store: LogStore, options: ScanOptions, settings: ScannerSettings) {
    checkOptions(options)
    const { vchannels, types, ticks = false, afterTick, fromTick = 0n, signal, from = 'earliest' } = options
    this.#store = store
    this.#options = options
    this.#clock = settings.clock ?? nodeEnvironment().clock
    this.#transactionBytesMax = settings.transactionBytesMax ?? TRANSACTION_BYTES_MAX
    const after = afterTick === undefined ? 0n : afterTick + 1n
    const start = resolveStart(store, from, after > fromTick ? after : fromTick)
    this.#start = start
    this.#types = types === undefined ? null : new Set(types)
    this.#endLsn = options.follow === true ? Number.POSITIVE_INFINITY : store.nextLsn
    this.#ticksEveryMs = ticks === false ? null : ticks === true ? TICKS_EVERY_MS : ticks.everyMs
    // In the turn of the end: every record with this tick or a smaller one lies below it.
    this.#endTick = ticks === false ? 0n : store.watermark()
    this.#assembler = new TransactionAssembler(store, {
      vchannels,
      types,
      memoryBytes: options.transactionBytes,
      fromLsn: this.#start.lsn ?? undefined,
      fromEarliest: start.anywhere,
      fromTick: start.timeTick,
      signal: this.#abort.signal,
    })
    this.#nextLsn = this.#start.lsn ?? 0
    const { firstLsn } = store
    if (start.lsn !== null && start.lsn < firstLsn) {
      const message = `LSN ${start.lsn} was truncated away; the log begins with LSN ${firstLsn}`
      this.#refusal = new TidelogError('POSITION_TRUNCATED', message, { lsn: start.lsn, lsnFrom: firstLsn })
    }
    this.#source = this.#read(start.from)
    if (signal?.aborted) this.#onAbort()
    else signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  statistics(): AssemblerStatistics {
    return this.#assembler.statistics()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#wake?.()
  }

  next(): Promise<Result> {
    if (this.#busy !== null) return this.#enqueue()
    if (!this.#paused && this.#records !== null && !this.#abort.signal.aborted) {
      try {
        const message = this.#nextRecord()
        if (message !== null) return Promise.resolve({ done: false, value: message })
      } catch (error) {
        return this.#fail(error)
      }
    }
    return this.#enqueue()
  }

  /** Ends it, also while a `next` waits: that one is done then. */
  async return(): Promise<Result> {
    await this.#end()
    return DONE
  }

  /** Calls that come while one is under way are served in their order. */
  #enqueue(): Promise<Result> {
    const run = this.#busy === null ? this.#advance() : this.#busy.then(() => this.#advance())
    const clear = () => {
      if (this.#busy === settled) this.#busy = null
    }
    const settled: Promise<unknown> = run.then(clear, clear)
    this.#busy = settled
    return run
  }

  async #advance(): Promise<Result> {
    try {
      let item: ScanItem | 'end' | null = null
      for (;;) {
        if (this.#ended) return DONE
        if (this.#abort.signal.aborted) throw this.#aborted()
        if (this.#refusal !== null) throw this.#refusal
        if (this.#paused) await this.#woken()
        else if (item === null) item = await this.#nextItem()
        else if (item !== 'end') return { done: false, value: item }
        else await this.#end()
      }
    } catch (error) {
      if (this.#ended) return DONE
      return await this.#fail(this.#abort.signal.aborted ? this.#aborted() : error)
    }
  }

  /** Null: look again. */
  async #nextItem(): Promise<ScanItem | 'end' | null> {
    if (this.#records !== null) {
      const message = this.#nextRecord()
      if (message !== null) return message
    }
    if (this.#steps !== null) {
      const { value: step, done } = await this.#steps.next()
      if (done === true) {
        this.#steps = null
        this.#frameGiven()
        return null
      }
      if (step.kind === 'transaction') return await this.#unit(step)
      this.#beginRecords(step.frame, transactionsOf(step.frame.head!) ?? 'no-transactions')
      return null
    }
    if (this.#exhausted) return 'end'
    const due = this.#dueTick()
    if (due !== null) return due
    const frame = await this.#nextFrame()
    if (frame === null) return this.#lastItem()
    if (!isFrame(frame)) return frame
    return this.#take(frame)
  }

  #take(frame: StoreFrame): ScanItem | 'end' | null {
    if (frame.baseLsn >= this.#endLsn && frame.kind !== 'tick') return this.#lastItem()
    this.#checkOrder(frame)
    if (this.#assembler.passes(frame)) {
      const isBelow = frame.lastTimeTick < this.#start.timeTick
      if (frame.kind === 'records' && !isBelow) this.#beginRecords(frame, null)
      else {
        if (frame.gap !== null) this.#options.onGap?.(frame.gap)
        this.#frameGiven()
      }
      return null
    }
    this.#steps = this.#assembler.steps(frame)
    return null
  }

  #beginRecords(frame: StoreFrame, mixed: readonly number[] | 'no-transactions' | null): void {
    this.#recordsOf = frame
    this.#mixed = mixed
    this.#records = frame[Symbol.iterator]()
  }

  #nextRecord(): PlainMessage | null {
    const frame = this.#recordsOf!
    for (;;) {
      const { value: record, done } = this.#records!.next()
      if (done === true) {
        this.#records = null
        this.#recordsOf = null
        if (this.#steps === null) this.#frameGiven()
        return null
      }
      if (!this.#isVisible(frame, record)) continue
      return new PlainMessage(record, isNullIn(frame, record))
    }
  }

  #isVisible(frame: StoreFrame, record: LogStoreRecord): boolean {
    if (this.#start.timeTick > frame.baseTimeTick && record.timeTick < this.#start.timeTick) return false
    const mixed = this.#mixed
    if (mixed === null) return true
    if (isSystemType(record.type) || this.#types?.has(record.type) === false) return false
    if (mixed === 'no-transactions') return true
    const context = frame.head!.contextIndex(record.lsn - frame.baseLsn)
    return context < 0 || mixed[context]! < 0
  }

  /** Null: nothing of it is wanted. */
  async #unit(step: TransactionStep): Promise<ScannedTransaction | null> {
    const { transaction, lsn, timeTick, vchannel } = step
    const messages: ImmutableMessage[] = []
    let bytes = 0
    for await (const frame of step.parts) {
      const head = frame.head!
      const transactions = transactionsOf(head)!
      for (const record of frame) {
        const row = record.lsn - frame.baseLsn
        const context = head.contextIndex(row)
        if (context < 0 || transactions[context] !== transaction) continue
        if (record.vchannel !== vchannel || isSystemType(record.type)) continue
        if (this.#types?.has(record.type) === false) continue
        bytes += head.payloadLength(row) + head.propertiesLength(row) + MESSAGE_BYTES
        if (bytes > this.#transactionBytesMax) {
          const message = `the transaction ${transaction}, which was committed at LSN ${lsn}, has more than the ${this.#transactionBytesMax} bytes that a scan takes into memory for one`
          throw new TidelogError('LIMIT_EXCEEDED', message, { lsn, lsnFrom: transaction, lsnTo: lsn })
        }
        const kept = step.areCopies ? record : detached(record)
        messages.push(new TransactionMessage(kept, head.hasNullPayload(row), step))
      }
    }
    if (lsn === this.#start.lsn && this.#start.skip > 0) messages.splice(0, this.#start.skip)
    if (messages.length === 0) return null
    const position = { lsn: lsn + 1 }
    return { kind: 'txn', lsn, timeTick, vchannel, transaction, messages, position, lastConfirmed: position }
  }

  /** What stands behind what was taken, in LSNs and ticks: whatever does not, ends the scan. */
  #checkOrder(frame: StoreFrame): void {
    const { baseLsn, lastLsn, baseTimeTick, lastTimeTick } = frame
    const isBack = frame.kind === 'tick' ? lastTimeTick < this.#lastTick : lastLsn < this.#nextLsn
    if (isBack || (frame.kind === 'records' && baseTimeTick <= this.#lastTick)) {
      const message = `the frame with the LSNs ${baseLsn} to ${lastLsn} begins at the tick ${baseTimeTick}, behind LSN ${this.#nextLsn - 1} with the tick ${this.#lastTick}: nothing more is read`
      throw new TidelogError<string>('TICK_ORDER', message, { lsn: baseLsn })
    }
    this.#nextLsn = Math.max(this.#nextLsn, lastLsn + 1)
    if (frame.kind === 'records' && lastTimeTick > this.#lastTick) this.#lastTick = lastTimeTick
  }

  // ---- frames

  #read(from: LogStoreReadOptions['from'], follow = this.#options.follow === true): AsyncIterator<StoreFrame> {
    const { vchannels } = this.#options
    const { readTypes } = this.#assembler
    const options: LogStoreReadOptions = { from, follow, signal: this.#abort.signal }
    if (vchannels !== undefined) options.vchannels = vchannels
    if (readTypes !== undefined) options.types = readTypes
    return this.#store.read(options)[Symbol.asyncIterator]()
  }

  /** Null: there is no further one. */
  async #nextFrame(): Promise<StoreFrame | ScannedTick | null> {
    if (this.#pending === null) {
      this.#hasSettled = false
      this.#pending = this.#source!.next()
      const settled = () => {
        this.#hasSettled = true
        this.#onSettled?.()
      }
      this.#pending.then(settled, settled)
    }
    if (this.#ticksEveryMs !== null && this.#options.follow === true) {
      const tick = await this.#caughtUpTick(this.#ticksEveryMs)
      if (tick !== null) return tick
    }
    const pending = this.#pending
    try {
      const { value, done } = await pending
      return done === true ? null : value
    } catch (error) {
      if (!this.#mayBeginAtFirst(error)) throw error
      this.#source = this.#read('earliest')
    } finally {
      this.#pending = null
    }
    return await this.#nextFrame()
  }

  /** `earliest` with a tick filter was asked for by that tick: what was truncated away is not missed. */
  #mayBeginAtFirst(error: unknown): boolean {
    const isAsked = this.#start.anywhere && this.#start.lsn === null && this.#lastTick < 0n
    return isAsked && error instanceof TidelogError && error.code === 'POSITION_TRUNCATED'
  }

  // ---- ticks

  /** All records of a frame, and its units, were given. */
  #frameGiven(): void {
    if (this.#lastTick > this.#givenTick) this.#givenTick = this.#lastTick
  }

  /** Of what was given so far, when it is time for one. */
  #dueTick(): ScannedTick | null {
    if (this.#ticksEveryMs === null || this.#givenTick <= this.#toldTick) return null
    return this.#clock.monotonicMs() - this.#toldAtMs < this.#ticksEveryMs ? null : this.#tick(this.#givenTick)
  }

  #tick(timeTick: bigint): ScannedTick {
    this.#toldTick = timeTick
    this.#toldAtMs = this.#clock.monotonicMs()
    return { kind: 'tick', timeTick }
  }

  /** The end, or first the tick that was known there. */
  #lastItem(): ScannedTick | 'end' {
    this.#exhausted = true
    let timeTick = this.#givenTick
    if (timeTick < this.#endTick) timeTick = this.#endTick
    return this.#ticksEveryMs !== null && timeTick > this.#toldTick ? this.#tick(timeTick) : 'end'
  }

  /**
   * While the source has nothing to give: a tick, once it is time, of which everything was given. End and watermark are
   * taken in one turn, so that every record with that tick or a smaller one lies below that LSN; a read up to there shows
   * whether the source only has not got to it yet. Null: it has a frame.
   */
  async #caughtUpTick(everyMs: number): Promise<ScannedTick | null> {
    for (;;) {
      const waitMs = Math.max(0, this.#toldAtMs + everyMs - this.#clock.monotonicMs())
      if ((await this.#settlesWithin(waitMs)) || this.#ended || this.#abort.signal.aborted) return null
      const endLsn = this.#store.nextLsn
      const watermark = this.#store.watermark()
      if (await this.#isBehind(endLsn)) return null
      if (watermark > this.#toldTick) return this.#tick(watermark)
      this.#toldAtMs = this.#clock.monotonicMs()
    }
  }

  /** Whether anything below `endLsn` that is wanted was not given yet. */
  async #isBehind(endLsn: number): Promise<boolean> {
    const lsn = Math.max(this.#nextLsn, this.#probedLsn, this.#store.firstLsn)
    if (lsn >= endLsn) return false
    const isAtStart = this.#start.lsn === null && this.#lastTick < 0n && this.#probedLsn === 0
    const probe = this.#read(isAtStart ? this.#start.from : { lsn }, false)
    try {
      for (;;) {
        const { value, done } = await probe.next()
        if (done === true || value.baseLsn >= endLsn) break
        if (value.kind !== 'tick') return true
      }
    } catch (error) {
      // The source meets it too.
      if (error instanceof TidelogError && error.code === 'POSITION_TRUNCATED') return true
      throw error
    } finally {
      await probe.return?.()
    }
    this.#probedLsn = endLsn
    return false
  }

  /** Whether the source gives something before so many milliseconds have passed. */
  #settlesWithin(delayMs: number): Promise<boolean> {
    if (this.#hasSettled) return Promise.resolve(true)
    return new Promise((resolve) => {
      const settle = (hasSettled: boolean) => {
        timer.cancel()
        this.#onSettled = null
        resolve(hasSettled)
      }
      const timer = this.#clock.after(delayMs, () => settle(false))
      // An abort and the end reject what is waited for.
      this.#onSettled = () => settle(true)
    })
  }

  // ---- the end

  /** Settles when it is resumed, aborted or ended. */
  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = null
        resolve()
      }
    })
  }

  async #fail(error: unknown): Promise<never> {
    await this.#end()
    throw error
  }

  async #end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#exhausted = true
    this.#records = null
    this.#steps = null
    // Ends what waits in the store.
    this.#abort.abort()
    this.#wake?.()
    // What fails here has nobody to go to: the scan has its outcome.
    await this.#source?.return?.().catch(() => {})
  }

  #aborted(): TidelogError {
    const { reason } = this.#abort.signal
    return new TidelogError('ABORTED', 'the scan was aborted', { cause: reason })
  }
}

function isFrame(found: StoreFrame | ScannedTick): found is StoreFrame {
  return 'baseLsn' in found
}

function checkOptions(options: ScanOptions): void {
  const { afterTick, fromTick, ticks, transactionBytes } = options
  for (const [name, tick] of Object.entries({ afterTick, fromTick })) {
    if (tick !== undefined && !isTick(tick)) throw invalid(`${name}: ${String(tick)} is no time tick`)
  }
  if (typeof ticks === 'object' && !(Number.isFinite(ticks.everyMs) && ticks.everyMs >= 1)) {
    throw invalid(`ticks: everyMs is ${String(ticks.everyMs)}; it has to be a number of milliseconds from 1`)
  }
  if (transactionBytes !== undefined && !(Number.isSafeInteger(transactionBytes) && transactionBytes >= 0)) {
    throw invalid(`transactionBytes: ${String(transactionBytes)} is not a number of bytes`)
  }
}

function invalid(message: string): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', message)
}
