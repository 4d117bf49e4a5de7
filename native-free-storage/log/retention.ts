/** Retention by bytes and by age: which segments are kept, and when somebody looks. It removes by truncation alone. */
import type { Timer } from '../environment.ts'
import { SegmentFiles } from '../segment/segment-file.ts'
import type { RetentionLimits } from './log-options.ts'
import type { LogState } from './log-state.ts'
import type { SegmentEntry } from './log-view.ts'
import { tickToMs } from './tick-oracle.ts'

/** How often retention by age looks at the log when nothing else makes it. */
const INTERVAL_MS = 10_000

/** What retention works on. */
export interface RetainedLog {
  /** Of the segment that is being written to. */
  readonly activeBytes: number
  truncateBefore(lsn: number): Promise<void>
}

export class Retention {
  readonly #state: LogState
  readonly #log: RetainedLog
  #limits: RetentionLimits
  #timer: Timer | null = null
  #running: Promise<void> | null = null
  #stopped = false
  /** Of files whose end is not known. */
  readonly #bytesOf = new WeakMap<SegmentEntry, number>()

  constructor(state: LogState, log: RetainedLog, limits: RetentionLimits) {
    this.#state = state
    this.#log = log
    this.#limits = limits
    this.#arm()
  }

  /** They are applied in the background. */
  setLimits(limits: RetentionLimits): void {
    this.#limits = limits
    this.#arm()
    this.notice()
  }

  /** Something has changed: a segment was finished, or time has passed. */
  notice(): void {
    if (this.#running !== null || this.#stopped) return
    if (this.#limits.bytes === undefined && this.#limits.ageMs === undefined) return
    this.#running = this.#apply()
      .catch(() => {
        // What stands in its way (a damaged header, a full disk) is met and told by readers and writers.
      })
      .finally(() => {
        this.#running = null
      })
  }

  /** Settles when nothing is under way. Never rejects. */
  async settled(): Promise<void> {
    await this.#running
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  /** Of the segment's file; undefined: nobody has measured it yet. */
  knownBytes(entry: SegmentEntry): number | undefined {
    return entry.end?.position ?? this.#bytesOf.get(entry)
  }

  #arm(): void {
    if (this.#timer !== null || this.#limits.ageMs === undefined || this.#stopped) return
    this.#timer = this.#state.environment.clock.after(INTERVAL_MS, () => {
      this.#timer = null
      this.notice()
      this.#arm()
    })
  }

  async #apply(): Promise<void> {
    const { bytes: bytesMax, ageMs } = this.#limits
    const { segments, environment, directory } = this.#state
    let keepFrom = 0
    if (bytesMax !== undefined) {
      let sum = this.#log.activeBytes
      keepFrom = segments.length - 1
      while (keepFrom > 0) {
        sum += await this.#fileBytes(segments[keepFrom - 1]!)
        if (sum > bytesMax) break
        keepFrom--
      }
    }
    if (ageMs !== undefined) {
      const files = new SegmentFiles(environment, directory, this.#state)
      const oldestMs = environment.clock.nowMs() - ageMs
      // The header of the next segment bounds the ticks of this one from above.
      while (keepFrom < segments.length - 1) {
        const next = await files.header(segments[keepFrom + 1]!)
        if (next.baseTimeTick === 0n || tickToMs(next.baseTimeTick) >= oldestMs) break
        keepFrom++
      }
    }
    const first = segments[keepFrom]
    if (keepFrom > 0 && first !== undefined && !this.#stopped) await this.#log.truncateBefore(first.baseLsn)
  }

  async #fileBytes(entry: SegmentEntry): Promise<number> {
    const known = this.knownBytes(entry)
    if (known !== undefined) return known
    const file = await this.#state.environment.disk.open(`${this.#state.directory}/${entry.name}`, 'read')
    try {
      const bytes = await file.size()
      this.#bytesOf.set(entry, bytes)
      return bytes
    } finally {
      await file.close()
    }
  }
}
