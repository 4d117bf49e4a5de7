/**
 * The log store on the engine: each pchannel is a log in a directory of the data directory. What one machine has once
 * is shared by all of them: the prepared files, the tick oracle with its lease, the write-ahead cache, and what the
 * probe of the device found.
 */
import {
  CacheBudget,
  type Environment,
  type FilePool,
  findLogs,
  type Log,
  type LogStatistics,
  loadChecksum,
  openFilePool,
  openLog,
  openTickOracle,
  probeWriteWay,
  type RecordInput,
  type RecoveryMode,
  type TickOracle,
  TidelogError,
  type WriteMode,
  type WriteWay,
} from '../../native-free-storage/index.ts'
import type {
  AppendedRange,
  EncodedBody,
  LogStore,
  LogStoreOpener,
  LogStoreReadOptions,
  LogStoreStatus,
  SnapshotStore,
  StoreAppendBodyOptions,
  StoreAppendRecordsOptions,
  StoreFrame,
} from './log-store.ts'

export interface LocalLogsOptions {
  durability: 'disk' | 'os'
  segmentBytes: number
  cacheBytes: number
  poolBytes: number
  /** Of each log. */
  queueBytes: number
  recordBytesMax: number
  writeDeadlineMs: number
  /** What an opening does with an end that was left unfinished; of the catalog too. */
  recovery: RecoveryMode
  /** Null: what the probe of the device finds. */
  writeMode: WriteMode | null
  writeDepth: number | null
  /** Of each pchannel; null: no bound. The catalog is never shortened by them. */
  retentionBytes: number | null
  retentionAgeMs: number | null
  /** Null: time ticks are not stored by themselves. */
  persistTicksMs?: number | null
  /** Of stored time ticks, in the background. Default `on`. */
  compaction?: 'on' | 'off'
}

/** The log of the vchannels: small, always synced, kept whole. */
const CATALOG = 'catalog'
const CATALOG_CACHE_BYTES = 256 * 1024
const CATALOG_SEGMENT_BYTES = 4 * 1024 * 1024

/** The logs of one data directory, which the caller has locked. */
export class LocalLogs implements LogStoreOpener {
  readonly #environment: Environment
  readonly #directory: string
  readonly #options: LocalLogsOptions
  readonly #pool: FilePool
  readonly #ticks: TickOracle
  readonly #cache: CacheBudget
  /** How the device is written to, and why. */
  readonly writeWay: WriteWay
  readonly #open = new Map<string, Log>()
  #stirs = 0
  #closing: Promise<void> | null = null

  private constructor(
    environment: Environment,
    directory: string,
    options: LocalLogsOptions,
    pool: FilePool,
    ticks: TickOracle,
    writeWay: WriteWay,
  ) {
    this.#environment = environment
    this.#directory = directory
    this.#options = options
    this.#pool = pool
    this.#ticks = ticks
    this.#cache = new CacheBudget(options.cacheBytes)
    this.writeWay = writeWay
  }

  /** @throws TidelogError IO_FAILED, DISK_FULL, LOG_DAMAGED (the lease), INVALID_ARGUMENT (write mode or depth). */
  static async begin(environment: Environment, directory: string, options: LocalLogsOptions): Promise<LocalLogs> {
    await loadChecksum()
    const pool = await openFilePool(environment, directory, { preparedBytesMax: options.poolBytes })
    try {
      const { writeMode, writeDepth } = options
      const override = { mode: writeMode ?? undefined, depth: writeDepth ?? undefined }
      const writeWay = await probeWriteWay(environment, pool.directory, { override })
      const ticks = await openTickOracle(environment, directory)
      return new LocalLogs(environment, directory, options, pool, ticks, writeWay)
    } catch (error) {
      await pool.close().catch(() => {})
      throw error
    }
  }

