/** Wakes those who wait until something is over: a flush, a step, the writer. What it was each looks up for itself. */
export class QuietSignal {
  #waiters: (() => void)[] = []

  /** Settles when something of what the writer waits for may have happened. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  announce(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const resolve of waiters) resolve()
  }
}
