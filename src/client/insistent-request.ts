/** A request that is repeated until it is answered for good: over lost connections, and over refusals that pass. */
import { TidelogError } from '../errors.ts'
import type { Message, MessageType } from '../protocol/message.ts'
import { withOutcome } from './append-entry.ts'
import { pauseMsOf } from './retry-pause.ts'
import type { Session } from './session.ts'
import { abortable } from './settings.ts'

export interface InsistentRequest {
  type: MessageType
  wanted: MessageType
  meta: Buffer
  timeoutMs: number
  signal?: AbortSignal | undefined
  /** For the message of TIMEOUT. */
  what: string
}

/**
 * Twice must be as once. Rejects with what the node says for good, which has the outcome `not-written` then, and else
 * with TIMEOUT, ABORTED, SERVER_UNREACHABLE or CLOSED, whose outcome is `unknown` when the node may have acted.
 */
export async function insist(session: Session, request: InsistentRequest): Promise<Message> {
  const { clock } = session.settings
  const { timeoutMs, signal, what } = request
  const attempt: Attempt = { mayHaveActed: false, given: false, untilMs: clock.monotonicMs() + timeoutMs }
  try {
    return await abortable(untilAnswered(session, request, attempt), { clock, timeoutMs, signal, what })
  } catch (error) {
    attempt.given = true
    if (!(error instanceof TidelogError)) throw error
    const known = error as TidelogError<string>
    if (known.outcome !== undefined) throw known
    throw withOutcome(known, attempt.mayHaveActed ? 'unknown' : 'not-written')
  }
}

interface Attempt {
  /** One of the tries is under way, or was not answered. */
  mayHaveActed: boolean
  /** Nobody waits any more. */
  given: boolean
  untilMs: number
}

async function untilAnswered(
  session: Session,
  { type, wanted, meta }: InsistentRequest,
  attempt: Attempt,
): Promise<Message> {
  const { clock, backoffMs, random } = session.settings
  let pauses = 0
  for (;;) {
    const connection = await session.connected()
    if (attempt.given) throw new TidelogError<string>('ABORTED', 'nobody waits for it any more')
    const before = attempt.mayHaveActed
    attempt.mayHaveActed = true
    try {
      return await connection.request(type, wanted, meta)
    } catch (error) {
      const known = error as TidelogError<string>
      const lost = known.code === 'CONNECTION_LOST'
      if (known.outcome === 'not-written') attempt.mayHaveActed = before
      const passes = lost || known.retriable || known.outcome === 'unknown'
      // A verdict: whatever became of earlier tries, the node knows.
      if (!passes) throw withOutcome(known, 'not-written')
      if (attempt.given || clock.monotonicMs() >= attempt.untilMs) throw lost ? known : withItsOutcome(known, attempt)
      if (!lost) {
        const pauseMs = pauseMsOf(backoffMs, pauses++) * (1 + random())
        await new Promise<void>((resolve) => clock.after(pauseMs, resolve, true))
      }
    }
  }
}

function withItsOutcome(error: TidelogError<string>, { mayHaveActed }: Attempt): TidelogError<string> {
  return withOutcome(error, mayHaveActed ? 'unknown' : 'not-written')
}
