/**
 * The log store in memory: for tests and for what needs no durability. It has the order, the ticks, the fencing and
 * the failures of the port; a frame is "durable" when `commit` settled.
 */
import {
  type Admit,
  type BodyHead,
  type BodyPlan,
  encodeNodeSection,
  FormatError,
  loadChecksum,
  openBodyHead,
  planBody,
  type RecordInput,
  writeBody,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type {
  AppendedRange,
  EncodedBody,
  LogStore,
  LogStoreOpener,
  LogStoreReadOptions,
  LogStoreStatus,
  SnapshotStore,
  StoreAppendBodyOptions,
  StoreAppendOptions,
  StoreAppendRecordsOptions,
  StoreFrame,
} from './log-store.ts'
import { createFilter, createMemoryFrame, holdsWanted, type MemoryFrame, MemoryFrameView } from './memory-frame.ts'
import { LOGICAL_BITS, MAX_TICK_LEAD_MS, MemoryTicks } from './memory-ticks.ts'

/** Time, passed in. */
export interface MemoryClock {
  nowMs(): number
  after(delayMs: number, callback: () => void): { cancel(): void }
}

export interface MemoryLogsOptions {
  clock?: MemoryClock
  /** Bytes of bodies that may wait in one log; the default is 64 MiB. A single larger body is let in alone. */
  queueBytes?: number
  /** How long an append waits for room in the queue before QUEUE_FULL; the default is 30,000. */
  queueWaitMs?: number
  /**
   * Stands for the write and the sync of one flush: its frames are durable when it settles, and the log is failed
   * when it rejects. Settles at once when left out.
   */
  commit?: (pchannel: string, frames: number) => Promise<void>
}

const SNAPSHOTS_KEPT = 2

const systemClock: MemoryClock = {
  nowMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return { cancel: () => clearTimeout(timer) }
  },
}

/** What outlives an opening: the frames and who owns them. */
class MemoryLog {
  frames: MemoryFrame[] = []
  /** Newest first. */
  snapshots: { lsn: number; bytes: Buffer }[] = []
  bytes = 0
  firstLsn = 0
  nextLsn = 0
  lastTimeTick = 0n
  ownerTerm = 0
  incarnation = 0
  #wake: (() => void) | null = null
  #changed: Promise<void> | null = null

