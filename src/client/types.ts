/** The public forms of the client library. docs/PROTOCOL.md is what happens beneath it. */
import type { TidelogError } from '../errors.ts'
import type { ConnectionClock } from '../protocol/clock.ts'

/** What is appended. */
export interface AppendRecord {
  /**
   * 0 (the default): an application record, opaque. Milvus's numbers mean what they mean there; 32,768 and up are free
   * for users. 1, 4, 10, 900, 901, 902 and 999 are not for clients: INVALID_ARGUMENT.
   */
  type?: number | undefined
  /** String to string, UTF-8. Keys that begin with `_` belong to the node: INVALID_ARGUMENT. */
  properties?: Readonly<Record<string, string>> | undefined
  /** Not copied: it must not change until the append has settled. Empty when left out; null is another thing than empty. */
  payload?: Uint8Array | null | undefined
}

export interface Appended {
  lsn: number
  timeTick: bigint
}

export interface AppendedBatch {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
}

export interface AppendOptions {
  /** "Not before": the record gets a greater tick. At most 10 s ahead of the node's: TICK_TOO_FAR_AHEAD. */
  barrierTick?: bigint | undefined
  /**
   * Before the record was sent it is not written: ABORTED with that outcome. Afterwards it is ABORTED with the outcome
   * `unknown`.
   */
  signal?: AbortSignal | undefined
}

/** A record as it is read. `payload` is a view of the frame it came in, valid as long as it is held. */
export interface ConsumedRecord {
  readonly vchannel: string
  /** Dense but for gaps within the vchannel's group; the numbers of other vchannels of the group lie between. */
  readonly lsn: number
  readonly timeTick: bigint
  readonly type: number
  readonly properties: Readonly<Record<string, string>>
  /** Empty when it is null. */
  readonly payload: Uint8Array
  readonly isNull: boolean
}

/** `lsn` and `timeTick`: at or after it. An LSN is one of the group of each vchannel. */
export type ConsumePosition = 'earliest' | 'latest' | { lsn: number } | { timeTick: bigint }

export interface ConsumeOptions {
  /** `earliest` when left out. */
  from?: ConsumePosition | undefined
  /** Ends when everything that was durable when the iteration began has been delivered. Otherwise it follows. */
  untilCaughtUp?: boolean | undefined
  /** Ends after so many records. */
  limit?: number | undefined
  /** Only these types. */
  types?: readonly number[] | undefined
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
  submitBatch(records: readonly AppendRecord[], options?: AppendOptions): Promise<BatchTicket>
  /** Settles when everything submitted so far has settled; rejects with the first failure since the last flush. */
  flush(): Promise<void>
  /** Waits for what was submitted, like `flush`, and refuses more. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface ClientVchannel {
  name: string
  /** Opaque. Vchannels of one group share LSNs and time ticks. */
  group: number
  createdMs: number
}

export interface ClientGroupStatus {
  group: number
  name: string
  state: 'healthy' | 'stalled' | 'failed' | 'idle'
  message: string
  ownerTerm: number
  firstLsn: number
  nextLsn: number
  watermark: bigint
  bytes: number
  segments: number
  vchannels: number
}

/** The room where the node keeps its logs. */
export interface ClientSpaceStatus {
  /** `refusing`: appends are refused with DISK_NEARLY_FULL until there is room. `unknown`: it cannot be told. */
  state: 'unknown' | 'ok' | 'warning' | 'refusing'
  message: string
  usedBytes: number | null
  freeBytes: number | null
  /** Appends and creations that were refused since the node's start. */
  refusals: number
}

export interface ClientStatus {
  /** What the node calls itself. */
  server: string
  groups: ClientGroupStatus[]
  /** Null: the node does not say. */
  space: ClientSpaceStatus | null
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
  /** One frame: all of it or nothing. LIMIT_EXCEEDED when it does not fit one (65,536 records, 64 MiB). */
  appendBatch(vchannel: string, records: readonly AppendRecord[], options?: AppendOptions): Promise<AppendedBatch>
  producer(vchannel: string): Promise<Producer>
  /** Nothing happens before the iteration begins. VCHANNEL_UNKNOWN for a vchannel that is not there. */
  consume(vchannels: string | readonly string[], options?: ConsumeOptions): RecordStream
  /** All, sorted by name. */
  vchannels(options?: RequestOptions): Promise<ClientVchannel[]>
  /** Throws VCHANNEL_UNKNOWN. */
  vchannel(name: string, options?: RequestOptions): Promise<ClientVchannel>
  /** Creates it if it is not there. */
  createVchannel(name: string, options?: RequestOptions): Promise<ClientVchannel>
  status(options?: RequestOptions): Promise<ClientStatus>
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
}

export interface ConnectionEvent {
  state: 'connected' | 'lost' | 'closed'
  error?: TidelogError<string> | undefined
}
