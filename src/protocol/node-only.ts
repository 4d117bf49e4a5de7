/** What a client may not write in this version (PROTOCOL 5). */

/**
 * Record types: TimeTick 1, Flush 4 and CreateSegment 10 are written by the node alone; BeginTxn 900, CommitTxn 901,
 * RollbackTxn 902 and Txn 999 belong to transactions, which have requests of their own.
 */
export const nodeOnlyTypes: ReadonlySet<number> = new Set([1, 4, 10, 900, 901, 902, 999])

/** Contexts: producer, transaction, tenant, origin cluster. They state an identity that a connection does not have yet. */
export const nodeOnlyContexts: ReadonlySet<number> = new Set([1, 2, 4, 5])
