/**
 * Publishes the watermark of each group to the consumers of a connection: one message an interval, and never ahead of a
 * record that a consumer has asked for (PROTOCOL 6, TICK). Groups in which nothing is under way share one tick, so that
 * a thousand quiet ones cost one number.
 */
import type { ConnectionClock } from '../../protocol/clock.ts'
import { encodeCaughtUp, encodeTick, type TickMessage } from '../../protocol/consume-messages.ts'
import type { Outbox } from '../../protocol/outbox.ts'
import type { NodeService } from '../node-service.ts'
import type { ServerConsumer } from './consumer.ts'

export interface TickPublisherOptions {
  service: NodeService
  clock: ConnectionClock
  outbox: Outbox
  consumers: ReadonlyMap<number, ServerConsumer>
}

interface GroupTick {
  /** The round in which it was looked at last. */
  round: number
  timeTick: bigint
  nextLsn: number
  covered: boolean
  /** What the client was told last. */
  told: bigint
}

export class TickPublisher {
  readonly #options: TickPublisherOptions
  readonly #groups = new Map<number, GroupTick>()
  #round = 0
  #timer: { cancel(): void } | null = null
  #timerMs = Number.POSITIVE_INFINITY

  constructor(options: TickPublisherOptions) {
    this.#options = options
  }

  /** Runs while there are consumers; asked again when one has come, which may want ticks more often than the others. */
  start(): void {
    const { clock, consumers } = this.#options
    if (consumers.size === 0) return
    const everyMs = this.#everyMs()
    const dueMs = clock.monotonicMs() + everyMs
    if (this.#timer !== null) {
      if (this.#timerMs <= dueMs) return
      this.#timer.cancel()
    }
    this.#timerMs = dueMs
    this.#timer = clock.after(everyMs, () => {
      this.#timer = null
      this.publish()
      this.start()
    })
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  /** Nothing is added behind bytes that the client does not read: the next one says more. */
  publish(): void {
    const { service, outbox, consumers } = this.#options
    if (!outbox.hasRoom) return
    const shared = service.sharedTick()
    this.#round++
    const looked: number[] = []
    const leftOut: number[] = []
    for (const consumer of consumers.values()) {
      const tick = this.#look(consumer.group, shared, looked)
      const reached = consumer.position !== null && consumer.position >= tick.nextLsn
      if (reached && consumer.covered) {
        tick.covered = true
      } else if (reached) {
        consumer.covered = true
        outbox.send(encodeCaughtUp(consumer.id, { lsn: tick.nextLsn, timeTick: tick.timeTick }))
      } else if (consumer.covered) {
        consumer.covered = false
        leftOut.push(consumer.id)
      }
    }
    this.#tell(looked, shared, leftOut)
  }

  #tell(looked: readonly number[], shared: bigint, leftOut: number[]): void {
    const told: TickMessage['groups'] = []
    let others = 0n
    let news = leftOut.length > 0
    for (const group of looked) {
      const tick = this.#groups.get(group)!
      if (!tick.covered) continue
      if (tick.timeTick !== tick.told) news = true
      tick.told = tick.timeTick
      // Listed also when it says nothing new: what is said of the others is not true of it.
      if (shared > 0n && tick.timeTick === shared) others = shared
      else told.push({ group, timeTick: tick.timeTick })
    }
    if (news) this.#options.outbox.send(encodeTick({ groups: told, others, leftOut }))
  }

  /** Once a group and round, in one turn: every record with a tick at or below T has an LSN below the end read here. */
  #look(group: number, shared: bigint, looked: number[]): GroupTick {
    const { service } = this.#options
    let tick = this.#groups.get(group)
    if (tick === undefined) {
      tick = { round: 0, timeTick: 0n, nextLsn: 0, covered: false, told: 0n }
      this.#groups.set(group, tick)
    }
    if (tick.round !== this.#round) {
      tick.round = this.#round
      tick.timeTick = service.watermark(group, shared)
      tick.nextLsn = service.nextLsn(group)
      tick.covered = false
      looked.push(group)
    }
    return tick
  }

  #everyMs(): number {
    const { service, consumers } = this.#options
    let everyMs = Number.POSITIVE_INFINITY
    for (const { ticksEveryMs } of consumers.values()) {
      if (ticksEveryMs < everyMs) everyMs = ticksEveryMs
      if (everyMs <= service.timeTickIntervalMs) return service.timeTickIntervalMs
    }
    return everyMs
  }
}
