/**
 * Where a pchannel keeps its frames. The engine (`local.ts`) is the first implementation, `memory.ts` the second;
 * message queues and object storage follow behind the same port. Positions are the store's own; LSNs and ticks are in
 * the frames; nothing above this port knows a file. Every implementation passes `test/conformance/log-store.ts`.
 */
import type { Admit, BodyHead, RecordInput } from '../../native-free-storage/index.ts'

export interface LogStoreRecord {
  readonly lsn: number
  readonly timeTick: bigint
  readonly vchannel: string
  readonly type: number
  readonly properties: Readonly<Record<string, string>>
  readonly payload: Uint8Array
}

/** A frame as it is read: its body is as the producer encoded it, sections that were not asked for left out. */
export interface StoreFrame extends Iterable<LogStoreRecord> {
  readonly kind: 'records' | 'gap' | 'tick'
  /** What a reader that wants the next frame passes as `from`: opaque to everything above the store. */
  readonly next: StorePosition
  readonly baseLsn: number
  readonly lastLsn: number
  readonly baseTimeTick: bigint
  readonly lastTimeTick: bigint
  readonly recordCount: number
  readonly gap: { firstLsn: number; count: number; reason: 'void' | 'lost' | 'leased' } | null
  /** The verified head of the body (directory, names, table); null where there is no body. */
  readonly head: BodyHead | null
  readonly bodyHash: bigint
  readonly bodyLength: number
  /** Stored bytes of section i without padding; null when it was not read. */
  section(index: number): Uint8Array | null
  readonly nodeSection: Uint8Array
  readonly nodeHash: bigint
}

/** A position in the store's own terms. `lsn` is understood by every store. */
export type StorePosition = 'earliest' | 'latest' | { lsn: number } | { timeTick: bigint }

export interface AppendedRange {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
}

/** A body that was received: its bytes, its hash, and the head that proves that every row was checked. */
export interface EncodedBody {
  bytes: Buffer
  hash: bigint
  head: BodyHead
}

export interface StoreAppendOptions {
  /** The first tick of the frame is not below it. At most 10 s ahead of the clock: TICK_TOO_FAR_AHEAD. */
  barrierTick?: bigint | undefined
  /** Ends a wait for room in the queue. */
  signal?: AbortSignal | undefined
  /**
   * The last question, in the turn of the frame's LSN: null means that it is placed. An error refuses it, and it takes
   * no LSN. Must not throw, nor call the store.
   */
  admit?: Admit | undefined
}

export interface StoreAppendBodyOptions extends StoreAppendOptions {
  /** Indexes of records that keep their LSN and tick and are skipped by readers. */
  voids?: readonly number[] | undefined
}

export interface StoreAppendRecordsOptions extends StoreAppendOptions {
  /** Encoded contexts, which the records name by their `contextIndex`. */
  contexts?: readonly Uint8Array[] | undefined
  /** A single record may share a frame with other callers' unless this, `admit` or `contexts` is given. */
  ownFrame?: boolean | undefined
}

export interface LogStoreReadOptions {
  from: StorePosition
  /** All when left out. The empty name's records belong to every vchannel. */
  vchannels?: readonly string[]
  types?: readonly number[]
  /** Goes on past the end, pushed; without it the read ends at what was durable when it began. */
  follow?: boolean
  signal?: AbortSignal
}

export interface LogStoreStatus {
  state: 'healthy' | 'stalled' | 'failed' | 'idle'
  /** In words, for people: why it is stalled or failed. */
  message: string
  bytes: number
  segments: number
  /** Of a failed one, where the store can tell. */
  failure?: StoreFailure | null
}

export interface StoreFailure {
  code: string
  /** Milliseconds since 1970. */
  sinceMs: number
  /** The operation that failed (`write`, `sync`, ...), its file, and the name of its errno, where it was one. */
  operation: string | null
  file: string | null
  errno: string | null
}

