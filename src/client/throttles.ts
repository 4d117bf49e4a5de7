/** What the node says that its groups take at present, and how much less `submit` lets out meanwhile. */
import type { Throttle } from '../protocol/wal-messages.ts'
import type { SubmitOrder } from './append-entry.ts'
import type { ThrottleEvent } from './types.ts'

/** Of a second's worth of what the group takes, so much may be on its way. */
const PART_OF_SECOND = 4
/** Where no rate is said: this part of `submitBytes`. */
const PART_OF_SUBMIT = 16
/** Less is not worth a frame. */
const BYTES_MIN = 64 * 1024

export class Throttles {
  readonly #onThrottle: (event: ThrottleEvent) => void
  readonly #throttles = new Map<number, Throttle>()
  /** Producers with somebody who waits. */
  readonly #waiting = new Map<SubmitOrder, number>()

  constructor(onThrottle: (event: ThrottleEvent) => void) {
    this.#onThrottle = onThrottle
  }

  set(throttle: Throttle): void {
    if (throttle.state === 'ok') {
      this.#throttles.delete(throttle.group)
      this.#letGo((group) => group === throttle.group)
    } else this.#throttles.set(throttle.group, throttle)
    this.#onThrottle({ ...throttle })
  }

  /** Another connection: its node says it again. */
  forget(): void {
    this.#throttles.clear()
    this.#letGo(() => true)
  }

  /** Null: there is room. */
  room(group: number, order: SubmitOrder, submitBytes: number): Promise<void> | null {
    const throttle = this.#throttles.get(group)
    if (throttle === undefined) return null
    const { state, bytesPerSecond } = throttle
    const part = bytesPerSecond > 0 ? bytesPerSecond / PART_OF_SECOND : submitBytes / PART_OF_SUBMIT
    const belowBytes = state === 'refusing' ? BYTES_MIN : Math.min(submitBytes, Math.max(BYTES_MIN, part))
    if (order.bytes < belowBytes) return null
    this.#waiting.set(order, group)
    return order.room(belowBytes).then(() => {
      this.#waiting.delete(order)
    })
  }

  #letGo(of: (group: number) => boolean): void {
    for (const [order, group] of [...this.#waiting]) if (of(group)) order.letGo()
  }
}
