/** The public forms of the client library. docs/PROTOCOL.md is what happens beneath it. */
import type { TidelogError } from '../errors.ts'
import type { ConnectionClock } from '../protocol/clock.ts'
import type { ClientProducerStatus, ClientStatus, ClientTransactionStatus, ClientVchannel } from './status-types.ts'

/** What is appended. */
export interface AppendRecord {
  /**
   * 0 (the default): an application record, opaque. Milvus's numbers mean what they mean there; 32,768 and up are free
   * for users. 1, 4, 10, 900, 901, 902, 999 and 16384 are not for clients: INVALID_ARGUMENT. One that is exclusive
   * (docs/MESSAGES.md) goes in a frame of its own, and ends the transactions that are open on its vchannel.
   */
  type?: number | undefined
  /** Of a type that has one: the fields of Milvus's header, in its spelling. INVALID_ARGUMENT for a wrong one. */
  header?: Readonly<Record<string, unknown>> | undefined
  /** String to string, UTF-8. Keys that begin with `_` belong to the node: INVALID_ARGUMENT. */
  properties?: Readonly<Record<string, string>> | undefined
  /** Not copied: it must not change until the append has settled. Empty when left out; null is another thing than empty. */
  payload?: Uint8Array | null | undefined
}

export interface Appended {
  lsn: number
  /** In a transaction: of the record itself; readers are given the commit's. */
  timeTick: bigint
  /** It was in the log before: LSN and tick are those of the first time. */
  duplicate: boolean
}

export interface AppendedBatch {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
  /** It was in the log before. */
  duplicate: boolean
  /**
   * It did not fit one frame and was written as a transaction with this id. Other records may then stand between its
   * own, and both ticks are the commit's. Null: one frame.
   */
  transaction: number | null
}

export interface BatchOptions {
  /** "Not before": the record gets a greater tick. At most 10 s ahead of the node's: TICK_TOO_FAR_AHEAD. */
  barrierTick?: bigint | undefined
  /**
   * Before the record was sent it is not written: ABORTED with that outcome. Afterwards it is ABORTED with the outcome
   * `unknown`.
   */
  signal?: AbortSignal | undefined
}

export interface AppendOptions extends BatchOptions {
  /**
   * 1 to 256 bytes of UTF-8: a record with the same key on the same vchannel is written once, and a repeat is answered
   * as the first was, as long as the node knows the key (docs/DEDUPLICATION.md). An answer that was lost is no
   * `unknown` then: the record is sent again until it is answered or its time is over.
   */
  idempotencyKey?: string | undefined
  /**
   * A tick that the caller knew when it first tried this key, in an earlier call: KEY_FORGOTTEN when the node no longer
   * knows the keys of that time. Without it a key that is not known counts as new.
   */
  firstTriedAt?: bigint | undefined
}

/** A record as it is read. `payload` is a view of the frame it came in, valid as long as it is held. */
export interface ConsumedRecord {
  readonly vchannel: string
  /** Dense but for gaps within the vchannel's group; the numbers of other vchannels of the group lie between. */
  readonly lsn: number
  /** Of a record in a transaction: the commit's. */
  readonly timeTick: bigint
  readonly type: number
  /** Decoded at each look; undefined for a record without one. Throws FRAME_DAMAGED. */
  readonly header: Readonly<Record<string, unknown>> | undefined
  /** Without those of the node, whose names begin with `_`. */
  readonly properties: Readonly<Record<string, string>>
  /** Id of its transaction; null for a record by itself. */
  readonly transaction: number | null
  /** Where a consumer goes on that has this record: the value of `from`. Of the record's group. */
  readonly position: RecordPosition
  /** Empty when it is null. */
  readonly payload: Uint8Array
  readonly isNull: boolean
}

/**
 * Behind a record. `skip`: in the middle of a transaction that was committed at `lsn`, behind so many of its records of
 * the vchannels and types that were asked for.
 */
export interface RecordPosition {
  readonly lsn: number
  readonly skip?: number | undefined
}

/**
 * `lsn` and `timeTick`: at or after it; of a transaction its commit's count. An LSN is one of the group of each
 * vchannel.
 */
export type ConsumePosition = 'earliest' | 'latest' | RecordPosition | { timeTick: bigint }

export interface ConsumeOptions {
  /** `earliest` when left out. */
  from?: ConsumePosition | undefined
  /** Ends when everything that was durable when the iteration began has been delivered. Otherwise it follows. */
  untilCaughtUp?: boolean | undefined
  /** Ends after so many records. */
  limit?: number | undefined
  /** Only these types. */
  types?: readonly number[] | undefined
  /** Only what has a greater tick; of a transaction the commit's counts. */
  afterTick?: bigint | undefined
  /**
   * Told of the watermark as it rises: every record with a tick at or below it has been delivered before. Called
   * between two records. What it throws ends the iteration.
   */
  onTick?: ((timeTick: bigint) => void) | undefined
  /** At most one tick in so many milliseconds; as often as the node has it when left out. */
  ticksEveryMs?: number | undefined
  /** Ends the iteration: it throws ABORTED with the signal's reason as its cause. */
  signal?: AbortSignal | undefined
  /** Creates a vchannel that is unknown instead of throwing VCHANNEL_UNKNOWN. */
  create?: boolean | undefined
  /** Told of LSNs that a repair has left without records. */
  onGap?: ((gap: ConsumedGap) => void) | undefined
}

