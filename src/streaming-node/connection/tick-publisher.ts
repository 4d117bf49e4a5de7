/**
 * Publishes the watermark of each group to the consumers of a connection: one message an interval, and never ahead of a
 * record that a consumer has asked for (PROTOCOL 6, TICK). Groups in which nothing is under way share one tick, and are
 * not looked at again until something stirs in them: a thousand quiet ones cost one number.
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
}

/** A group that the connection consumes from. */
interface Group {
  readonly number: number
  readonly consumers: Set<ServerConsumer>
  /**
   * `service.stirs` when everything was quiet and sent, and all its consumers had been told so: as long as it is that,
   * nothing has changed. NaN, which no number is equal to: it is to be looked at.
   */
  stirs: number
  /** What the client was told last. */
  told: bigint
}

export class TickPublisher {
  readonly #options: TickPublisherOptions
  readonly #groups = new Map<number, Group>()
  /** `service.anyStirs` when every group was settled; NaN: they are to be gone through. */
  #stirs = Number.NaN
  /** What the groups that are not listed were told last. */
  #others = 0n
  #timer: { cancel(): void } | null = null
  #timerMs = Number.POSITIVE_INFINITY

  constructor(options: TickPublisherOptions) {
    this.#options = options
  }

  /** It may want ticks more often than the others. */
  add(consumer: ServerConsumer): void {
    let group = this.#groups.get(consumer.group)
    if (group === undefined) {
      group = { number: consumer.group, consumers: new Set(), stirs: Number.NaN, told: 0n }
      this.#groups.set(consumer.group, group)
    }
    group.consumers.add(consumer)
    group.stirs = Number.NaN
    this.#stirs = Number.NaN
    this.#arm()
  }

  remove(consumer: ServerConsumer): void {
    const group = this.#groups.get(consumer.group)
    if (group === undefined) return
    group.consumers.delete(consumer)
    group.stirs = Number.NaN
    if (group.consumers.size === 0) this.#groups.delete(consumer.group)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
    this.#groups.clear()
  }

  /** Nothing is added behind bytes that the client does not read: the next one says more. */
  publish(): void {
    const { service, outbox } = this.#options
    if (!outbox.hasRoom) return
    const tick: TickMessage = { groups: [], others: 0n, leftOut: [] }
    const shared = service.sharedTick()
    const { anyStirs } = service
    if (shared > 0n && anyStirs === this.#stirs) {
      // Nothing has changed anywhere since every group was settled.
      if (shared === this.#others) return
      this.#others = shared
      outbox.send(encodeTick({ ...tick, others: shared }))
      return
    }
    let news = false
    let settled = true
    for (const group of this.#groups.values()) {
      // What it was told while nothing was looked at.
      if (group.told < this.#others && !Number.isNaN(group.stirs)) group.told = this.#others
      if (shared > 0n && group.stirs === service.stirs(group.number)) {
        tick.others = shared
        if (group.told !== shared) news = true
        group.told = shared
      } else if (this.#look(group, shared, tick)) news = true
      if (Number.isNaN(group.stirs)) settled = false
    }
    this.#others = tick.others
    this.#stirs = settled && tick.others > 0n ? anyStirs : Number.NaN
    if (news || tick.leftOut.length > 0) outbox.send(encodeTick(tick))
  }

  /** Says whether there is something new to tell. In one turn: a record with a tick at or below T lies below this end. */
  #look(group: Group, shared: bigint, tick: TickMessage): boolean {
    const { service, outbox } = this.#options
    const stirs = service.stirs(group.number)
    const watermark = service.watermark(group.number, shared)
    // What was said of it unseen, the log was not asked about.
    let timeTick = group.told
    if (watermark > timeTick) timeTick = watermark
    const nextLsn = service.nextLsn(group.number)
    let told = 0
    let settled = true
    for (const consumer of group.consumers) {
      const reached = consumer.position !== null && consumer.position >= nextLsn
      if (reached && consumer.covered) {
        told++
        continue
      }
      settled = false
      if (reached) {
        consumer.covered = true
        outbox.send(encodeCaughtUp(consumer.id, { lsn: nextLsn, timeTick }))
      } else if (consumer.covered) {
        consumer.covered = false
        tick.leftOut.push(consumer.id)
      }
    }
    const isQuiet = shared > 0n && watermark === shared
    group.stirs = settled && isQuiet ? stirs : Number.NaN
    if (told === 0) return false
    const isNew = timeTick !== group.told
    group.told = timeTick
    // Listed also when it says nothing new: what is said of the others is not true of it.
    if (isQuiet) tick.others = shared
    else tick.groups.push({ group: group.number, timeTick })
    return isNew
  }

  /** Runs while there are consumers. */
  #arm(): void {
    const { clock } = this.#options
    if (this.#groups.size === 0) return
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
      this.#arm()
    })
  }

  #everyMs(): number {
    const { service } = this.#options
    let everyMs = Number.POSITIVE_INFINITY
    for (const { consumers } of this.#groups.values()) {
      for (const { ticksEveryMs } of consumers) {
        if (ticksEveryMs < everyMs) everyMs = ticksEveryMs
        if (everyMs <= service.timeTickIntervalMs) return service.timeTickIntervalMs
      }
    }
    return everyMs
  }
}
