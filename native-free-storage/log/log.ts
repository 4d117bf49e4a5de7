/**
 * A log: append with group commit, read, truncate, close. What `openLog` gives.
 */
import type { CheckedCompaction, CompactOptions } from '../compaction/compaction-options.ts'
import type { CompactionReport } from '../compaction/compaction-report.ts'
import { LogCompaction } from '../compaction/log-compaction.ts'
import { isDiskError } from '../disk/disk.ts'
import type { Lock } from '../disk/lock-file.ts'
import { type StorageErrorCode, TidelogError } from '../errors.ts'
import type { RecordInput } from '../format/body-plan.ts'
import { encodeNodeSection, type Stamp } from '../format/node-section.ts'
import type { FilePool } from '../segment/file-pool.ts'
import { diskErrorOf } from './append-errors.ts'
import type { AppendOptions, AppendRecordsOptions } from './append-options.ts'
import type { LeaseFile } from './lease-file.ts'
import { checkRetention, type LogDurability, type RetentionLimits } from './log-options.ts'
import type { LogState } from './log-state.ts'
import type { LogWriter } from './log-writer.ts'
import type { ManifestStore } from './manifest-store.ts'
import type { AppendResult, ReceivedBody } from './pending-frame.ts'
import type { ReadOptions } from './read-options.ts'
import { readLog } from './reader.ts'
import type { LogRecord, RecordFrame } from './record-frame.ts'
import { Retention } from './retention.ts'
import { type FramePlace, SnapshotFiles } from './snapshot-files.ts'
import type { TickOracle } from './tick-oracle.ts'
import { TickPersistence } from './tick-persistence.ts'
import { Truncation } from './truncation.ts'
import { emptyStatistics, type WriterStatistics } from './writer-statistics.ts'

export interface LogStatus {
  state: 'idle' | 'healthy' | 'stalled' | 'failed'
  /** Why, in words; empty when there is nothing to say. */
  message: string
  /** Of a log that has failed. */
  failure: LogFailure | null
}

export interface LogFailure {
  code: StorageErrorCode
  /** Milliseconds since 1970. */
  sinceMs: number
  /** The operation of the disk that failed (`write`, `sync`, ...), its file, and the name of its errno, where it was one. */
  operation: string | null
  file: string | null
  errno: string | null
}

export interface LogStatistics extends WriterStatistics {
  segments: number
  /** Of the log's segment files; sealed ones that nobody has measured yet are left out until retention looks at them. */
  bytes: number
  preparedBytes: number
  poolMisses: number
  cachedBytes: number
}

/** Stamps and voids go into the node section of the frame: what only the node knows of a body that it received. */
export interface AppendBodyOptions extends AppendOptions {
  stamps?: readonly Stamp[] | undefined
  /** Indexes of records that keep their LSN and tick and are skipped by readers. */
  voids?: readonly number[] | undefined
}

/** What the open log stands on; each is released by `close` if the log owns it. */
export interface LogParts {
  state: LogState
  durability: LogDurability
  ownerTerm: number
  incarnation: number
  writer: LogWriter | null
  manifests: ManifestStore | null
  ticks: TickOracle | null
  ownsTicks: boolean
  lease: LeaseFile | null
  pool: FilePool | null
  ownsPool: boolean
  lock: Lock | null
  retention: RetentionLimits
  /** Null: of a log that is opened read-only. */
  compaction: CheckedCompaction | null
  persistTicksMs: number | undefined
}

export class Log implements AsyncDisposable {
  readonly #parts: LogParts
  readonly #state: LogState
  /** Null, as retention and compaction: of a log that is opened read-only. */
  readonly #truncation: Truncation | null
  readonly #retention: Retention | null
  #closing: Promise<void> | null = null
  /** State of somebody above, kept beside the log. */
  readonly snapshots: SnapshotFiles
  readonly #compaction: LogCompaction | null
  readonly #tickPersistence: TickPersistence | null = null

