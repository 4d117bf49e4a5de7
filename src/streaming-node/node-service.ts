/**
 * What a node does for its connections, whatever the protocol: the border between `connection/` (the framed protocol's
 * server side) and the node itself (pchannels, vchannel catalog).
 */
import type { SpaceStatus } from '../../native-free-storage/index.ts'
import type { AppendedRange, EncodedBody, StoreFailure, StoreFrame, StorePosition } from '../log-store/log-store.ts'
import type { ThrottleState } from '../protocol/wal-messages.ts'

export interface VchannelInfo {
  name: string
  /** Number of the pchannel. Clients treat it as an opaque group: what shares a group may share a frame. */
  group: number
  createdMs: number
}

export interface GroupStatus {
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
  /** Open ones. */
  transactions: number
  throttle: ThrottleState
  /** Of a failed one, where the store can tell. */
  failure?: StoreFailure | null
}

export interface NodeService {
  /** Finds or creates: a new vchannel is durable in the catalog before this settles. VCHANNEL_UNKNOWN when absent and `create` is false. */
  resolve(vchannel: string, create: boolean): Promise<VchannelInfo>
  /** All, sorted by name. */
  vchannels(): readonly VchannelInfo[]
  /**
   * Every vchannel of the body must belong to the group: INVALID_BODY otherwise. Frames of a group are written in the
   * order of the calls. What can be refused without waiting (a body of another group, draining, a failed log) is refused
   * in the call itself or in the microtasks right behind it, so that no later frame of the producer slips past.
   */
  append(
    group: number,
    body: EncodedBody,
    options: { barrierTick?: bigint; signal?: AbortSignal },
  ): Promise<AppendedRange>
  read(
    group: number,
    options: {
      from: StorePosition
      vchannels: readonly string[]
      types?: readonly number[]
      follow: boolean
      signal: AbortSignal
    },
  ): AsyncIterable<StoreFrame>
  /** One above the last durable LSN of the group. Throws why, as `firstLsn` does, where its log could not be opened. */
  nextLsn(group: number): number
  /** Settles when `nextLsn`, `firstLsn` or the state of the group has changed since the call (the store's `changed`). */
  changed(group: number): Promise<void>
  firstLsn(group: number): number
  /** `shared`: what `sharedTick` gave before, for a group in which nothing is under way; no tick is taken for it then. */
  watermark(group: number, shared?: bigint): bigint
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
