/** The stage in front of everything: the bound of the pchannel and that of the node, asked together. */
import type { Clock } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import type { Admission } from './admission.ts'

export class AdmissionGate {
  readonly #clock: Clock
  readonly #bounds: readonly Admission[]
  /** The last one that is held back: nobody overtakes it. */
  #tail: Promise<void> | null = null

  /** Without bounds nothing is ever asked. */
  constructor(clock: Clock, bounds: readonly Admission[]) {
    this.#clock = clock
    this.#bounds = bounds
  }

  get isOpen(): boolean {
    return this.#bounds.length === 0
  }

  /**
   * Counts `bytes` in, until `release`: null when they may go on now, else when the promise settles. Throws RATE_LIMITED;
   * the promise rejects with ABORTED. Both leave nothing counted.
   */
  enter(bytes: number, signal: AbortSignal | undefined): Promise<void> | null {
    let delayMs = 0
    for (let index = 0; index < this.#bounds.length; index++) {
      try {
        delayMs = Math.max(delayMs, this.#bounds[index]!.enter(bytes))
      } catch (error) {
        for (let before = 0; before < index; before++) this.#bounds[before]!.release(bytes)
        throw error
      }
    }
    if (delayMs === 0 && this.#tail === null) return null
    const before = this.#tail
    const delay = this.#delay(delayMs, bytes, signal)
    const turn = before === null ? delay : before.then(pass, pass).then(() => delay)
    // Its own abort may come while it waits for the one before.
    delay.catch(pass)
    this.#tail = turn
    const passed = () => {
      if (this.#tail === turn) this.#tail = null
    }
    turn.then(passed, passed)
    return turn
  }

  release(bytes: number): void {
    for (const bound of this.#bounds) bound.release(bytes)
  }

  #delay(delayMs: number, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    if (delayMs === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(delayMs, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      const abort = () => {
        timer.cancel()
        this.release(bytes)
        reject(
          new TidelogError('ABORTED', 'the append was aborted before it was written', {
            outcome: 'not-written',
            cause: signal!.reason,
          }),
        )
      }
      if (signal?.aborted) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    })
  }
}

function pass(): void {}
