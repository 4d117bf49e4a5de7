import { TidelogError } from '../errors.ts'

/** What the other side sent breaks docs/PROTOCOL.md: the connection ends. */
export function violation(message: string, cause?: unknown): TidelogError<'PROTOCOL_VIOLATION'> {
  return new TidelogError('PROTOCOL_VIOLATION', message, { cause })
}
