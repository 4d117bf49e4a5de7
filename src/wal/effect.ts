/**
 * What a record does to the state of a WAL (open transactions, producers, idempotency keys). Rows without any effect,
 * which are nearly all, have none. The same effects are taken from what is appended and, at an opening, from what is
 * read back: the state is a function of the log alone.
 */

interface RowEffect {
  /** Index of its (first) record in the frame. */
  readonly row: number
  readonly vchannel: string
}

/** A transaction begins; its id is the LSN of this record. */
export interface BeginEffect extends RowEffect {
  readonly kind: 'begin'
  readonly keepaliveMs: number
}

/** Consecutive records of a transaction. */
export interface BodyEffect extends RowEffect {
  readonly kind: 'body'
  readonly count: number
  readonly transaction: number
  /** Payloads and properties. */
  readonly bytes: number
}

export interface CommitEffect extends RowEffect {
  readonly kind: 'commit'
  readonly transaction: number
  /** As the commit says: number of records, and `foldLsn` over their LSNs. */
  readonly bodies: number
  readonly hash: bigint
}

/** `transaction` null, on the empty vchannel: every transaction that is open in the pchannel. */
export interface RollbackEffect extends RowEffect {
  readonly kind: 'rollback'
  readonly transaction: number | null
  /** By its lease, not by its caller. */
  readonly expired: boolean
}

/** An exclusive message: transactions open on its vchannel end, on the empty one all of the pchannel. */
export interface ExclusiveEffect extends RowEffect {
  readonly kind: 'exclusive'
  readonly type: number
}

/** `producer` null: the first epoch; its number is the LSN of this record. */
export interface EpochEffect extends RowEffect {
  readonly kind: 'epoch'
  readonly name: string
  readonly producer: number | null
  readonly epoch: number
}

/** Consecutive records of a producer. */
export interface SequenceEffect extends RowEffect {
  readonly kind: 'sequence'
  readonly count: number
  readonly producer: number
  readonly epoch: number
  readonly firstSequence: number
}

export interface KeyEffect extends RowEffect {
  readonly kind: 'key'
  readonly key: string
}

export type Effect =
  | BeginEffect
  | BodyEffect
  | CommitEffect
  | RollbackEffect
  | ExclusiveEffect
  | EpochEffect
  | SequenceEffect
  | KeyEffect