  changed(): Promise<void> {
    this.#changed ??= new Promise((resolve) => {
      this.#wake = resolve
    })
    return this.#changed
  }

  announce(): void {
    const wake = this.#wake
    this.#wake = null
    this.#changed = null
    wake?.()
  }

  /** Index of the first frame whose last LSN is not below `lsn`. */
  frameAt(lsn: number): number {
    let low = 0
    let high = this.frames.length
    while (low < high) {
      const middle = (low + high) >> 1
      const frame = this.frames[middle]!
      if (frame.baseLsn + frame.recordCount <= lsn) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Logs that live as long as this object: every opener of it sees the same ones, as processes see one disk. */
export class MemoryLogs {
  readonly #logs = new Map<string, MemoryLog>()
  readonly #options: Required<MemoryLogsOptions>
  readonly #ticks: MemoryTicks

  constructor(options: MemoryLogsOptions = {}) {
    this.#options = {
      clock: options.clock ?? systemClock,
      queueBytes: options.queueBytes ?? 64 * 1024 * 1024,
      queueWaitMs: options.queueWaitMs ?? 30_000,
      commit: options.commit ?? (() => Promise.resolve()),
    }
    this.#ticks = new MemoryTicks(() => this.#options.clock.nowMs())
  }

  opener(): LogStoreOpener {
    const ticks = this.#ticks
    return {
      open: (pchannel, ownerTerm) => this.#open(pchannel, ownerTerm),
      sharedTick: () => ticks.fresh(),
      get stirs() {
        return ticks.stirs
      },
    }
  }

  async #open(pchannel: string, ownerTerm: number): Promise<LogStore> {
    if (!Number.isInteger(ownerTerm) || ownerTerm < 0 || ownerTerm > 0xffffffff) {
      throw new TidelogError('INVALID_ARGUMENT', `owner term ${ownerTerm} is not an unsigned 32-bit integer`)
    }
    await loadChecksum()
    let log = this.#logs.get(pchannel)
    if (log === undefined) {
      log = new MemoryLog()
      this.#logs.set(pchannel, log)
    }
    if (ownerTerm < log.ownerTerm) {
      throw new TidelogError(
        'TERM_STALE',
        `log ${pchannel} was opened at owner term ${log.ownerTerm}; ${ownerTerm} is older and may not write`,
      )
    }
    log.ownerTerm = ownerTerm
    log.incarnation += 1
    this.#ticks.stirs++
    // The one before learns here that it is fenced, even if it never appends again.
    log.announce()
    return new MemoryLogStore(pchannel, log, this.#ticks, this.#options)
  }
}

interface Pending {
  bytes: Buffer
  head: BodyHead
  hash: bigint
  nodeSection: Buffer
  barrierTick: bigint
  admit: Admit | null
  resolve(range: AppendedRange): void
  reject(error: TidelogError): void
}

interface Encoded {
  bytes: Buffer
  recordCount: number
  hash: bigint
  nodeSection: Buffer
}

const NO_BYTES = Buffer.alloc(0)

interface Waiter {
  bytes: number
  admit(): void
  refuse(error: TidelogError): void
}

class MemoryLogStore implements LogStore {
  #floor: ((lsn: number) => number) | null = null
  readonly ownerTerm: number
  readonly #name: string
  readonly #log: MemoryLog
  readonly #ticks: MemoryTicks
  readonly #options: Required<MemoryLogsOptions>
  readonly #incarnation: number
  #queue: Pending[] = []
  #waiters: Waiter[] = []
  #queuedBytes = 0
  #running: Promise<void> | null = null
  #watermark: bigint
  #stirs = 0
  /** Why nothing more is taken. */
  #ended: TidelogError | null = null
  #closing: Promise<void> | null = null

  constructor(name: string, log: MemoryLog, ticks: MemoryTicks, options: Required<MemoryLogsOptions>) {
    this.#name = name
    this.#log = log
    this.#ticks = ticks
    this.#options = options
    this.ownerTerm = log.ownerTerm
    this.#incarnation = log.incarnation
    this.#watermark = log.lastTimeTick
  }

  get firstLsn(): number {
    return this.#log.firstLsn
  }

  get nextLsn(): number {
    return this.#log.nextLsn
  }

  get stirs(): number {
    // An opening that is fenced learns it here.
    return this.#stop() === null ? this.#stirs : this.#stirs + 1
  }

  watermark(shared = 0n): bigint {
    const quiet = this.#running === null && this.#queue.length === 0 && this.#stop() === null
    const candidate = quiet ? (shared > 0n ? shared : this.#ticks.fresh()) : this.#log.lastTimeTick
    if (candidate > this.#watermark) this.#watermark = candidate
    return this.#watermark
  }

  changed(): Promise<void> {
    return this.#log.changed()
  }

  append(body: EncodedBody, options: StoreAppendBodyOptions = {}): Promise<AppendedRange> {
    return this.#append(options, body.bytes.length, () => {
      const { recordCount } = body.head
      const nodeSection = encodeNodeSection({ recordCount, stamps: [], voids: options.voids ?? [] })
      // The caller's buffer may be a view of a larger one, or used again.
      const bytes = Buffer.from(body.bytes)
      return { bytes, recordCount, hash: body.hash, nodeSection }
    })
  }

  appendRecords(records: readonly RecordInput[], options: StoreAppendRecordsOptions = {}): Promise<AppendedRange> {
    let plan: BodyPlan
    try {
      plan = planBody(records, undefined, options.contexts)
    } catch (error) {
      return Promise.reject(refused(error))
    }
    return this.#append(options, plan.bodyBytes, () => {
      const bytes = Buffer.alloc(plan.bodyBytes)
      const hash = writeBody(plan, bytes, 0)
      return { bytes, recordCount: plan.recordCount, hash, nodeSection: NO_BYTES }
    })
  }

  async #append(options: StoreAppendOptions, length: number, encode: () => Encoded): Promise<AppendedRange> {
    const { barrierTick = 0n, signal, admit = null } = options
    if (signal?.aborted) throw aborted(signal, 'not-written')
    this.#refuseIfStopped()
    this.#checkBarrier(barrierTick)
    // Those who wait already go first.
    if (this.#waiters.length > 0 || !this.#hasRoom(length)) await this.#waitForRoom(length, signal)
    else this.#queuedBytes += length
    const { bytes, recordCount, hash, nodeSection } = encode()
    const head = openBodyHead(bytes, length, recordCount, null)
    return await new Promise<AppendedRange>((resolve, reject) => {
      const onAbort = () => reject(aborted(signal!, 'unknown'))
      signal?.addEventListener('abort', onAbort, { once: true })
      const settled = () => signal?.removeEventListener('abort', onAbort)
      this.#queue.push({
        bytes,
        head,
        hash,
        nodeSection,
        barrierTick,
        admit,
        resolve: (range) => {
          settled()
          resolve(range)
        },
        reject: (error) => {
          settled()
          reject(error)
        },
      })
      this.#running ??= this.#run()
    })
  }

  async *read(options: LogStoreReadOptions): AsyncGenerator<StoreFrame> {
    const { from, signal, follow = false } = options
    const log = this.#log
    const end = log.nextLsn
    let lsn: number
    let tick = 0n
    if (from === 'earliest') lsn = log.firstLsn
    else if (from === 'latest') lsn = end
    else if ('lsn' in from) lsn = from.lsn
    else {
      lsn = log.firstLsn
      tick = from.timeTick
    }
    while (true) {
      if (signal?.aborted) throw aborted(signal, undefined)
      if (lsn < log.firstLsn) {
        throw new TidelogError(
          'POSITION_TRUNCATED',
          `log ${this.#name}: LSN ${lsn} was truncated away; the first one is ${log.firstLsn}`,
          { lsn: log.firstLsn },
        )
      }
      const frame = log.frames[log.frameAt(lsn)]
      if (frame !== undefined && (follow || frame.baseLsn < end)) {
        const first = Math.max(lsn, frame.baseLsn + ticksBelow(frame, tick))
        lsn = frame.baseLsn + frame.recordCount
        const filter = createFilter(options.vchannels, options.types, first)
        if (holdsWanted(frame, filter)) yield new MemoryFrameView(frame, filter)
        continue
      }
      if (!follow) return
      const stopped = this.#stop()
      if (stopped !== null) {
        if (stopped.code === 'CLOSED') return
        throw stopped
      }
      await untilChangedOrAborted(log.changed(), signal)
    }
  }

  setTruncationFloor(floor: ((lsn: number) => number) | null): void {
    this.#floor = floor
  }

  get snapshots(): SnapshotStore {
    const log = this.#log
    return {
      load: async () => log.snapshots.filter(({ lsn }) => lsn >= log.firstLsn && lsn <= log.nextLsn),
      save: async (lsn, bytes) => {
        this.#refuseIfStopped()
        const frame = log.frames[log.frameAt(lsn)]
        const isInside = frame !== undefined && frame.baseLsn < lsn
        if (!Number.isSafeInteger(lsn) || lsn < 0 || lsn > log.nextLsn || isInside) {
          throw new TidelogError('INVALID_ARGUMENT', `log ${this.#name}: no frame ends before LSN ${lsn}`, { lsn })
        }
        const older = log.snapshots.filter((other) => other.lsn < lsn)
        log.snapshots = [{ lsn, bytes: Buffer.from(bytes) }, ...older].slice(0, SNAPSHOTS_KEPT)
      },
    }
  }

  async truncateBefore(asked: number): Promise<void> {
    this.#refuseIfStopped()
    const log = this.#log
    if (!Number.isSafeInteger(asked) || asked < 0 || asked > log.nextLsn) {
      throw new TidelogError('INVALID_ARGUMENT', `log ${this.#name} ends before LSN ${log.nextLsn}, not at ${asked}`, {
        lsn: asked,
      })
    }
    const lsn = this.#floor === null ? asked : Math.min(asked, this.#floor(asked))
    if (lsn <= log.firstLsn) return
    log.firstLsn = lsn
    const kept = log.frameAt(lsn)
    for (const frame of log.frames.slice(0, kept)) log.bytes -= frame.bytes.length
    log.frames = log.frames.slice(kept)
    log.announce()
  }

  status(): LogStoreStatus {
    const stopped = this.#stop()
    const failed = stopped !== null && stopped.code !== 'CLOSED'
    return {
      state: failed ? 'failed' : this.#running === null ? 'idle' : 'healthy',
      message: stopped === null ? '' : stopped.message,
      bytes: this.#log.bytes,
      segments: this.#log.frames.length === 0 ? 0 : 1,
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const closed = new TidelogError('CLOSED', `log ${this.#name} is closed`, { outcome: 'not-written' })
    for (const waiter of this.#waiters.splice(0)) waiter.refuse(closed)
    this.#ended ??= closed
    this.#ticks.stirs++
    // What was let in is written, also what was let in a moment ago and is not queued yet.
    while (this.#queuedBytes > 0) await (this.#running ?? Promise.resolve())
    this.#log.announce()
  }

  /** Null while this opening may write. */
  #stop(): TidelogError | null {
    if (this.#ended === null && this.#log.incarnation !== this.#incarnation) {
      this.#ended = new TidelogError(
        'FENCED',
        `log ${this.#name} was opened again at owner term ${this.#log.ownerTerm}; this opening may not write any more`,
      )
    }
    return this.#ended
  }

  #refuseIfStopped(): void {
    const stopped = this.#stop()
    if (stopped !== null) throw withOutcome(stopped, 'not-written')
  }

  #checkBarrier(barrierTick: bigint): void {
    if (barrierTick - this.#ticks.now() > BigInt(MAX_TICK_LEAD_MS) << LOGICAL_BITS) {
      throw new TidelogError(
        'TICK_TOO_FAR_AHEAD',
        `barrier tick ${barrierTick} is more than ${MAX_TICK_LEAD_MS} ms ahead of the clock`,
        { outcome: 'not-written' },
      )
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#queuedBytes === 0 || this.#queuedBytes + bytes <= this.#options.queueBytes
  }

  /** Settles when `bytes` are counted into the queue. */
  #waitForRoom(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        timer.cancel()
        signal?.removeEventListener('abort', onAbort)
        const index = this.#waiters.indexOf(waiter)
        if (index >= 0) this.#waiters.splice(index, 1)
      }
      const waiter: Waiter = {
        bytes,
        admit: () => {
          leave()
          this.#queuedBytes += bytes
          resolve()
        },
        refuse: (error) => {
          leave()
          reject(error)
        },
      }
      const onAbort = () => waiter.refuse(aborted(signal!, 'not-written'))
      const timer = this.#options.clock.after(this.#options.queueWaitMs, () =>
        waiter.refuse(
          new TidelogError(
            'QUEUE_FULL',
            `log ${this.#name}: no room in the queue of ${this.#options.queueBytes} bytes within ${this.#options.queueWaitMs} ms`,
            { outcome: 'not-written', retriable: true },
          ),
        ),
      )
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.push(waiter)
    })
  }

  /** Flushes until nothing waits: what came while one flush was under way leaves with the next. */
  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const flush = this.#queue
      this.#queue = []
      await this.#flush(flush)
      for (const pending of flush) this.#queuedBytes -= pending.bytes.length
      while (this.#waiters.length > 0 && this.#hasRoom(this.#waiters[0]!.bytes)) this.#waiters[0]!.admit()
    }
    this.#running = null
  }

  async #flush(flush: readonly Pending[]): Promise<void> {
    const stopped = this.#stop()
    if (stopped !== null && stopped.code !== 'CLOSED') {
      for (const pending of flush) pending.reject(withOutcome(stopped, 'not-written'))
      return
    }
    this.#stirs++
    const frames: MemoryFrame[] = []
    const placed: Pending[] = []
    let lsn = this.#log.nextLsn
    for (const pending of flush) {
      const refusal = pending.admit?.() ?? null
      if (refusal !== null) {
        pending.reject(refusal as TidelogError)
        continue
      }
      const { bytes, head, hash, nodeSection, barrierTick } = pending
      const { recordCount } = head
      const baseTimeTick = this.#ticks.take(recordCount, barrierTick)
      frames.push(createMemoryFrame({ baseLsn: lsn, baseTimeTick, recordCount, head, bytes, hash, nodeSection }))
      placed.push(pending)
      lsn += recordCount
    }
    if (placed.length === 0) return
    try {
      await this.#options.commit(this.#name, frames.length)
    } catch (cause) {
      this.#ticks.stirs++
      this.#ended = new TidelogError('POISONED', `log ${this.#name}: a write failed; open it again`, { cause })
      for (const pending of placed) pending.reject(withOutcome(this.#ended, 'unknown'))
      for (const waiter of this.#waiters.splice(0)) waiter.refuse(withOutcome(this.#ended, 'not-written'))
      this.#log.announce()
      return
    }
    // A newer owner has read the log already: what it did not see may not appear behind its back.
    if (this.#log.incarnation !== this.#incarnation) {
      const fenced = this.#stop() ?? new TidelogError('FENCED', `log ${this.#name} has another owner`)
      for (const pending of placed) pending.reject(withOutcome(fenced, 'not-written'))
      for (const waiter of this.#waiters.splice(0)) waiter.refuse(withOutcome(fenced, 'not-written'))
      return
    }
    for (let index = 0; index < frames.length; index++) {
      const frame = frames[index]!
      const lastTimeTick = frame.baseTimeTick + BigInt(frame.recordCount - 1)
      this.#log.frames.push(frame)
      this.#log.bytes += frame.bytes.length
      this.#log.nextLsn = frame.baseLsn + frame.recordCount
      this.#log.lastTimeTick = lastTimeTick
      placed[index]!.resolve({
        firstLsn: frame.baseLsn,
        lastLsn: frame.baseLsn + frame.recordCount - 1,
        firstTimeTick: frame.baseTimeTick,
        lastTimeTick,
      })
    }
    this.#log.announce()
  }
}

/** How many records at the front of the frame have a tick below `tick`. */
function ticksBelow(frame: MemoryFrame, tick: bigint): number {
  if (tick <= frame.baseTimeTick) return 0
  const below = tick - frame.baseTimeTick
  return below > BigInt(frame.recordCount) ? frame.recordCount : Number(below)
}

function aborted(signal: AbortSignal, outcome: 'not-written' | 'unknown' | undefined): TidelogError {
  return new TidelogError('ABORTED', 'aborted by the caller', { cause: signal.reason, outcome })
}

/** As the engine's: whatever is wrong with the records, nothing was written. */
function refused(error: unknown): unknown {
  return error instanceof FormatError
    ? new TidelogError(error.code as 'INVALID_ARGUMENT', error.message, { outcome: 'not-written', cause: error })
    : error
}

function withOutcome(error: TidelogError, outcome: 'not-written' | 'unknown'): TidelogError {
  return new TidelogError(error.code, error.message, { outcome, cause: error.cause })
}

function untilChangedOrAborted(changed: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return changed
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(aborted(signal, undefined))
    signal.addEventListener('abort', onAbort, { once: true })
    void changed.then(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
  })
}
