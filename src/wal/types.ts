/** The public forms of an embedded WAL (`tidelog/wal`). Durations in milliseconds, sizes in bytes. */
import type { StorageErrorCode, TidelogError } from '../../native-free-storage/index.ts'
import type { ServiceErrorCode } from '../errors.ts'

/** What is to be appended. */
export interface MutableMessage {
  /** 1 to 255 bytes of UTF-8. Empty for exclusive messages of the whole pchannel alone (FlushAll, for example). */
  vchannel: string
  /** 0 when left out: an application's record. See `MessageType`. */
  type?: number | undefined
  /** Of a type that has one: the fields of Milvus's header, in its spelling. */
  header?: Readonly<Record<string, unknown>> | undefined
  /** String to string. Names that begin with `_` are the node's: INVALID_ARGUMENT. */
  properties?: Readonly<Record<string, string>> | undefined
  /** Not copied: it must not change until the append has settled. Null is another thing than empty. */
  payload?: Uint8Array | null | undefined
}

export interface WalAppendOptions {
  /** "Not before": the message gets a greater tick. At most 10 s ahead: TICK_TOO_FAR_AHEAD. */
  barrierTick?: bigint | undefined
  /** 1 to 256 bytes of UTF-8: a repeat on the same vchannel answers as the first did. */
  idempotencyKey?: string | undefined
  /** A tick that the caller knew when it first tried the key: KEY_FORGOTTEN when it lies before the horizon. */
  firstTriedAt?: bigint | undefined
  signal?: AbortSignal | undefined
}

export interface WalAppended {
  lsn: number
  timeTick: bigint
  /** It was in the log before: LSN and tick are those of the first. */
  duplicate: boolean
}

export interface WalAppendedBatch {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
  duplicate: boolean
}

/** A message as it was read. */
export interface ImmutableMessage {
  readonly lsn: number
  readonly timeTick: bigint
  readonly vchannel: string
  readonly type: number
  /** Decoded at the first look; undefined for a type without one. */
  readonly header: Readonly<Record<string, unknown>> | undefined
  /** Without those of the node. */
  readonly properties: Readonly<Record<string, string>>
  /** A view; must not be written to. Empty when it is null. */
  readonly payload: Uint8Array
  readonly isNull: boolean
  /** The message's place as text: `messageIdOf`, `parseMessageId`. */
  readonly id: string
}

export interface ScannedMessage extends ImmutableMessage {
  readonly kind: 'message'
  /** Where a scan goes on that has taken it. */
  readonly position: ScanPosition
  /** Everything with a greater tick than this message's is read by a scan that starts here. */
  readonly lastConfirmed: ScanPosition
}

/** A transaction, as one unit, at its commit's place. */
export interface ScannedTransaction {
  readonly kind: 'txn'
  /** Of the commit. */
  readonly lsn: number
  readonly timeTick: bigint
  readonly vchannel: string
  /** LSN of its begin, which is its id. */
  readonly transaction: number
  /** In the order in which they were appended, each with its own LSN and the commit's tick. */
  readonly messages: readonly ImmutableMessage[]
  readonly position: ScanPosition
  readonly lastConfirmed: ScanPosition
}

/** Every message with a tick at or below it that was asked for has been given. Only with `ticks`. */
export interface ScannedTick {
  readonly kind: 'tick'
  readonly timeTick: bigint
}

export type ScanItem = ScannedMessage | ScannedTransaction | ScannedTick

/** Where a scan goes on: at `lsn`, without the first `skip` messages of a transaction that was committed there. */
export interface ScanPosition {
  readonly lsn: number
  readonly skip?: number | undefined
}

/** `latest`: what comes from now on. `after`: start-after. LSNs and ticks of a transaction are those of its commit. */
export type ScanFrom = 'earliest' | 'latest' | ScanPosition | { readonly after: number } | { readonly timeTick: bigint }

