/** What a log is opened with: defaults, bounds, and their check. */
import type { CacheBudget } from '../cache/frame-cache.ts'
import { type CheckedCompaction, type CompactionSettings, checkCompaction } from '../compaction/compaction-options.ts'
import type { WriteWay } from '../disk/write-probe.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import type { FilePool } from '../segment/file-pool.ts'
import { DEFAULT_SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN } from '../segment/segment-size.ts'
import type { TickOracle } from './tick-oracle.ts'

/** `disk`: synced before it is acknowledged. `os`: written; a crash of the machine can lose what was acknowledged. */
export type LogDurability = 'disk' | 'os'

export type RecoveryMode = 'tail' | 'strict'

export interface RetentionLimits {
  /** The log's files together; whole segments are removed from the front. Undefined: no bound. */
  bytes?: number | undefined
  /** A segment goes when its newest record is older. */
  ageMs?: number | undefined
}

export interface LogOptions {
  /** Full size of a log segment, 8 KiB to 1 GiB; default 64 MiB. The first files are smaller. */
  segmentBytes?: number | undefined
  /** Write-ahead cache; default 64 MiB. Not with `cache`. */
  cacheBytes?: number | undefined
  /** A cache shared with other logs. */
  cache?: CacheBudget | undefined
  /** A property of the log, fixed when it is created; default `disk`. INVALID_ARGUMENT when it differs. */
  durability?: LogDurability | undefined
  /** Reads what is there, beside a running writer up to the last proven position; changes nothing. */
  readOnly?: boolean | undefined
  /**
   * What an opening does with an end that the last writer left unfinished. `tail` (the default): keeps every whole frame,
   * and cuts what is torn, of which nothing was acknowledged. `strict`: refuses it (RECOVERY_REFUSED) before anything is
   * changed. A log that was closed, or idle when its process died, opens either way. At durability `os` only a log that
   * was closed is whole.
   */
  recovery?: RecoveryMode | undefined
  /** The owner term, given from outside; TERM_STALE when the log has seen a greater one. Default: the log's own. */
  ownerTerm?: number | undefined
  /** Ticks shared with other logs; default: the log's own, its lease kept in its directory. */
  ticks?: TickOracle | undefined
  /** Prepared files shared with other logs; default: the log's own. */
  pool?: FilePool | undefined
  /** How flushes are written; default: what the probe of this device found. */
  writeWay?: WriteWay | undefined
  writeMode?: 'dsync' | 'fdatasync' | undefined
  /** Synced writes in flight, 1 to 16. */
  writeDepth?: number | undefined
  /** Bound of the bytes that wait for the disk or are under way; default 64 MiB. */
  queueBytes?: number | undefined
  /** What `append` does when the queue is full: wait (default), or reject with QUEUE_FULL. */
  whenFull?: 'wait' | 'reject' | undefined
  /** Payload and properties of one record; default 16 MiB, at most 256 MiB. */
  recordBytesMax?: number | undefined
  /** A write that takes longer is given up: the log goes on in a new segment. Default 30,000. */
  writeDeadlineMs?: number | undefined
  retention?: RetentionLimits | undefined
  /**
   * Milliseconds, 10 to 86,400,000: a time tick is stored when the log was idle for so long, and again each time that it
   * stays idle for so long. For whoever reads the files; it costs about 1 KiB each time. Default: none is stored.
   */
  persistTicksMs?: number | undefined
  /** Compaction of stored time ticks in the background; on by default (compaction/compaction-options.ts). */
  compaction?: CompactionSettings | undefined
  environment?: Environment | undefined
}

export const MIB = 1024 * 1024
export const RECORD_BYTES_DEFAULT = 16 * MIB
export const RECORD_BYTES_MAX = 256 * MIB
/** A frame of one caller's batch: its records together. */
export const FRAME_BODY_BYTES_MAX = 300 * MIB

export interface CheckedLogOptions {
  segmentBytes: number
  cacheBytes: number
  durability: LogDurability | undefined
  ownerTerm: number | undefined
  queueBytes: number
  whenFull: 'wait' | 'reject'
  recordBytesMax: number
  writeDeadlineMs: number
  writeDepth: number | undefined
  writeMode: 'dsync' | 'fdatasync' | undefined
  retention: RetentionLimits
  recovery: RecoveryMode
  persistTicksMs: number | undefined
  compaction: CheckedCompaction
}

export function checkLogOptions(options: LogOptions): CheckedLogOptions {
  return {
    segmentBytes: integer(
      'segmentBytes',
      options.segmentBytes,
      DEFAULT_SEGMENT_BYTES,
      SEGMENT_BYTES_MIN,
      SEGMENT_BYTES_MAX,
    ),
    cacheBytes: integer('cacheBytes', options.cacheBytes, 64 * MIB, 0, 64 * 1024 * MIB),
    durability: choice('durability', options.durability, ['disk', 'os'] as const),
    ownerTerm: options.ownerTerm === undefined ? undefined : integer('ownerTerm', options.ownerTerm, 0, 0, 0xffff_ffff),
    queueBytes: integer('queueBytes', options.queueBytes, 64 * MIB, 4096, 16 * 1024 * MIB),
    whenFull: choice('whenFull', options.whenFull, ['wait', 'reject'] as const) ?? 'wait',
    recordBytesMax: integer('recordBytesMax', options.recordBytesMax, RECORD_BYTES_DEFAULT, 1, RECORD_BYTES_MAX),
    writeDeadlineMs: integer('writeDeadlineMs', options.writeDeadlineMs, 30_000, 10, 3_600_000),
    writeDepth: options.writeDepth === undefined ? undefined : integer('writeDepth', options.writeDepth, 1, 1, 16),
    writeMode: choice('writeMode', options.writeMode, ['dsync', 'fdatasync'] as const),
    retention: checkRetention(options.retention ?? {}),
    recovery: choice('recovery', options.recovery, ['tail', 'strict'] as const) ?? 'tail',
    persistTicksMs:
      options.persistTicksMs === undefined
        ? undefined
        : integer('persistTicksMs', options.persistTicksMs, 0, 10, 86_400_000),
    compaction: checkCompaction(options.compaction ?? {}),
  }
}

export function checkRetention(retention: RetentionLimits): RetentionLimits {
  const { bytes, ageMs } = retention
  return {
    bytes: bytes === undefined ? undefined : integer('retention.bytes', bytes, 0, 0, Number.MAX_SAFE_INTEGER),
    ageMs: ageMs === undefined ? undefined : integer('retention.ageMs', ageMs, 0, 0, Number.MAX_SAFE_INTEGER),
  }
}

function integer(name: string, value: number | undefined, byDefault: number, least: number, most: number): number {
  if (value === undefined) return byDefault
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw new TidelogError('INVALID_ARGUMENT', `${name} is ${value}; it has to be an integer from ${least} to ${most}`)
  }
  return value
}

function choice<T extends string>(name: string, value: T | undefined, allowed: readonly T[]): T | undefined {
  if (value !== undefined && !allowed.includes(value)) {
    throw new TidelogError('INVALID_ARGUMENT', `${name} is "${value}"; it has to be one of ${allowed.join(', ')}`)
  }
  return value
}
