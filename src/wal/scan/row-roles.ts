/** What the rows of a frame are to a reader, told from the table and the contexts alone. */
import { type BodyHead, decodeContext, decodeNodeSection } from '../../../native-free-storage/index.ts'
import type { StoreFrame } from '../../log-store/log-store.ts'
import { MessageType, messageTypes } from '../../message/message-type.ts'

export const Role = {
  /** Delivered by itself where it names no transaction. */
  plain: 0,
  /** Of the log itself. */
  hidden: 1,
  begin: 2,
  commit: 3,
  rollback: 4,
  exclusive: 5,
} as const

const roles = new Uint8Array(0x1_0000)
for (const { type, system, exclusive } of messageTypes) {
  if (exclusive) roles[type] = Role.exclusive
  else if (system) roles[type] = Role.hidden
}
roles[MessageType.beginTxn] = Role.begin
roles[MessageType.commitTxn] = Role.commit
roles[MessageType.rollbackTxn] = Role.rollback

export function roleOf(type: number): number {
  return roles[type]!
}

/** Of a record that names a transaction: whether it is one of its bodies. */
export function isBody(type: number): boolean {
  const role = roles[type]
  return role === Role.plain || role === Role.exclusive
}

/** Whether every row is delivered by itself. Costs a look at each row, and decodes nothing where there is no context. */
export function isPlain(head: BodyHead): boolean {
  if (head.contextCount > 0 && transactionsOf(head) !== null) return false
  for (let row = 0; row < head.recordCount; row++) if (roles[head.type(row)] !== Role.plain) return false
  return true
}

const known = new WeakMap<BodyHead, readonly number[] | null>()

/** For each context the transaction that it names, -1 where it names none. Null: none of them does. */
export function transactionsOf(head: BodyHead): readonly number[] | null {
  if (head.contextCount === 0) return null
  // A frame of the cache is met by many readers, and by one for each of its transactions.
  let transactions = known.get(head)
  if (transactions === undefined) {
    transactions = decodeTransactions(head)
    known.set(head, transactions)
  }
  return transactions
}

function decodeTransactions(head: BodyHead): readonly number[] | null {
  let found: number[] | null = null
  for (let index = 0; index < head.contextCount; index++) {
    const { transaction } = decodeContext(head.context(index))
    if (transaction === undefined) continue
    found ??= new Array<number>(head.contextCount).fill(-1)
    found[index] = Number(transaction)
  }
  return found
}

/** Whether a row is void; null where none of the frame is. */
export function voidsOf(frame: StoreFrame): ((row: number) => boolean) | null {
  if (frame.nodeSection.length === 0) return null
  const node = decodeNodeSection(frame.nodeSection, frame.recordCount)
  return node.hasVoids ? (row) => node.isVoid(row) : null
}
