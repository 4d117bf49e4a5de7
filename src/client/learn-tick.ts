/** A tick of a group that this client has not heard of yet. */
import { TidelogError } from '../errors.ts'
import { MessageType } from '../protocol/message.ts'
import { decodeConfirmed, encodeConfirm } from '../protocol/wal-messages.ts'
import type { Session } from './session.ts'

/**
 * Asks for it. Settles also when the node cannot say one: a key that is first tried
 * then is not sent again by itself.
 */
export async function learnTick(session: Session, group: number): Promise<void> {
  try {
    const meta = encodeConfirm({ group, atLeast: 0n, waitMs: 0 })
    const answer = await session.request(MessageType.confirm, MessageType.confirmed, meta, { repeat: true })
    session.ticks.raise(group, decodeConfirmed(answer.meta))
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
  }
}
