/** The command line is wrong: nothing was tried. Exit code 2. */
import { TidelogError } from '../errors.ts'

export function usageError(message: string): TidelogError<'USAGE'> {
  return new TidelogError<'USAGE'>('USAGE', message)
}

/** `text` as an unsigned integer up to `max`, decimal digits only. Throws USAGE naming what it stands for. */
export function parseCount(text: string, what: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN
  if (!(value <= max))
    throw usageError(`${what} is ${JSON.stringify(text)}; it must be a whole number from 0 to ${max}`)
  return value
}

const tickMax = 2n ** 64n - 1n

/** `text` as a time tick: a decimal u64, as `--json` prints it. Throws USAGE. */
export function parseTick(text: string, what: string): bigint {
  const value = /^[0-9]{1,20}$/.test(text) ? BigInt(text) : -1n
  if (value < 0n || value > tickMax) {
    throw usageError(`${what} is ${JSON.stringify(text)}; a time tick is a decimal number below 2^64`)
  }
  return value
}
