/**
 * Publishes the watermark of each group to the consumers of a connection: one message an interval, and never ahead of a
 * record that a consumer has asked for (PROTOCOL 6, TICK).
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
  timeTick: bigint
  nextLsn: number
  covered: boolean
}

export class TickPublisher {
  readonly #options: TickPublisherOptions
  readonly #last = new Map<number, bigint>()
  #timer: { cancel(): void } | null = null

  constructor(options: TickPublisherOptions) {
    this.#options = options
  }

  /** Runs while there are consumers. */
  start(): void {
    if (this.#timer !== null || this.#options.consumers.size === 0) return
    const { clock, service } = this.#options
    this.#timer = clock.after(service.timeTickIntervalMs, () => {
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
    const groups = new Map<number, GroupTick>()
    const leftOut: number[] = []
    for (const consumer of consumers.values()) {
      let tick = groups.get(consumer.group)
      if (tick === undefined) {
        // In one turn: every record with a tick at or below T has an LSN below the end that is read here.
        tick = { timeTick: service.watermark(consumer.group), nextLsn: service.nextLsn(consumer.group), covered: false }
        groups.set(consumer.group, tick)
      }
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
    const told: TickMessage['groups'] = []
    for (const [group, { timeTick, covered }] of groups) {
      if (!covered || this.#last.get(group) === timeTick) continue
      this.#last.set(group, timeTick)
      told.push({ group, timeTick })
    }
    if (told.length > 0 || leftOut.length > 0) outbox.send(encodeTick({ groups: told, leftOut }))
  }
}
