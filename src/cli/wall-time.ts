/** Wall time as people type it, and time ticks as people read them. */
import { usageError } from './usage-error.ts'

/** A time tick is milliseconds since 1970 shifted left by this, plus a logical counter. */
const logicalBits = 18n

const isoForm = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/

/**
 * Milliseconds since 1970 of an ISO 8601 date or time. A date alone is midnight UTC; a time without an offset is local
 * time. Null when it is not one, or names no real day.
 */
export function parseIsoTime(text: string): number | null {
  if (!isoForm.test(text)) return null
  const normal = text
    .replace(' ', 'T')
    .replace(',', '.')
    .replace(/([+-]\d{2})(\d{2})$/, (whole, hours: string, minutes: string) =>
      text.includes('T') || text.includes(' ') ? `${hours}:${minutes}` : whole,
    )
    .replace(/(\.\d{3})\d+/, '$1')
  const day = normal.slice(0, 10)
  const midnight = Date.parse(`${day}T00:00:00Z`)
  if (Number.isNaN(midnight) || !new Date(midnight).toISOString().startsWith(day)) return null
  const ms = Date.parse(normal)
  return Number.isNaN(ms) || ms < 0 ? null : ms
}

/** Like `parseIsoTime`; throws USAGE naming what it stands for. */
export function requireIsoTime(text: string, what: string): number {
  const ms = parseIsoTime(text)
  if (ms === null) {
    throw usageError(`${what} is ${JSON.stringify(text)}; it must be an ISO time such as 2026-01-31T12:00:00Z`)
  }
  return ms
}

/** The smallest time tick of the millisecond. */
export function tickOfMs(ms: number): bigint {
  return BigInt(Math.trunc(ms)) << logicalBits
}

/** Milliseconds since 1970 of a time tick. */
export function msOfTick(timeTick: bigint): number {
  return Number(timeTick >> logicalBits)
}

/** The wall time of a tick in ISO 8601 with milliseconds, UTC; empty for 0, which stands for "none". */
export function isoOfTick(timeTick: bigint): string {
  if (timeTick === 0n) return ''
  const ms = msOfTick(timeTick)
  return ms <= 8_640_000_000_000_000 ? new Date(ms).toISOString() : String(timeTick)
}
