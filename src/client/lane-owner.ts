/** What a lane of frames is of: a transaction, or a producer with an identity. */
import type { TidelogError } from '../errors.ts'
import type { ClientConnection } from './connection.ts'

export interface LaneOwner {
  readonly group: number
  /** Of a frame whose first record has this number. */
  context(first: number): Uint8Array
  /** Of the meta of PRODUCE. */
  transactionIndex(first: number): number
  /** What a new connection has to be told before frames go on it; null: nothing. Rejects with a TidelogError. */
  greet(connection: ClientConnection): Promise<void> | null
  /** Whether a frame that is refused for good ends the lane; otherwise what follows it takes its numbers. */
  readonly failsWhole: boolean
  /** What those are told that fail with another record. */
  othersError(error: TidelogError<string>): TidelogError<string>
  /** Whether the error says that nothing of the lane is or will be visible, whatever was written. */
  isUndone(error: TidelogError<string>): boolean
  /** Everything before this number is acknowledged. */
  onAcknowledged(next: number): void
  onEnded(error: TidelogError<string>): void
}
