/** THROTTLE: tells a connection what the groups that it writes to take (PROTOCOL 7). */
import { encodeMessage, MessageType } from '../../protocol/message.ts'
import type { Outbox } from '../../protocol/outbox.ts'
import { encodeThrottle, type Throttle } from '../../protocol/wal-messages.ts'
import type { NodeService } from '../node-service.ts'

export interface ThrottlePublisherOptions {
  service: NodeService
  outbox: Outbox
}

export class ThrottlePublisher {
  readonly #options: ThrottlePublisherOptions
  /** What was said last of each group that this connection has written to. */
  readonly #told = new Map<number, Throttle>()
  /** Changes that found no room: only the last one of a group is said. */
  readonly #owed = new Set<number>()
  #waiting = false
  #stop: (() => void) | null = null

  constructor(options: ThrottlePublisherOptions) {
    this.#options = options
  }

  /** A PRODUCE to the group has come. */
  wrote(group: number): void {
    if (this.#told.has(group)) return
    const { service } = this.#options
    this.#stop ??= service.onThrottle((throttle) => this.#changed(throttle.group))
    const throttle = service.throttle(group)
    // Of a group that is not there nothing is kept.
    if (throttle === null) return
    this.#told.set(group, { group, state: 'ok', bytesPerSecond: 0 })
    this.#changed(group)
  }

  stop(): void {
    this.#stop?.()
    this.#stop = null
    this.#told.clear()
    this.#owed.clear()
  }

  #changed(group: number): void {
    if (!this.#told.has(group)) return
    this.#owed.add(group)
    this.#tell()
  }

  #tell(): void {
    const { outbox, service } = this.#options
    if (!outbox.hasRoom) {
      if (this.#waiting) return
      this.#waiting = true
      void outbox.room().then(() => {
        this.#waiting = false
        this.#tell()
      })
      return
    }
    for (const group of this.#owed) {
      this.#owed.delete(group)
      const now = service.throttle(group)
      const told = this.#told.get(group)
      if (now === null || told === undefined) continue
      if (now.state === told.state && now.bytesPerSecond === told.bytesPerSecond) continue
      this.#told.set(group, now)
      outbox.send(encodeMessage(MessageType.throttle, 0, encodeThrottle(now)))
    }
  }
}
