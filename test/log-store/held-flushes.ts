import type { MemoryLogsOptions } from '../../src/log-store/memory.ts'

/** Flushes of the memory store that can be held and failed. */
export class HeldFlushes {
  #gate: Promise<void> | null = null
  #fail = false

  readonly commit: NonNullable<MemoryLogsOptions['commit']> = async () => {
    if (this.#fail) {
      this.#fail = false
      throw new Error('the flush failed')
    }
    await this.#gate
  }

  /** No flush becomes durable until the function that it gives is called. */
  hold(): () => void {
    let release = () => {}
    this.#gate = new Promise((resolve) => {
      release = resolve
    })
    return () => {
      this.#gate = null
      release()
    }
  }

  failNext(): void {
    this.#fail = true
  }
}