/** State of a log's user, kept beside its log: each snapshot stands behind an LSN. The newest two are kept. */
export interface SnapshotStore {
  /** Those that are whole and fit the log as it is now, newest first. */
  load(): Promise<{ readonly lsn: number; readonly bytes: Buffer }[]>
  /**
   * Durable when it settles. A durable frame ends before `lsn`, or it is 0. LIMIT_EXCEEDED above 256 MiB. `forRoom`: a
   * truncation that makes room waits for it, so that on a full disk it may have what is kept for such steps.
   */
  save(lsn: number, bytes: Uint8Array, options?: { forRoom?: boolean }): Promise<void>
}

/** One pchannel's frames, opened for writing at an owner term. */
export interface LogStore {
  readonly ownerTerm: number
  /** The first LSN that can be read. */
  readonly firstLsn: number
  /** One above the last durable LSN. */
  readonly nextLsn: number
  /**
   * T: every record with a tick at or below T is durable and readable, and none will come. A fresh tick when nothing
   * is queued or in flight: `shared` in its place where it is above 0, a tick that the opener's `sharedTick` gave at any
   * time before. Never goes back.
   */
  watermark(shared?: bigint): bigint
  /**
   * Counts up whenever frames get their ticks, and when the log ends: as long as it stands still, a log whose watermark
   * was the `shared` tick of one moment has that of every later one too, and its end has not moved. Left out by stores
   * that cannot say.
   */
  readonly stirs?: number
  /** Settles when `nextLsn`, `firstLsn` or the state has changed since the call. */
  changed(): Promise<void>
  /**
   * Appends one frame with the body as it is. Rejects with a TidelogError whose `outcome` says `not-written` or
   * `unknown`. Waits while the queue is full, with a bound. Frames get their LSNs in the order of the calls, of this
   * and of `appendRecords`, and settle in that order.
   */
  append(body: EncodedBody, options?: StoreAppendBodyOptions): Promise<AppendedRange>
  /**
   * Encodes and appends records of this process: several are one frame. Payloads must not change until it settles.
   * Errors as of `append`, and INVALID_ARGUMENT, LIMIT_EXCEEDED.
   */
  appendRecords(records: readonly RecordInput[], options?: StoreAppendRecordsOptions): Promise<AppendedRange>
  /**
   * Stores a time tick behind everything that was appended before, for whoever reads what the store keeps; settles with
   * it when it is durable. Errors as `append`. Left out where nothing is kept that others could read.
   */
  appendTick?(): Promise<bigint>
  read(options: LogStoreReadOptions): AsyncIterable<StoreFrame>
  /** Nothing below `lsn` is needed any more. Idempotent; never removes anything at or above it. */
  truncateBefore(lsn: number): Promise<void>
  /**
   * Neither `truncateBefore` nor retention goes beyond what `floor` answers for the LSN that it was to go to. It must not
   * throw. Null: no bound but that LSN.
   */
  setTruncationFloor(floor: ((lsn: number) => number) | null): void
  readonly snapshots: SnapshotStore
  status(): LogStoreStatus
  /** Settles every append, makes the end provable, releases the directory. Idempotent. */
  close(): Promise<void>
}

/** Opens the log of a pchannel at an owner term, which fences every older one: TERM_STALE when a newer one was there. */
export interface LogStoreOpener {
  /**
   * `mustExist`: records may have been acknowledged in this log, so that one that is not there is LOG_MISSING, and no new
   * one is begun in its place, which would give its LSNs again. Stores that keep nothing need not look at it.
   */
  open(pchannel: string, ownerTerm: number, options?: { mustExist?: boolean }): Promise<LogStore>
  /** A fresh tick of the one clock of all logs that this opener opens; 0n where none can be given at the moment. */
  sharedTick?(): bigint
  /** Counts up with the `stirs` of any of these logs. Left out where it is not known. */
  readonly stirs?: number
}