export interface ConsumedGap {
  group: number
  firstLsn: number
  count: number
  reason: 'void' | 'lost' | 'leased'
}

/** Iterate it once. Records of one group come in LSN order; those of several groups as they arrive. */
export interface RecordStream extends AsyncIterable<ConsumedRecord> {
  [Symbol.asyncIterator](): AsyncIterator<ConsumedRecord, undefined>
  /**
   * W: every record of these vchannels with a tick at or below W has been delivered by the iterator. 0n until it is
   * known. Never goes back.
   */
  watermark(): bigint
  /** Settles when the watermark has reached `tick`, while the iteration goes on; rejects when that ends before. */
  reached(tick: bigint, options?: { signal?: AbortSignal }): Promise<void>
}

/** What `submit` gives: the record is on its way. */
export interface Ticket {
  /**
   * Settles when the record is durable; rejects with a TidelogError whose `outcome` says whether it was written. Not
   * looking at it is no unhandled rejection.
   */
  readonly acknowledged: Promise<Appended>
}

export interface BatchTicket {
  readonly acknowledged: Promise<AppendedBatch>
}

/**
 * Pipelining in order on one vchannel. When a record fails for good (its promise rejects), every later one that had
 * been submitted by then fails too: those that were not sent, or were refused, with FAILED_BEFORE, not written, in
 * order. What is submitted after that goes on as if nothing had happened.
 */
export interface Producer {
  readonly vchannel: string
  /** Settles as soon as there is room for one more: await it, and memory stays bounded. Rejects for a bad argument. */
  submit(record: AppendRecord, options?: AppendOptions): Promise<Ticket>
  /** A batch is one frame: all of it or nothing. */
  submitBatch(records: readonly AppendRecord[], options?: BatchOptions): Promise<BatchTicket>
  /** Settles when everything submitted so far has settled; rejects with the first failure since the last flush. */
  flush(): Promise<void>
  /** Waits for what was submitted, like `flush`, and refuses more. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface ProducerOptions {
  /**
   * 1 to 255 bytes of UTF-8, with the vchannel the identity of the producer: its records are written exactly once, over
   * lost connections, restarts of the node and of the caller. Opening it begins a new epoch and fences older ones.
   */
  id: string
  signal?: AbortSignal | undefined
}

export interface SequencedAppend extends Appended {
  /** Of the record, from 1 on. */
  sequence: number
}

/**
 * A producer with an identity. Frames that were sent are kept until they are answered, and sent again as they were. It
 * ends when it cannot know any more what became of a record: PRODUCER_FENCED when another one was opened with its id,
 * TIMEOUT with the outcome `unknown`. Open it again then: `lastSequence` says what is in the log.
 */
export interface IdentifiedProducer extends Producer {
  readonly id: string
  readonly epoch: number
  /** Of the last record that is known to be in the log; 0 when there is none. */
  readonly lastSequence: number
  /**
   * The node has lost what it knew of producers before this one was opened, and does not know this one: records of it
   * may be in the log, and `lastSequence` does not count them.
   */
  readonly windowLost: boolean
  /**
   * Settles when the record is durable. `sequence`: one more than the last one when left out; one that was used before is
   * a repeat, answered as the first was (SEQUENCE_FORGOTTEN for one of long ago); one beyond the next is SEQUENCE_GAP.
   */
  append(
    record: AppendRecord,
    options?: { sequence?: number | undefined; signal?: AbortSignal | undefined },
  ): Promise<SequencedAppend>
}

