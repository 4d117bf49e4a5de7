/** What a client may not write (PROTOCOL 5). */
import { messageTypes } from '../message/message-type.ts'

/**
 * Types that the node alone writes: TimeTick 1, Flush 4, CreateSegment 10 and ProducerEpoch 16384, and those of
 * transactions, 900, 901, 902 and 999, which have requests of their own.
 */
export const nodeOnlyTypes: ReadonlySet<number> = new Set(
  messageTypes.filter(({ selfControlled, system }) => selfControlled || system).map(({ type }) => type),
)

/** Contexts that the node alone states: tenant and origin cluster. */
export const nodeOnlyContexts: ReadonlySet<number> = new Set([4, 5])
/** Contexts of a producer and of a transaction: a body may have those that its connection has opened. */
export const PRODUCER_CONTEXT = 1
export const TRANSACTION_CONTEXT = 2
