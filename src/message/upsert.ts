/** An upsert: a delete and an insert that become visible together. */
import type { DeleteHeader, InsertHeader } from './header-types.ts'
import { MessageType } from './message-type.ts'

export interface UpsertPart<Header> {
  header: Header
  properties?: Readonly<Record<string, string>> | undefined
  payload: Uint8Array
}

/** To be appended in this order, in one transaction of the vchannel: old rows go before the new ones come. */
export type UpsertMessages = readonly [
  UpsertPart<DeleteHeader> & { type: typeof MessageType.delete },
  UpsertPart<InsertHeader> & { type: typeof MessageType.insert },
]

/** The two messages of an upsert; `for (const message of upsert(...)) await txn.append(message)`. */
export function upsert(deleted: UpsertPart<DeleteHeader>, inserted: UpsertPart<InsertHeader>): UpsertMessages {
  return [
    { ...deleted, type: MessageType.delete },
    { ...inserted, type: MessageType.insert },
  ]
}
