/** What a client is told about the node. */

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
  /** Open ones. */
  transactions: number
  /** As in `ThrottleEvent`. */
  throttle: 'ok' | 'slow' | 'refusing'
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

/** An open transaction of the node. Durations in milliseconds. */
export interface ClientTransactionStatus {
  transaction: number
  group: number
  vchannel: string
  state: 'open' | 'committing' | 'rolling-back'
  bodies: number
  bytes: number
  ageMs: number
  /** Until it expires. */
  leftMs: number
  keepaliveMs: number
}

export interface ClientProducerStatus {
  id: string
  vchannel: string
  group: number
  /** LSN of its first epoch: its number in the log. */
  producer: number
  epoch: number
  lastSequence: number
  lastLsn: number
  lastTimeTick: bigint
}
