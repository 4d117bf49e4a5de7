/**
 * What a node does for its connections, whatever the protocol: the border between `connection/` (the framed protocol's
 * server side) and the node itself (pchannels, vchannel catalog).
 */
import type { SpaceStatus } from '../../native-free-storage/index.ts'
import type { EncodedBody, LogStore, StoreFailure } from '../log-store/log-store.ts'
import type { WireGroupStatus } from '../protocol/control-messages.ts'
import type {
  ProducerOpened,
  Throttle,
  TxnBegun,
  TxnEnded,
  WireProducer,
  WireTransaction,
} from '../protocol/wal-messages.ts'
import type { UnitResult } from '../wal/pipeline/interceptor.ts'

export interface VchannelInfo {
  name: string
  /** Number of the pchannel. Clients treat it as an opaque group: what shares a group may share a frame. */
  group: number
  createdMs: number
}

export interface GroupStatus extends WireGroupStatus {
  /** Of a failed one, where the store can tell. */
  failure?: StoreFailure | null
}

export interface AppendBodyOptions {
  /** 0n: none. */
  barrierTick?: bigint
  /** 0n: not said. */
  firstTriedAt?: bigint
  /** Index, in its transaction, of the first record; null without one. */
  transactionIndex?: number | null
  signal?: AbortSignal
}

export interface PlacedAppend {
  /** Null: it has entered the queue of the log in the call. Else when it has, or never will. */
  entered: Promise<void> | null
  settled: Promise<UnitResult>
}

export type LogReader = Pick<LogStore, 'read' | 'firstLsn'>

export interface NodeService {
  /** Finds or creates: a new vchannel is durable in the catalog before this settles. VCHANNEL_UNKNOWN when absent and `create` is false. */
  resolve(vchannel: string, create: boolean): Promise<VchannelInfo>
  /** All, sorted by name. */
  vchannels(): readonly VchannelInfo[]
  /**
   * Every vchannel of the body must belong to the group: INVALID_BODY otherwise. Frames of a group are written in the
   * order in which they have entered. What can be refused without waiting (a body of another group, draining, a failed
   * log) is refused in the call itself or in the microtasks right behind it, so that no later frame of the producer
   * slips past.
   */
  append(group: number, body: EncodedBody, options: AppendBodyOptions): PlacedAppend
  /** `keepaliveMs` 0: the node's own. VCHANNEL_UNKNOWN, DRAINING, LIMIT_EXCEEDED, and what writing throws. */
  begin(vchannel: string, keepaliveMs: number): Promise<TxnBegun>
  /**
   * A repeat answers as the first did. `bodies`: what the client has sent in it; a commit is refused with
   * TRANSACTION_STATE when the node has another number. TRANSACTION_EXPIRED, TRANSACTION_ABORTED.
   */
  end(group: number, transaction: number, options: { commit: boolean; bodies: number }): Promise<TxnEnded>
  /** Open ones. */
  transactions(): readonly WireTransaction[]
  /** `epoch` null: a new one begins. PRODUCER_FENCED when it is not the newest, PRODUCER_UNKNOWN. */
  openProducer(vchannel: string, id: string, epoch: number | null): Promise<ProducerOpened>
  producers(): readonly WireProducer[]
  /** The watermark, once it is at or above `atLeast`. ABORTED. */
  confirmed(group: number, atLeast: bigint, signal: AbortSignal): Promise<bigint>
  /** What the group takes; null where there is no such group. */
  throttle(group: number): Throttle | null
  /** Told of each change; gives what ends it. */
  onThrottle(listener: (throttle: Throttle) => void): () => void
  /** The log of the group, for reading alone. */
  reader(group: number): LogReader
  /** One above the last durable LSN of the group. Throws why, as `firstLsn` does, where its log could not be opened. */
  nextLsn(group: number): number
  /** Settles when `nextLsn`, `firstLsn` or the state of the group has changed since the call (the store's `changed`). */
  changed(group: number): Promise<void>
  firstLsn(group: number): number
  /** `shared`: what `sharedTick` gave before, for a group in which nothing is under way; no tick is taken for it then. */
  watermark(group: number, shared?: bigint): bigint
  /** As `LogStore.stirs`: NaN where the group's log cannot say. */
  stirs(group: number): number
  /** Counts up with the stirs of any group; NaN where that is not known. */
  readonly anyStirs: number
  /** A fresh tick of the clock that all groups share; 0n where there is none at the moment. */
  sharedTick(): bigint
  status(): readonly GroupStatus[]
  /** The room where the logs are kept; null where nobody watches it. */
  space(): SpaceStatus | null
  /** Truncates the log of the pchannel on which the vchannel lives: every vchannel there loses what is below. */
  truncateBefore(vchannel: string, lsn: number): Promise<{ firstLsn: number }>
  /** False while draining: new writes get DRAINING, retriable, not written. */
  readonly accepting: boolean
  readonly timeTickIntervalMs: number
}
