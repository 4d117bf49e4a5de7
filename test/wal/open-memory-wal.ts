/** A WAL on the memory store, whose flushes can be held and failed, on a clock that stands still. */

import type { LogStore } from '../../src/log-store/log-store.ts'
import { MemoryLogs } from '../../src/log-store/memory.ts'
import { Wal, type WalOptions } from '../../src/wal/wal.ts'
import { HeldFlushes } from '../log-store/held-flushes.ts'
import { ManualClock } from './manual-clock.ts'

export class MemorySubject {
  readonly clock = new ManualClock()
  readonly logs: MemoryLogs
  readonly #flushes = new HeldFlushes()
  #term = 0

  constructor() {
    this.logs = new MemoryLogs({ clock: this.clock, commit: this.#flushes.commit })
  }

  /** No flush becomes durable until the function that it gives is called. */
  hold(): () => void {
    return this.#flushes.hold()
  }

  failNext(): void {
    this.#flushes.failNext()
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
