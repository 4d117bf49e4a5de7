/** Time that moves only when a test says so. Timers at one moment fire in the order in which they were set. */
import type { Clock, Timer } from '../../native-free-storage/index.ts'

export class ManualClock implements Clock {
  #elapsedMs = 0
  #order = 0
  readonly #timers = new Set<{ atMs: number; order: number; callback: () => void }>()
  /** Added to the wall clock alone. */
  stepMs = 0

  nowMs(): number {
    return Date.UTC(2026, 0, 1) + this.#elapsedMs + this.stepMs
  }

  monotonicMs(): number {
    return this.#elapsedMs
  }

  get timers(): number {
    return this.#timers.size
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#elapsedMs + Math.max(0, delayMs), order: this.#order++, callback }
    this.#timers.add(timer)
    return {
      cancel: () => {
        this.#timers.delete(timer)
      },
    }
  }

  /** Fires what is due, each at its own moment, and lets promises settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsedMs + ms
    while (true) {
      const [next] = [...this.#timers]
        .filter(({ atMs }) => atMs <= end)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#elapsedMs = next.atMs
      next.callback()
      await turn()
    }
    this.#elapsedMs = end
    await turn()
  }
}

/** Everything that is ready has run. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
