/**
 * CONFIRM: those of a connection who wait until the watermark of a group has passed a tick. Bounded in number and in
 * time; all end with the connection.
 */
import { TidelogError } from '../../errors.ts'
import type { ConnectionClock } from '../../protocol/clock.ts'
import { encodeMessage, MessageType } from '../../protocol/message.ts'
import { type ConfirmRequest, encodeConfirmed } from '../../protocol/wal-messages.ts'
import type { NodeService } from '../node-service.ts'

export interface ConfirmWaitersOptions {
  service: NodeService
  clock: ConnectionClock
  waitersMax: number
}

export class ConfirmWaiters {
  readonly #options: ConfirmWaitersOptions
  readonly #waiting = new Set<AbortController>()
  #ended = false

  constructor(options: ConfirmWaitersOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Settles with the answer; rejects with LIMIT_EXCEEDED, TIMEOUT, CLOSED, or why the group's log is not open. */
  async confirm(requestId: number, { group, atLeast, waitMs }: ConfirmRequest): Promise<Buffer> {
    const { service, clock, waitersMax } = this.#options
    const now = service.watermark(group)
    if (now >= atLeast) return encodeMessage(MessageType.confirmed, requestId, encodeConfirmed(now))
    if (this.#ended) throw ended()
    if (waitMs === 0) throw late(atLeast, now, 0)
    if (this.#waiting.size >= waitersMax) {
      throw new TidelogError('LIMIT_EXCEEDED', `more than ${waitersMax} CONFIRM wait on this connection`)
    }
    const abort = new AbortController()
    this.#waiting.add(abort)
    let isLate = false
    const timer = clock.after(waitMs, () => {
      isLate = true
      abort.abort()
    })
    try {
      const timeTick = await service.confirmed(group, atLeast, abort.signal)
      return encodeMessage(MessageType.confirmed, requestId, encodeConfirmed(timeTick))
    } catch (error) {
      if (isLate) throw late(atLeast, service.watermark(group), waitMs)
      if (abort.signal.aborted) throw ended()
      throw error
    } finally {
      timer.cancel()
      this.#waiting.delete(abort)
    }
  }

  /** The connection ends: each of them is answered with that. */
  end(): void {
    this.#ended = true
    for (const abort of this.#waiting) abort.abort()
  }
}

function late(atLeast: bigint, now: bigint, waitMs: number): TidelogError<'TIMEOUT'> {
  const message = `the watermark is at ${now} and has not reached ${atLeast} within ${waitMs} ms`
  return new TidelogError('TIMEOUT', message, { retriable: true })
}

function ended(): TidelogError<'CLOSED'> {
  return new TidelogError('CLOSED', 'the connection ends; ask again on the next one', { retriable: true })
}
