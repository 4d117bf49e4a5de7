/** Room in the queue of one log in memory: bounded in bytes, given in the order of the calls, each wait with a deadline. */
import { TidelogError } from '../errors.ts'
import { aborted } from './aborted.ts'

/** Time, passed in. */
export interface MemoryClock {
  nowMs(): number
  after(delayMs: number, callback: () => void): { cancel(): void }
}

export interface RoomBounds {
  clock: MemoryClock
  queueBytes: number
  queueWaitMs: number
}

interface Waiter {
  bytes: number
  admit(): void
  refuse(error: TidelogError): void
}

export class MemoryRoom {
  readonly #name: string
  readonly #bounds: RoomBounds
  #usedBytes = 0
  #waiters: Waiter[] = []

  /** `name`: of the log, for what the errors say. */
  constructor(name: string, bounds: RoomBounds) {
    this.#name = name
    this.#bounds = bounds
  }

  /** Nothing has room; some may wait for it. */
  get isUnused(): boolean {
    return this.#usedBytes === 0
  }

  /** Null: there is room, and it is taken. Else settles when it is; rejects with QUEUE_FULL, ABORTED or what `refuse` says. */
  take(bytes: number, signal: AbortSignal | undefined): Promise<void> | null {
    // Those who wait already go first.
    if (this.#waiters.length > 0 || !this.#holds(bytes)) return this.#wait(bytes, signal)
    this.#usedBytes += bytes
    return null
  }

  giveBack(bytes: number): void {
    this.#usedBytes -= bytes
    while (this.#waiters.length > 0 && this.#holds(this.#waiters[0]!.bytes)) this.#waiters[0]!.admit()
  }

  /** All who wait. */
  refuse(error: TidelogError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.refuse(error)
  }

  #holds(bytes: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + bytes <= this.#bounds.queueBytes
  }

  #wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock, queueBytes, queueWaitMs } = this.#bounds
    return new Promise((resolve, reject) => {
      const leave = () => {
        timer.cancel()
        signal?.removeEventListener('abort', onAbort)
        const index = this.#waiters.indexOf(waiter)
        if (index >= 0) this.#waiters.splice(index, 1)
      }
      const waiter: Waiter = {
        bytes,
        admit: () => {
          leave()
          this.#usedBytes += bytes
          resolve()
        },
        refuse: (error) => {
          leave()
          reject(error)
        },
      }
      const onAbort = () => waiter.refuse(aborted(signal!, 'not-written'))
      const message = `log ${this.#name}: no room in the queue of ${queueBytes} bytes within ${queueWaitMs} ms`
      const timer = clock.after(queueWaitMs, () =>
        waiter.refuse(new TidelogError('QUEUE_FULL', message, { outcome: 'not-written', retriable: true })),
      )
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.push(waiter)
    })
  }
}
