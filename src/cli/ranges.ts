/** Ranges of `dump`: A..B with both ends in it, A.. and ..B open, A alone one value. */
import { parseCount, parseTick, usageError } from './usage-error.ts'
import { requireIsoTime, tickOfMs } from './wall-time.ts'

export interface LsnRange {
  from: number
  /** In the range. */
  to: number
}

export interface TickRange {
  from: bigint
  /** In the range. */
  to: bigint
}

const tickMax = 2n ** 64n - 1n

/** `100..200`, `100..`, `..200`, `100`. Throws USAGE. */
export function parseLsnRange(text: string): LsnRange {
  const [from, to] = split(text, '--lsn')
  const range = {
    from: from === '' ? 0 : parseCount(from, '--lsn'),
    to: to === '' ? Number.MAX_SAFE_INTEGER : parseCount(to, '--lsn'),
  }
  if (range.from > range.to) throw reversed('--lsn', text)
  return range
}

/** Like `parseLsnRange`, of time ticks. */
export function parseTickRange(text: string): TickRange {
  const [from, to] = split(text, '--tick')
  const range = {
    from: from === '' ? 0n : parseTick(from, '--tick'),
    to: to === '' ? tickMax : parseTick(to, '--tick'),
  }
  if (range.from > range.to) throw reversed('--tick', text)
  return range
}

/** `2026-01-31T12:00:00Z..2026-01-31T13:00:00Z`: the ticks from the first to the last of these milliseconds. */
export function parseTimeRange(text: string): TickRange {
  const [from, to] = split(text, '--time')
  const range = {
    from: from === '' ? 0n : tickOfMs(requireIsoTime(from, '--time')),
    to: to === '' ? tickMax : tickOfMs(requireIsoTime(to, '--time') + 1) - 1n,
  }
  if (range.from > range.to) throw reversed('--time', text)
  return range
}

/** What two ranges have in common; null when that is nothing. */
export function intersect(a: TickRange | undefined, b: TickRange | undefined): TickRange | undefined | null {
  if (!a || !b) return a ?? b
  // biome-ignore lint/complexity/useMathMinMax: they are bigints
  const range = { from: a.from > b.from ? a.from : b.from, to: a.to < b.to ? a.to : b.to }
  return range.from > range.to ? null : range
}

function split(text: string, flag: string): [string, string] {
  const at = text.indexOf('..')
  if (at === -1) {
    if (text === '') throw usageError(`${flag} is empty; it must be A..B, A.., ..B or A`)
    return [text, text]
  }
  const ends: [string, string] = [text.slice(0, at), text.slice(at + 2)]
  if (ends[0] === '' && ends[1] === '') throw usageError(`${flag} is ".."; it must be A..B, A.., ..B or A`)
  return ends
}

function reversed(flag: string, text: string): Error {
  return usageError(`${flag} is ${JSON.stringify(text)}: its end is before its beginning`)
}
