/** Where `consume` starts: what `--from` means. */
import { parseCount, parseTick, usageError } from './usage-error.ts'
import { parseIsoTime, tickOfMs } from './wall-time.ts'

export type Position = 'earliest' | 'latest' | { lsn: number } | { timeTick: bigint }

export type StartPosition = { kind: 'at'; position: Position } | { kind: 'last'; count: number }

/** `last:N` keeps N positions in memory while it looks for the start. */
export const lastCountMax = 10_000_000

/** Reads `earliest`, `latest`, `last:N`, `lsn:N`, `tick:T` or an ISO time. Throws USAGE. */
export function parseStartPosition(text: string): StartPosition {
  if (text === 'earliest' || text === 'latest') return { kind: 'at', position: text }
  const colon = text.indexOf(':')
  const value = text.slice(colon + 1)
  switch (text.slice(0, colon)) {
    case 'last':
      return { kind: 'last', count: parseCount(value, '--from last:N', lastCountMax) }
    case 'lsn':
      return { kind: 'at', position: { lsn: parseCount(value, '--from lsn:N') } }
    case 'tick':
      return { kind: 'at', position: { timeTick: parseTick(value, '--from tick:T') } }
  }
  const ms = parseIsoTime(text)
  if (ms !== null) return { kind: 'at', position: { timeTick: tickOfMs(ms) } }
  throw usageError(
    `--from is ${JSON.stringify(text)}; it must be earliest, latest, last:N, lsn:N, tick:T ` +
      'or an ISO time such as 2026-01-31T12:00:00Z',
  )
}
