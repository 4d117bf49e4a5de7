/** What callers are told of transactions that do not take what they ask. All of it is "not written". */
import { TidelogError } from '../../errors.ts'
import type { WalError } from '../types.ts'
import type { EndedTransaction } from './transaction-table.ts'

/** Why the node has written a rollback. Of these the log says `expired` alone. */
export type RollbackReason = 'caller' | 'expired' | 'failed' | 'closed'

type Code =
  | 'INVALID_ARGUMENT'
  | 'TRANSACTION_STATE'
  | 'TRANSACTION_EXPIRED'
  | 'TRANSACTION_ABORTED'
  | 'LIMIT_EXCEEDED'
  | 'SEQUENCE_GAP'
  | 'SEQUENCE_STRADDLED'
  | 'SEQUENCE_FORGOTTEN'

export function transactionError(code: Code, message: string, cause?: unknown): WalError {
  return new TidelogError(code, message, { outcome: 'not-written', cause }) as WalError
}

/** Of a call on a transaction that is over. `reason`: null after a restart. */
export function endedError(
  transaction: number,
  ended: EndedTransaction | undefined,
  reason: RollbackReason | null,
): WalError {
  const name = `the transaction ${transaction}`
  if (ended === undefined) {
    return transactionError('TRANSACTION_EXPIRED', `${name} is not open, and how it ended is not known any more`)
  }
  const where = `at LSN ${ended.lsn}`
  if (ended.outcome === 'committed') return transactionError('TRANSACTION_STATE', `${name} was committed ${where}`)
  if (ended.outcome === 'exclusive') {
    const message = `${name} was ended by the message ${where}, which takes its vchannel exclusively`
    return transactionError('TRANSACTION_ABORTED', message)
  }
  if (ended.outcome === 'expired') {
    const message = `${name} was rolled back ${where}: it was not used for longer than its keepalive, or open for longer than transactions may be`
    return transactionError('TRANSACTION_EXPIRED', message)
  }
  if (reason === 'caller') return transactionError('TRANSACTION_STATE', `${name} was rolled back ${where}`)
  const why =
    reason === 'failed' ? 'one of its records has failed' : reason === 'closed' ? 'the WAL was closed' : 'a restart'
  return transactionError('TRANSACTION_ABORTED', `${name} was rolled back ${where}: ${why}`)
}
