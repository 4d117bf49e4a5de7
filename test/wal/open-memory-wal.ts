/** A WAL on the memory store, whose flushes can be held and failed, on a clock that stands still. */

import type { LogStore } from '../../src/log-store/log-store.ts'
import { MemoryLogs } from '../../src/log-store/memory.ts'
import { Wal, type WalOptions } from '../../src/wal/wal.ts'
import { ManualClock } from './manual-clock.ts'

export class MemorySubject {
  readonly clock = new ManualClock()
  readonly logs: MemoryLogs
  #gate: Promise<void> | null = null
  #fail = false
  #term = 0

  constructor() {
    this.logs = new MemoryLogs({
      clock: this.clock,
      commit: async () => {
        if (this.#fail) {
          this.#fail = false
          throw new Error('the flush failed')
        }
        await this.#gate
      },
    })
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

  /** At a new owner term: the one before is fenced. */
  store(): Promise<LogStore> {
    this.#term++
    return this.logs.opener().open('0', this.#term)
  }

  async open(options: WalOptions = {}): Promise<{ wal: Wal; store: LogStore }> {
    const store = await this.store()
    return { store, wal: await Wal.open(store, { clock: this.clock, ...options }) }
  }
}