  constructor(parts: LogParts) {
    this.#parts = parts
    this.#state = parts.state
    this.snapshots = this.#openSnapshots()
    const { writer, manifests, persistTicksMs } = parts
    this.#truncation = manifests === null ? null : new Truncation(parts.state, manifests)
    this.#retention = writer === null ? null : this.#openRetention(writer, parts.retention)
    this.#compaction = this.#openCompaction()
    if (writer !== null) {
      writer.onRoll = () => {
        this.#retention?.notice()
        this.#compaction?.notice()
      }
      writer.onBusy = (busy) => this.#compaction?.setBusy(busy)
      if (persistTicksMs !== undefined) this.#tickPersistence = this.#persistTicks(writer, persistTicksMs)
    }
    this.#compaction?.notice()
  }

  get directory(): string {
    return this.#state.directory
  }

  /** 32 hex digits; never changes. */
  get logId(): string {
    return this.#state.logId
  }

  get durability(): LogDurability {
    return this.#parts.durability
  }

  get ownerTerm(): number {
    return this.#parts.ownerTerm
  }

  get incarnation(): number {
    return this.#parts.incarnation
  }

  get readOnly(): boolean {
    return this.#parts.writer === null
  }

  /** Records below it have been truncated away. */
  get firstLsn(): number {
    return this.#state.firstLsn
  }

  /** One above the last durable record's LSN. */
  get nextLsn(): number {
    return this.#state.nextLsn
  }

  get lastTimeTick(): bigint {
    return this.#state.durableEnd?.lastTimeTick ?? 0n
  }

  get status(): LogStatus {
    const { writer, ticks } = this.#parts
    const message = ticks?.warning ?? ''
    if (writer === null) return { state: 'idle', message: 'opened read-only', failure: null }
    if (writer.failure !== null) {
      const { code, message: why, file } = writer.failure
      const disk = diskErrorOf(writer.failure)
      return {
        state: 'failed',
        message: `${code} since ${new Date(writer.failedMs).toISOString()}: ${why}`,
        failure: {
          code,
          sinceMs: writer.failedMs,
          operation: disk?.operation ?? null,
          file: file ?? disk?.path ?? null,
          errno: disk?.code ?? null,
        },
      }
    }
    if (writer.isStalled) {
      const stalled = `a write to the log in ${this.directory} has been under way for more than a second`
      return { state: 'stalled', message: stalled, failure: null }
    }
    return { state: writer.isQuiet ? 'idle' : 'healthy', message, failure: null }
  }

  /**
   * Looks whether the log is still there and still ours, as is done before each acknowledgement: one whose directory has
   * gone, or that another process has opened, is failed then, also when nothing is appended. Two look-ups of a name.
   */
  look(): void {
    this.#parts.writer?.look()
  }

  /** T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. */
  watermark(shared = 0n): bigint {
    return this.#parts.writer?.watermark(shared) ?? this.lastTimeTick
  }

  /**
   * Counts up whenever frames get their ticks, and when the log ends: as long as it stands still, a log whose watermark
   * was the `shared` tick of one moment has that of every later one too, and its end has not moved.
   */
  get stirs(): number {
    return this.#parts.writer?.stirs ?? 0
  }

