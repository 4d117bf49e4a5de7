/**
 * The log store in memory: for tests and for what needs no durability. It has the order, the ticks, the fencing and
 * the failures of the port; a frame is "durable" when `commit` settled.
 */
import { loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { LogStore, LogStoreOpener } from './log-store.ts'
import { MemoryLog } from './memory-log.ts'
import type { MemoryClock } from './memory-room.ts'
import { MemoryLogStore } from './memory-store.ts'
import { MemoryTicks } from './memory-ticks.ts'

export interface MemoryLogsOptions {
  clock?: MemoryClock
  /** Bytes of bodies that may wait in one log; the default is 64 MiB. A single larger body is let in alone. */
  queueBytes?: number
  /** How long an append waits for room in the queue before QUEUE_FULL; the default is 30,000. */
  queueWaitMs?: number
  /**
   * Stands for the write and the sync of one flush: its frames are durable when it settles, and the log is failed
   * when it rejects. Settles at once when left out.
   */
  commit?: (pchannel: string, frames: number) => Promise<void>
}

const systemClock: MemoryClock = {
  nowMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Logs that live as long as this object: every opener of it sees the same ones, as processes see one disk. */
export class MemoryLogs {
  readonly #logs = new Map<string, MemoryLog>()
  readonly #options: Required<MemoryLogsOptions>
  readonly #ticks: MemoryTicks

  constructor(options: MemoryLogsOptions = {}) {
    this.#options = {
      clock: options.clock ?? systemClock,
      queueBytes: options.queueBytes ?? 64 * 1024 * 1024,
      queueWaitMs: options.queueWaitMs ?? 30_000,
      commit: options.commit ?? (() => Promise.resolve()),
    }
    this.#ticks = new MemoryTicks(() => this.#options.clock.nowMs())
  }

  opener(): LogStoreOpener {
    const ticks = this.#ticks
    return {
      open: (pchannel, ownerTerm) => this.#open(pchannel, ownerTerm),
      sharedTick: () => ticks.fresh(),
      get stirs() {
        return ticks.stirs
      },
    }
  }

  async #open(pchannel: string, ownerTerm: number): Promise<LogStore> {
    if (!Number.isInteger(ownerTerm) || ownerTerm < 0 || ownerTerm > 0xffffffff) {
      throw new TidelogError('INVALID_ARGUMENT', `owner term ${ownerTerm} is not an unsigned 32-bit integer`)
    }
    await loadChecksum()
    let log = this.#logs.get(pchannel)
    if (log === undefined) {
      log = new MemoryLog(pchannel)
      this.#logs.set(pchannel, log)
    }
    log.takeOver(ownerTerm)
    this.#ticks.stirs++
    return new MemoryLogStore(log, this.#ticks, this.#options)
  }
}
