import type { MemoryLogsOptions } from '../../src/log-store/memory.ts'
import { Gate } from './gate.ts'

/** Flushes of the memory store that can be held and failed. */
export class HeldFlushes {
  readonly #gate = new Gate()
  #fail = false

  readonly commit: NonNullable<MemoryLogsOptions['commit']> = async () => {
    if (this.#fail) {
      this.#fail = false
      throw new Error('the flush failed')
    }
    await this.#gate.passage
  }

  /** No flush becomes durable until the function that it gives is called. */
  hold(): () => void {
    return this.#gate.close()
  }

  failNext(): void {
    this.#fail = true
  }
}