export interface TransactionOptions {
  /** Without an append for so long the node rolls it back; the node's own (10,000) when left out. */
  keepaliveMs?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * An open transaction on one vchannel: what is appended is durable when `append` settles, and visible by the commit, all
 * of it or nothing. It outlives a lost connection, and not a restart of the node. The first append that fails ends it.
 */
export interface Transaction {
  /** LSN of its begin. */
  readonly id: number
  readonly vchannel: string
  readonly keepaliveMs: number
  append(record: AppendRecord): Promise<Appended>
  /** Settles as soon as there is room for one more: await it, and memory stays bounded. Rejects for a bad argument. */
  submit(record: AppendRecord): Promise<Ticket>
  /** As many frames as it takes. */
  appendBatch(records: readonly AppendRecord[]): Promise<AppendedBatch>
  /**
   * Waits for the appends before it. TRANSACTION_ABORTED and TRANSACTION_EXPIRED say that nothing of it is or will be
   * visible; TIMEOUT with the outcome `unknown` that nobody knows yet. A second call is answered as the first.
   */
  commit(): Promise<{ lsn: number; timeTick: bigint }>
  /** Nothing of it becomes visible. TRANSACTION_STATE after a commit. A second call is answered as the first. */
  rollback(): Promise<void>
  /** Rolls back what was not committed; never rejects. */
  [Symbol.asyncDispose](): Promise<void>
}

/** What a group takes at present: `submit` waits longer while it is not `ok`. */
export interface ThrottleEvent {
  group: number
  state: 'ok' | 'slow' | 'refusing'
  /** 0: not limited. */
  bytesPerSecond: number
}

export interface ConfirmedOptions {
  /** Waits until the watermark is at or above it; at once when left out. */
  atLeast?: bigint | undefined
  /** TIMEOUT after so long; the client's `requestTimeoutMs` when left out. */
  timeoutMs?: number | undefined
  signal?: AbortSignal | undefined
}

export interface RequestOptions {
  signal?: AbortSignal | undefined
}

export interface Client {
  readonly address: string
  /** What the node said last: the most bytes of payload and properties of a record. */
  readonly recordBytesMax: number
  /** Settles when the record is durable. Concurrent calls are gathered into frames. Creates the vchannel if it is new. */
  append(vchannel: string, record: AppendRecord, options?: AppendOptions): Promise<Appended>
  /** All of it or nothing: one frame, or a transaction when it does not fit one (65,536 records, 64 MiB). */
  appendBatch(vchannel: string, records: readonly AppendRecord[], options?: BatchOptions): Promise<AppendedBatch>
  producer(vchannel: string): Promise<Producer>
  producer(vchannel: string, options: ProducerOptions): Promise<IdentifiedProducer>
  /** Begins a transaction. Creates the vchannel if it is new. */
  begin(vchannel: string, options?: TransactionOptions): Promise<Transaction>
  /**
   * The watermark of the vchannel's group: every record with a tick at or below it is durable and readable, and none
   * will be written any more. VCHANNEL_UNKNOWN.
   */
  confirmed(vchannel: string, options?: ConfirmedOptions): Promise<bigint>
  /** Nothing happens before the iteration begins. VCHANNEL_UNKNOWN for a vchannel that is not there. */
  consume(vchannels: string | readonly string[], options?: ConsumeOptions): RecordStream
  /** All, sorted by name. */
  vchannels(options?: RequestOptions): Promise<ClientVchannel[]>
  /** Throws VCHANNEL_UNKNOWN. */
  vchannel(name: string, options?: RequestOptions): Promise<ClientVchannel>
  /** Creates it if it is not there. */
  createVchannel(name: string, options?: RequestOptions): Promise<ClientVchannel>
  status(options?: RequestOptions): Promise<ClientStatus>
  /** Those that are open, of the whole node. */
  transactions(options?: RequestOptions): Promise<ClientTransactionStatus[]>
  /** Those that the node knows. */
  producers(options?: RequestOptions): Promise<ClientProducerStatus[]>
  /** Lets everything below `lsn` go in the whole group of the vchannel. */
  truncate(vchannel: string, lsn: number, options?: RequestOptions): Promise<{ firstLsn: number }>
  /** Waits for the appends under way, at most `closeTimeoutMs`, ends the consumers, settles everything. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Every duration in milliseconds. */
export interface ClientOptions {
  /** What the node's log calls this client. */
  name?: string | undefined
  /** For one attempt to connect, with the hello; the default is 5,000. */
  connectTimeoutMs?: number | undefined
  /** `connect` tries again for so long while nobody listens; the default is 0: SERVER_UNREACHABLE at once. */
  waitForServerMs?: number | undefined
  /** How long a lost connection is tried again before those who wait for it are given up; the default is 60,000. */
  reconnectTimeoutMs?: number | undefined
  /** From an append's call to its end, resending included; the default is 30,000. Then TIMEOUT, with the outcome. */
  appendTimeoutMs?: number | undefined
  /** For every other request; the default is 30,000. */
  requestTimeoutMs?: number | undefined
  /** The default is 10,000. */
  closeTimeoutMs?: number | undefined
  /** The first wait of the backoff, doubled up to `backoffMaxMs`, each with jitter; the defaults are 50 and 5,000. */
  backoffMs?: number | undefined
  backoffMaxMs?: number | undefined
  /** `submit` waits while so many bytes are on their way; the default is 16 MiB. */
  submitBytes?: number | undefined
  /** Appends beyond so many bytes on their way are refused with QUEUE_FULL; the default is 256 MiB. */
  queueBytes?: number | undefined
  /** Bytes of frames that a consumer holds at most, plus one frame a group; the default is 8 MiB. */
  consumeBytes?: number | undefined
  /** A signal of life is asked for after so long without any; the default is 15,000. */
  pingIntervalMs?: number | undefined
  /** Time and timers; the system's when left out. */
  clock?: ConnectionClock | undefined
  /** Random numbers from 0 to below 1, for the jitter. */
  random?: (() => number) | undefined
  /** Called on each change: for logs and tests. */
  onConnection?: ((event: ConnectionEvent) => void) | undefined
  /** Called when the node says that a group takes less, or everything again. */
  onThrottle?: ((event: ThrottleEvent) => void) | undefined
}

export interface ConnectionEvent {
  state: 'connected' | 'lost' | 'closed'
  error?: TidelogError<string> | undefined
}