  /** Calls back with each step of `stirs`. */
  onStir(listener: () => void): void {
    if (this.#parts.writer !== null) this.#parts.writer.onStir = listener
  }

  /** Settles when `nextLsn` or `firstLsn` has moved, or the log has ended, since the call. */
  changed(): Promise<void> {
    return this.#state.changed()
  }

  /**
   * Appends a batch: one frame, one promise, which settles when it is durable at the log's level. The records get LSNs
   * and ticks one after the other. The payloads must not change until it settles.
   *
   * Errors with `outcome: 'not-written'`: INVALID_ARGUMENT, LIMIT_EXCEEDED, QUEUE_FULL (retriable), ABORTED, CLOSED,
   * READ_ONLY, DISK_FULL (retriable), TICK_TOO_FAR_AHEAD (retriable); of a log that has failed, its error. With
   * `outcome: 'unknown'`: POISONED, FENCED, TIMEOUT, DISK_FULL of what was under way when the log failed.
   */
  append(records: readonly RecordInput[], options?: AppendRecordsOptions): Promise<AppendResult> {
    const { writer } = this.#parts
    return writer === null ? Promise.reject(readOnly('append')) : writer.appends.append(records, options)
  }

  /** Appends a body that a client encoded, as it is. `head` proves that it was checked. Errors as `append`. */
  appendBody(body: ReceivedBody, options: AppendBodyOptions = {}): Promise<AppendResult> {
    const { writer } = this.#parts
    if (writer === null) return Promise.reject(readOnly('append'))
    const { stamps = [], voids = [] } = options
    const node =
      stamps.length === 0 && voids.length === 0
        ? null
        : encodeNodeSection({ recordCount: body.head.recordCount, stamps, voids })
    return writer.appends.appendBody(body, node, options)
  }

  /**
   * Stores a time tick: a frame that takes a tick and no LSN, behind everything that was appended before. All records
   * with a smaller tick stand before it, all others behind it. Settles with the tick when the frame is durable. Errors as
   * `append`.
   */
  appendTick(options: Pick<AppendOptions, 'signal'> = {}): Promise<bigint> {
    const { writer } = this.#parts
    return writer === null ? Promise.reject(readOnly('append')) : writer.appends.appendTick(options.signal)
  }

  /**
   * Takes runs of stored time ticks, but for the last one of each, and durable markers out of the finished segments: each
   * that saves enough is written anew, and takes the place of the old one in one step. LSNs, ticks and records stay;
   * readers go on where they are. Gives way to appends. Needs room for one segment.
   *
   * Errors: READ_ONLY, CLOSED, ABORTED, INVALID_ARGUMENT, DISK_FULL (retriable), LOG_DAMAGED, IO_FAILED, FENCED; each
   * leaves a whole log, with the segments that were done.
   */
  async compact(options: CompactOptions = {}): Promise<CompactionReport> {
    if (this.#compaction === null) throw readOnly('compact')
    try {
      return await this.#compaction.run(options)
    } catch (error) {
      throw asStorageError(error, this.directory)
    }
  }

  /**
   * Reads by frame; a frame iterates its records. Without `follow` it ends at what was durable when it began. Errors:
   * POSITION_TRUNCATED, FRAME_DAMAGED, SEGMENT_MISSING, LOG_DAMAGED, IO_FAILED, ABORTED, and why the log ended.
   */
  read(options: ReadOptions = {}): AsyncIterable<RecordFrame> {
    if (options.follow === true && this.readOnly) {
      throw new TidelogError(
        'INVALID_ARGUMENT',
        'a log that is opened read-only is not told what its writer appends: it cannot be followed',
      )
    }
    return readLog(this.#state, options)
  }

  /** Reads by record: convenient, and slower than by frame by what a step of an async iteration costs a record. */
  async *readRecords(options: ReadOptions = {}): AsyncGenerator<LogRecord, void, undefined> {
    for await (const frame of this.read(options)) yield* frame
  }

  /**
   * Nothing below `lsn` is needed any more: readers are refused it at once, and segments that lie wholly below are
   * removed. Nothing at or above `lsn` is touched. Idempotent. INVALID_ARGUMENT above `nextLsn`, READ_ONLY, FENCED.
   */
  truncateBefore(lsn: number): Promise<void> {
    if (this.#truncation === null) return Promise.reject(readOnly('truncate'))
    if (!Number.isSafeInteger(lsn) || lsn < 0 || lsn > this.nextLsn) {
      return Promise.reject(
        new TidelogError(
          'INVALID_ARGUMENT',
          `cannot truncate before LSN ${lsn}: the log has the LSNs ${this.firstLsn} to ${this.nextLsn - 1}`,
          { lsn },
        ),
      )
    }
    if (this.#closing !== null) return Promise.reject(new TidelogError('CLOSED', 'the log is closed'))
    return this.#truncation.before(lsn).catch((error: unknown) => {
      throw asStorageError(error, this.directory)
    })
  }

  /**
   * Somebody above needs more of the log than was asked to be kept: neither `truncateBefore` nor retention goes beyond
   * what `floor` answers for the LSN that it was to go to. It must not throw. Null: nobody does.
   */
  setTruncationFloor(floor: ((lsn: number) => number) | null): void {
    if (this.#truncation !== null) this.#truncation.floor = floor
  }

  /** Replaces the limits; they are applied in the background. */
  setRetention(limits: RetentionLimits): void {
    const checked = checkRetention(limits)
    this.#retention?.setLimits(checked)
  }

  /** Settles when retention has nothing more to remove for now. */
  async applyRetention(): Promise<void> {
    this.#retention?.notice()
    await this.#retention?.settled()
  }

  statistics(): LogStatistics {
    const { writer, pool } = this.#parts
    const prepared = pool?.statistics()
    let bytes = writer?.activeBytes ?? 0
    for (const entry of this.#state.segments) bytes += entry.end?.position ?? this.#retention?.knownBytes(entry) ?? 0
    return {
      ...(writer?.statistics() ?? emptyStatistics),
      segments: this.#state.segments.length,
      bytes,
      preparedBytes: prepared?.preparedBytes ?? 0,
      poolMisses: prepared?.misses ?? 0,
      cachedBytes: this.#state.cache.usedBytes,
    }
  }

  /** Settles every append, seals the tail, publishes its end, releases the directory. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const { writer, ticks, lease, pool, lock, manifests } = this.#parts
    this.#retention?.stop()
    this.#tickPersistence?.stop()
    const compaction = this.#compaction?.stop()
    let failure: unknown = null
    const attempt = async (step: Promise<unknown> | undefined): Promise<void> => {
      try {
        await step
      } catch (error) {
        failure ??= error
      }
    }
    await attempt(writer?.close())
    await attempt(compaction)
    await attempt(this.#retention?.settled())
    await attempt(this.#truncation?.settled())
    await attempt(this.snapshots.settled())
    manifests?.stop()
    await attempt(manifests?.settled())
    if (this.#parts.ownsTicks) await attempt(ticks?.close())
    await attempt(lease?.close())
    if (this.#parts.ownsPool) await attempt(pool?.close())
    await attempt(lock?.release())
    this.#state.end(new TidelogError('CLOSED', 'the log is closed'))
    this.#state.cache.close()
    if (failure !== null) throw asStorageError(failure, this.directory)
  }

  #openRetention(writer: LogWriter, limits: RetentionLimits): Retention {
    const log = {
      get activeBytes() {
        return writer.activeBytes
      },
      truncateBefore: (lsn: number) => this.truncateBefore(lsn),
    }
    return new Retention(this.#state, log, limits)
  }

  #openCompaction(): LogCompaction | null {
    const { state, manifests, writer, compaction } = this.#parts
    const truncation = this.#truncation
    if (manifests === null || truncation === null || writer === null || compaction === null) return null
    return new LogCompaction({
      state,
      manifests,
      settings: compaction,
      alone: (step) => truncation.alone(step),
      refusal: () => writer.failure,
    })
  }

  #persistTicks(writer: LogWriter, everyMs: number): TickPersistence {
    const state = this.#state
    return new TickPersistence(state.environment.clock, everyMs, {
      get nextLsn() {
        return state.nextLsn
      },
      // Nothing is begun for a log to which nobody has appended.
      get isIdle() {
        return writer.isQuiet && state.durableEnd !== null
      },
      appendTick: () => writer.appends.appendTick(undefined),
    })
  }

  #openSnapshots(): SnapshotFiles {
    const state = this.#state
    const { environment, directory, logId, origins } = state
    return new SnapshotFiles({
      environment,
      directory,
      logId,
      origins,
      get firstLsn() {
        return state.firstLsn
      },
      get nextLsn() {
        return state.nextLsn
      },
      frameAt: (lsn) => this.#frameAt(lsn),
      releaseReserve: async () => (await this.#parts.pool?.releaseReserve()) ?? false,
    })
  }

  /** The frame that holds `lsn`. */
  async #frameAt(lsn: number): Promise<FramePlace | null> {
    if (lsn < this.firstLsn) return null
    for await (const { lastLsn, baseTimeTick, bodyHash } of readLog(this.#state, { from: { lsn }, gaps: true })) {
      return { lastLsn, baseTimeTick, bodyHash }
    }
    return null
  }
}

/** What the disk reported, in the terms of the engine's border. */
function asStorageError(error: unknown, directory: string): unknown {
  if (!isDiskError(error)) return error
  const full = error.code === 'ENOSPC'
  return new TidelogError(full ? 'DISK_FULL' : 'IO_FAILED', `the log in ${directory}: ${error.message}`, {
    file: error.path,
    retriable: full,
    cause: error,
  })
}

function readOnly(what: string): TidelogError {
  return new TidelogError('READ_ONLY', `cannot ${what}: the log is opened read-only`, { outcome: 'not-written' })
}
