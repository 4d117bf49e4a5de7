/** What a reader asks for, checked. */
import { TidelogError } from '../errors.ts'
import { FRAME_BYTES_MAX } from '../format/frame-header.ts'
import { U64_MAX } from '../format/integers.ts'
import { vchannelNameFault } from '../format/vchannel-names.ts'
import { CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MIN } from '../segment/frame-stream.ts'

/** `latest`: behind the last record. `lsn`, `timeTick`: the first record at or after it. */
export type ReadFrom = 'earliest' | 'latest' | { readonly lsn: number } | { readonly timeTick: bigint }

export interface ReadOptions {
  /** `earliest` when it is left out. */
  from?: ReadFrom | undefined
  /** All when left out. Records of the empty name belong to every vchannel. */
  vchannels?: readonly string[] | undefined
  types?: readonly number[] | undefined
  /** Goes on past the end, pushed. Without it the read ends at what was durable when it was started. */
  follow?: boolean | undefined
  /** When it aborts, the read ends with ABORTED, whose `cause` is the signal's reason. */
  signal?: AbortSignal | undefined
  /** Of one read of a file (default 1 MiB, at least 64 KiB); two are in memory at a time. */
  readAheadBytes?: number | undefined
  /** Tells the reader of gaps of every reason, not just of lost records. */
  gaps?: boolean | undefined
  /** Gives stored time ticks too, as frames of kind `tick`. */
  ticks?: boolean | undefined
}

export interface CheckedReadOptions {
  readonly from: ReadFrom
  readonly vchannels: ReadonlySet<string> | null
  readonly types: ReadonlySet<number> | null
  readonly follow: boolean
  readonly signal: AbortSignal | undefined
  readonly chunkBytes: number
  readonly gaps: boolean
  readonly ticks: boolean
}

/** Throws INVALID_ARGUMENT. */
export function checkReadOptions(options: ReadOptions): CheckedReadOptions {
  const { from = 'earliest', vchannels, types, readAheadBytes = CHUNK_BYTES_DEFAULT } = options
  checkFrom(from)
  for (const name of vchannels ?? []) {
    const fault = name === '' ? 'it is empty' : vchannelNameFault(name)
    if (fault !== null) throw invalid(`vchannels: the name ${JSON.stringify(name)} is refused: ${fault}`)
  }
  for (const type of types ?? []) {
    if (!Number.isInteger(type) || type < 0 || type > 0xffff)
      throw invalid(`types: ${type} is not an integer from 0 to 65,535`)
  }
  if (!Number.isSafeInteger(readAheadBytes) || readAheadBytes < 1 || readAheadBytes > FRAME_BYTES_MAX) {
    throw invalid(`readAheadBytes: ${readAheadBytes} is not a number of bytes from 1 to ${FRAME_BYTES_MAX}`)
  }
  return {
    from,
    vchannels: vchannels === undefined ? null : new Set(vchannels),
    types: types === undefined ? null : new Set(types),
    follow: options.follow ?? false,
    signal: options.signal,
    chunkBytes: Math.max(CHUNK_BYTES_MIN, readAheadBytes),
    gaps: options.gaps ?? false,
    ticks: options.ticks ?? false,
  }
}

function checkFrom(from: ReadFrom): void {
  if (from === 'earliest' || from === 'latest') return
  if (typeof from === 'object' && from !== null) {
    if ('lsn' in from && Number.isSafeInteger(from.lsn) && from.lsn >= 0) return
    if ('timeTick' in from && typeof from.timeTick === 'bigint' && from.timeTick >= 0n && from.timeTick <= U64_MAX)
      return
  }
  throw invalid("from: it can be 'earliest', 'latest', { lsn: number } or { timeTick: bigint }, neither below 0")
}

function invalid(message: string): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', message)
}
