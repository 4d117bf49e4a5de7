/** Where a scan starts and goes on. */
import { TidelogError } from '../../errors.ts'
import type { LogStore, StorePosition } from '../../log-store/log-store.ts'
import type { ScanFrom, ScanPosition } from '../types.ts'

/** A start, resolved against the log as it is now. */
export interface ScanStart {
  /** What the store is asked for. */
  readonly from: StorePosition
  /** Nothing below is delivered; null where only a tick is known. */
  readonly lsn: number | null
  /** Nothing with a smaller tick is delivered. */
  readonly timeTick: bigint
  /** Messages that are left out of a transaction that was committed at `lsn`. */
  readonly skip: number
  /** It was not said where to begin: what was truncated away is not missed. */
  readonly anywhere: boolean
}

const TEXT = /^(0|[1-9][0-9]{0,15})(?:\+([1-9][0-9]{0,15}))?$/

/** `1234`, or `1234+5` behind the fifth message of the transaction that was committed at LSN 1,234. */
export function formatPosition({ lsn, skip = 0 }: ScanPosition): string {
  return skip === 0 ? `${lsn}` : `${lsn}+${skip}`
}

/** Undefined for what `formatPosition` has not made. */
export function parsePosition(text: string): ScanPosition | undefined {
  const match = TEXT.exec(text)
  if (match === null) return undefined
  const lsn = Number(match[1])
  const skip = match[2] === undefined ? 0 : Number(match[2])
  if (!Number.isSafeInteger(lsn) || !Number.isSafeInteger(skip)) return undefined
  return skip === 0 ? { lsn } : { lsn, skip }
}

/** `minTick`: of the filters. INVALID_ARGUMENT for what is no start. */
export function resolveStart(store: LogStore, from: ScanFrom, minTick: bigint): ScanStart {
  const { firstLsn, nextLsn } = store
  if (from === 'earliest') {
    // The index of the log finds a tick faster than a reader does.
    const asked: StorePosition = minTick > 0n ? { timeTick: minTick } : 'earliest'
    return { from: asked, lsn: minTick > 0n ? null : firstLsn, timeTick: minTick, skip: 0, anywhere: true }
  }
  if (from === 'latest') {
    return { from: { lsn: nextLsn }, lsn: nextLsn, timeTick: minTick, skip: 0, anywhere: false }
  }
  if (typeof from === 'object' && from !== null) {
    if ('timeTick' in from && isTick(from.timeTick)) {
      const timeTick = from.timeTick > minTick ? from.timeTick : minTick
      return { from: { timeTick }, lsn: null, timeTick, skip: 0, anywhere: false }
    }
    if ('after' in from && isCount(from.after)) return at(from.after + 1, 0)
    if ('lsn' in from && isCount(from.lsn) && (from.skip === undefined || isCount(from.skip))) {
      return at(from.lsn, from.skip ?? 0)
    }
  }
  throw new TidelogError(
    'INVALID_ARGUMENT',
    "from: it can be 'earliest', 'latest', { lsn }, { lsn, skip }, { after } or { timeTick }, none of them below 0",
  )

  function at(lsn: number, skip: number): ScanStart {
    return { from: { lsn }, lsn, timeTick: minTick, skip, anywhere: false }
  }
}

export function isTick(value: unknown): value is bigint {
  return typeof value === 'bigint' && value >= 0n && value < 2n ** 64n
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
