/**
 * The watermark on demand: whoever asks whether a tick is confirmed is answered within one interval after it is. One
 * timer for all who wait, and none when nobody does.
 */
import type { Clock, Timer } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'

interface Waiter {
  readonly atLeast: bigint
  resolve(watermark: bigint): void
  reject(error: unknown): void
}

/** Callers that may wait at once. */
const WAITERS_MAX = 65_536

export class ConfirmedTicks {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #watermark: () => bigint
  readonly #failure: () => TidelogError<string> | null
  readonly #waiters = new Set<Waiter>()
  #timer: Timer | null = null
  #closed: TidelogError<string> | null = null

  /** `failure`: why the watermark will never move again; null while it may. */
  constructor(clock: Clock, intervalMs: number, watermark: () => bigint, failure: () => TidelogError<string> | null) {
    this.#clock = clock
    this.#intervalMs = intervalMs
    this.#watermark = watermark
    this.#failure = failure
  }

  /** A watermark at or above `atLeast`. Rejects with ABORTED, CLOSED, QUEUE_FULL, or why the log has failed. */
  atLeast(atLeast: bigint, signal: AbortSignal | undefined): Promise<bigint> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    if (signal?.aborted) return Promise.reject(aborted(signal))
    const watermark = this.#watermark()
    if (watermark >= atLeast) return Promise.resolve(watermark)
    const failure = this.#failure()
    if (failure !== null) return Promise.reject(failure)
    if (this.#waiters.size >= WAITERS_MAX) {
      const message = `${WAITERS_MAX} callers wait for the watermark. Ask again later.`
      return Promise.reject(new TidelogError('QUEUE_FULL', message, { retriable: true }))
    }
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiters.delete(waiter)
        signal?.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        atLeast,
        resolve: (reached) => {
          leave()
          resolve(reached)
        },
        reject: (error) => {
          leave()
          reject(error)
        },
      }
      const onAbort = () => waiter.reject(aborted(signal!))
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.add(waiter)
      this.#arm()
    })
  }

  close(error: TidelogError<string>): void {
    this.#closed ??= error
    this.#timer?.cancel()
    this.#timer = null
    for (const waiter of this.#waiters) waiter.reject(error)
  }

  #arm(): void {
    this.#timer ??= this.#clock.after(this.#intervalMs, () => {
      this.#timer = null
      this.#look()
      if (this.#waiters.size > 0) this.#arm()
    })
  }

  #look(): void {
    const watermark = this.#watermark()
    for (const waiter of this.#waiters) if (waiter.atLeast <= watermark) waiter.resolve(watermark)
    if (this.#waiters.size === 0) return
    const failure = this.#failure()
    if (failure !== null) for (const waiter of this.#waiters) waiter.reject(failure)
  }
}

function aborted(signal: AbortSignal): TidelogError {
  return new TidelogError('ABORTED', 'the wait for the watermark was aborted', { cause: signal.reason })
}
