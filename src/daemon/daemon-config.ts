/** The configuration of a daemon. settings.ts says where each value comes from. */
import type { LogFormat, LogLevel } from '../observability/logger.ts'
import type { HostPort } from './units.ts'

/** The configuration of a daemon, checked. Null: switched off, or left to the daemon to find out. */
export interface DaemonConfig {
  /** Directory of the data, as given: relative to the working directory. */
  data: string
  listen: HostPort
  /** Path of the Unix socket. */
  socket: string | null
  http: HostPort | null
  /** Null: what the data directory has; 4 for a new one. */
  pchannels: number | null
  /** Null: what the probe of the device finds. */
  writeMode: 'dsync' | 'fdatasync' | null
  writeDepth: number | null
  durability: 'disk' | 'os'
  segmentBytes: number
  cacheBytes: number
  poolBytes: number
  queueBytes: number
  recordBytesMax: number
  /** Of each pchannel's log. */
  retentionBytes: number | null
  retentionAgeMs: number | null
  writeDeadlineMs: number
  recovery: 'tail' | 'strict'
  /** Of what can be used of the file system of the data; 100: never. */
  diskWarnPercent: number
  diskRefusePercent: number
  /** In the place of the percentage where it is given. */
  diskWarnFreeBytes: number | null
  diskRefuseFreeBytes: number | null
  timeTickIntervalMs: number
  /** Null: time ticks are not stored by themselves. */
  persistTicksMs: number | null
  compaction: 'on' | 'off'
  txnKeepaliveMs: number
  txnLifetimeMs: number
  txnBytesMax: number
  txnRecordsMax: number
  /** At once, of each pchannel. */
  txnOpenMax: number
  keyWindowMs: number
  /** Of each vchannel. */
  keyWindowBytes: number
  /** Of each pchannel, a second. */
  rateBytes: number | null
  /** Under way at once in each pchannel. */
  memoryBytes: number | null
  nodeRateBytes: number | null
  nodeMemoryBytes: number | null
  vchannelsMax: number
  connectionsMax: number
  drainTimeoutMs: number
  logLevel: LogLevel
  logFormat: LogFormat
}

export type ConfigKey = keyof DaemonConfig
