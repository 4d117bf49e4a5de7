/**
 * A stage of the append pipeline. Stages stand in a fixed order (DESIGN, the WAL): limits and admission, the user's own,
 * exclusive lock (shared side), deduplication, transaction; then, in one turn, the last questions (`admit`), time tick,
 * LSN, entry into the log. A stage that has nothing to do with an append costs one call and no promise.
 */
import type { RecordInput } from '../../../native-free-storage/index.ts'
import type { AppendedRange, EncodedBody } from '../../log-store/log-store.ts'
import type { Effect } from '../effect.ts'
import type { MutableMessage, WalError } from '../types.ts'

/** A record that was in the log before this append. */
export interface DuplicateRow {
  row: number
  lsn: number
  timeTick: bigint
}

export interface UnitResult {
  /** Of a unit that was in the log before as a whole: those of the first. */
  range: AppendedRange
  /** The whole unit was in the log before; nothing was written. */
  duplicate: boolean
  /** Single records of it that were: they are void in this frame. */
  duplicates: readonly DuplicateRow[]
}

/** One frame on its way into the log. */
export interface AppendUnit {
  /** Made in this process; null of a body that a client encoded. A stage may change them until they are encoded. */
  readonly messages: MutableMessage[] | null
  /** What `messages` become; contexts are named by `contextIndex`. Made after the user's stage. */
  records: RecordInput[] | null
  contexts: Uint8Array[] | null
  /** Received. */
  readonly body: EncodedBody | null
  readonly recordCount: number
  /** Payloads and properties, or the length of the body. */
  readonly bytes: number
  readonly vchannels: readonly string[]
  readonly barrierTick: bigint
  /** 0n when it was not said. */
  readonly firstTriedAt: bigint
  readonly signal: AbortSignal | undefined
  /** The record that takes its vchannel (empty: the pchannel) exclusively; it is alone in its frame. */
  readonly exclusive: { readonly vchannel: string; readonly type: number } | null
  /** Empty for nearly all. */
  readonly effects: readonly Effect[]
  /** Of received bodies: index, in its transaction, of its first record; null where the client did not say. */
  readonly transactionIndex: number | null
  /** Written by the node itself: begin, commit, rollback, epochs. Users' stages and limits do not see them. */
  readonly internal: boolean
  /** Rows that a stage has refused or recognized: they keep LSN and tick, and readers skip them. */
  voids: number[]
  duplicates: DuplicateRow[]
  /** Set by a stage in `before`: the append ends here with this answer, and nothing is written. */
  answer: UnitResult | null
}

export interface Stage {
  readonly name: string
  /** Throws (or rejects) to refuse the unit, not written. A promise is waited for; those behind wait with it only where the stage makes them. */
  before?(unit: AppendUnit): void | Promise<void>
  /** In the turn of the LSN, as the last question: null means that the unit is placed. Must not throw. */
  admit?(unit: AppendUnit): WalError | null
  /** It is durable, and its effects are applied next. In LSN order. Must not throw. */
  durable?(range: AppendedRange): void
  /** It is durable. In LSN order. Must not throw. */
  after?(unit: AppendUnit, result: UnitResult): void
  /** It was refused, or its outcome is unknown, after this stage's `before` had passed. Must not throw. */
  failed?(unit: AppendUnit, error: unknown): void
  /** Last, in every case, where `before` had passed. */
  leave?(unit: AppendUnit): void
}
