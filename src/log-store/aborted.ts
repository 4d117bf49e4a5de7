/** What the caller of the store gave up. */
import { TidelogError } from '../errors.ts'

/** `outcome`: of an append. */
export function aborted(signal: AbortSignal, outcome?: 'not-written' | 'unknown'): TidelogError {
  return new TidelogError('ABORTED', 'aborted by the caller', { cause: signal.reason, outcome })
}