  /** `catalog`, or the number of a pchannel. Errors as the engine's `openLog`. */
  async open(name: string, ownerTerm: number, { mustExist = false } = {}): Promise<LogStore> {
    const options = this.#options
    const isCatalog = name === CATALOG
    const directory = isCatalog ? `${this.#directory}/catalog` : `${this.#directory}/pchannels/${name}`
    if (mustExist) await refuseMissing(this.#environment, directory)
    const log = await openLog(directory, {
      environment: this.#environment,
      ownerTerm,
      ticks: this.#ticks,
      pool: this.#pool,
      writeWay: this.writeWay,
      queueBytes: options.queueBytes,
      recordBytesMax: options.recordBytesMax,
      writeDeadlineMs: options.writeDeadlineMs,
      recovery: options.recovery,
      ...(isCatalog
        ? { durability: 'disk', cacheBytes: CATALOG_CACHE_BYTES, segmentBytes: CATALOG_SEGMENT_BYTES }
        : {
            durability: options.durability,
            cache: this.#cache,
            segmentBytes: options.segmentBytes,
            retention: { bytes: options.retentionBytes ?? undefined, ageMs: options.retentionAgeMs ?? undefined },
            persistTicksMs: options.persistTicksMs ?? undefined,
            compaction: { enabled: options.compaction !== 'off' },
          }),
    })
    this.#open.set(name, log)
    log.onStir(() => {
      this.#stirs++
    })
    return new LocalLogStore(log, () => this.#open.get(name) === log && this.#open.delete(name))
  }

  get stirs(): number {
    return this.#stirs
  }

  sharedTick(): bigint {
    return this.#ticks.take(1, 0n) ?? 0n
  }

  /** Of the log that is open under this name. */
  logStatistics(name: string): LogStatistics | undefined {
    return this.#open.get(name)?.statistics()
  }

  /** A log that is gone, or that somebody else has opened, is failed then, also when nothing is appended. */
  look(): void {
    for (const log of this.#open.values()) log.look()
  }

  /** While appends are refused for want of room, no file is prepared either. */
  setRefusing(refusing: boolean): void {
    this.#pool.setBusy(this, refusing)
  }

  poolStatistics(): { preparedBytes: number; misses: number } {
    return this.#pool.statistics()
  }

  get cacheUsedBytes(): number {
    return this.#cache.usedBytes
  }

  /** After the logs were closed. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#ticks.close()
    await this.#pool.close()
  }
}

async function refuseMissing(environment: Environment, directory: string): Promise<void> {
  if ((await findLogs(environment, directory)).includes(directory)) return
  throw new TidelogError(
    'LOG_MISSING',
    `there is no log in ${directory}, where there was one with vchannels. Nothing was begun in its place. Put the directory back, or restore it from a backup, then restart the daemon.`,
    { file: directory },
  )
}

/** One log of the engine as a log store. `onClosed`: when it was closed. */
export class LocalLogStore implements LogStore {
  readonly ownerTerm: number
  readonly #log: Log
  readonly #onClosed: () => void

  constructor(log: Log, onClosed: () => void) {
    this.#log = log
    this.#onClosed = onClosed
    this.ownerTerm = log.ownerTerm
  }

  get firstLsn(): number {
    return this.#log.firstLsn
  }

  get nextLsn(): number {
    return this.#log.nextLsn
  }

  get stirs(): number {
    return this.#log.stirs
  }

  watermark(shared = 0n): bigint {
    return this.#log.watermark(shared)
  }

  changed(): Promise<void> {
    return this.#log.changed()
  }

  append(body: EncodedBody, options?: StoreAppendBodyOptions): Promise<AppendedRange> {
    return this.#log.appendBody(body, options)
  }

  appendRecords(records: readonly RecordInput[], options?: StoreAppendRecordsOptions): Promise<AppendedRange> {
    return this.#log.append(records, options)
  }

  appendTick(): Promise<bigint> {
    return this.#log.appendTick()
  }

  read(options: LogStoreReadOptions): AsyncIterable<StoreFrame> {
    return this.#log.read(options)
  }

  truncateBefore(lsn: number): Promise<void> {
    return this.#log.truncateBefore(lsn)
  }

  setTruncationFloor(floor: ((lsn: number) => number) | null): void {
    this.#log.setTruncationFloor(floor)
  }

  get snapshots(): SnapshotStore {
    return this.#log.snapshots
  }

  status(): LogStoreStatus {
    const { bytes, segments } = this.#log.statistics()
    return { ...this.#log.status, bytes, segments }
  }

  async close(): Promise<void> {
    try {
      await this.#log.close()
    } finally {
      this.#onClosed()
    }
  }
}
