/** Whose a received body is: a producer's, a transaction's, or nobody's in particular (PROTOCOL 5). */
import { type BodyHead, decodeContext } from '../../../native-free-storage/index.ts'
import { PRODUCER_CONTEXT, TRANSACTION_CONTEXT } from '../../protocol/node-only.ts'

export interface ReceivedIdentity {
  producer: { producer: number; epoch: number; firstSequence: number } | null
  transaction: number | null
}

const NOBODY: ReceivedIdentity = { producer: null, transaction: null }

/** `refuse` throws. A context that states an identity is the only one of its frame, and every record has it. */
export function identityOf(head: BodyHead, refuse: (why: string) => never): ReceivedIdentity {
  let stated = false
  for (let index = 0; index < head.contextCount && !stated; index++) stated = statesIdentity(head.context(index))
  if (!stated) return NOBODY
  if (head.contextCount > 1) refuse('a producer or a transaction shares a frame with other contexts')
  for (let row = 0; row < head.recordCount; row++) {
    if (head.contextIndex(row) !== 0) refuse(`record ${row} stands beside those of a producer or a transaction`)
  }
  if (head.vchannelCount > 1) refuse('a producer and a transaction write to one vchannel')
  const { producer, transaction } = decodeContext(head.context(0))
  if (producer !== undefined && transaction !== undefined) refuse('a frame of a producer and of a transaction at once')
  if (transaction !== undefined) return { producer: null, transaction: whole(transaction) }
  const { id, epoch, firstSequence } = producer!
  return { producer: { producer: whole(id), epoch, firstSequence }, transaction: null }
}

/** One that no LSN can be is none that was opened. */
function whole(id: bigint): number {
  return id <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(id) : -1
}

function statesIdentity(context: Uint8Array): boolean {
  return hasItem(context, (type) => type === PRODUCER_CONTEXT || type === TRANSACTION_CONTEXT)
}

/** Item headers were checked with the head: u16 type, u16 length, value. */
export function hasItem(context: Uint8Array, test: (type: number) => boolean): boolean {
  const view = new DataView(context.buffer, context.byteOffset, context.byteLength)
  for (let at = 0; at + 4 <= view.byteLength; at += 4 + view.getUint16(at + 2, true)) {
    if (test(view.getUint16(at, true))) return true
  }
  return false
}