export interface ScanOptions {
  /** `earliest` when left out. POSITION_TRUNCATED, with the first LSN that is left, when it was truncated away. */
  from?: ScanFrom | undefined
  /** All when left out. Messages of the empty name belong to every vchannel. */
  vchannels?: readonly string[] | undefined
  types?: readonly number[] | undefined
  /** Only what has a greater tick. */
  afterTick?: bigint | undefined
  /** Only what has this tick or a greater one. */
  fromTick?: bigint | undefined
  /** Gives ticks too: true, or at most one in so many milliseconds. */
  ticks?: boolean | { everyMs: number } | undefined
  /** Goes on past the end. Without it the scan ends at what was durable when it began. */
  follow?: boolean | undefined
  signal?: AbortSignal | undefined
  /** Bytes of open transactions that are kept in memory; the others are read again at their commit. Default 16 MiB. */
  transactionBytes?: number | undefined
  /** Told of LSNs that a repair has left without records. */
  onGap?: ((gap: { firstLsn: number; count: number; reason: 'void' | 'lost' | 'leased' }) => void) | undefined
}

/** Iterate it once. Order is tick order; TICK_ORDER ends it otherwise. */
export interface Scan extends AsyncIterableIterator<ScanItem, undefined> {
  /** Nothing more is given until `resume`; `next` waits. */
  pause(): void
  resume(): void
  return(): Promise<IteratorResult<ScanItem, undefined>>
}

/** What an interceptor is told about the append. */
export interface AppendContext {
  /** Shared by the messages of one batch. */
  readonly batchSize: number
  readonly index: number
  readonly barrierTick: bigint
}

/**
 * A user's own part of the append pipeline. `beforeAppend` may change the message (before it is encoded), and refuses
 * it by throwing: the append rejects with that error, and nothing of its batch is written. A promise is waited for.
 * `afterAppend` is called in LSN order, once the message is durable; what it throws goes to `onInterceptorError` and
 * changes nothing.
 */
export interface UserInterceptor {
  readonly name: string
  beforeAppend?(message: MutableMessage, context: AppendContext): void | Promise<void>
  afterAppend?(message: MutableMessage, result: WalAppended): void
}

export interface TxnOptions {
  /** Without an append for so long it is rolled back. Default 10,000; at least 1. */
  keepaliveMs?: number | undefined
  signal?: AbortSignal | undefined
}

/** An open transaction on one vchannel. */
export interface WalTxn extends AsyncDisposable {
  /** LSN of its begin. */
  readonly id: number
  readonly vchannel: string
  /** The message has no vchannel of its own, or that of the transaction. Settles when it is durable; invisible until the commit. */
  append(message: Omit<MutableMessage, 'vchannel'> & { vchannel?: string }): Promise<WalAppended>
  /** Waits for the appends before it. A repeated commit answers as the first did. */
  commit(): Promise<{ lsn: number; timeTick: bigint }>
  /** Nothing of it becomes visible. Idempotent. */
  rollback(): Promise<void>
}

export interface WalProducer {
  readonly id: string
  readonly vchannel: string
  readonly epoch: number
  /** Of the last record that is known to be in the log; 0 when there is none. */
  readonly lastSequence: number
  /** The state of the WAL was lost: what was written under this id before is not known, and the next sequence is believed. */
  readonly windowLost: boolean
  /** `sequence`: one more than the last one when left out. */
  append(
    message: Omit<MutableMessage, 'vchannel'>,
    options?: { sequence?: number; signal?: AbortSignal },
  ): Promise<WalAppended & { sequence: number }>
}

export interface TransactionStatus {
  readonly transaction: number
  readonly vchannel: string
  readonly state: 'open' | 'committing' | 'rolling-back'
  readonly bodies: number
  readonly bytes: number
  readonly ageMs: number
  /** Until it expires. */
  readonly leftMs: number
  readonly keepaliveMs: number
}

export interface ProducerStatus {
  readonly id: string
  readonly vchannel: string
  /** LSN of its first epoch's record: its number in the log. */
  readonly producer: number
  readonly epoch: number
  readonly lastSequence: number
  readonly lastLsn: number
  readonly lastTimeTick: bigint
}

export type WalError = TidelogError<StorageErrorCode | ServiceErrorCode>
