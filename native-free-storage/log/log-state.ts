/** What readers see of a log (log-view.ts), and the one place where it changes. */

import type { CacheBudget } from '../cache/frame-cache.ts'
import { FrameCache } from '../cache/frame-cache.ts'
import type { Environment } from '../environment.ts'
import type { TidelogError } from '../errors.ts'
import type { LogOrigin } from '../format/manifest.ts'
import type { Lineage } from '../segment/lineage.ts'
import type { DurableEnd, LogView, SegmentEntry } from './log-view.ts'

export class LogState implements LogView {
  readonly environment: Environment
  readonly directory: string
  readonly logId: string
  readonly origins: readonly LogOrigin[]
  readonly cache: FrameCache
  /** Nothing of the log may be written to, not even an index. */
  readOnly = false
  #segments: readonly SegmentEntry[] = []
  #durableEnd: DurableEnd | null = null
  #firstLsn = 0
  #nextLsn = 0
  #ended: TidelogError | null = null
  #changed: Promise<void> | null = null
  #announce: (() => void) | null = null

  constructor(environment: Environment, directory: string, lineage: Lineage, budget: CacheBudget) {
    this.environment = environment
    this.directory = directory
    this.logId = lineage.logId
    this.origins = lineage.origins
    this.cache = new FrameCache(budget)
  }

  get segments(): readonly SegmentEntry[] {
    return this.#segments
  }

  get durableEnd(): DurableEnd | null {
    return this.#durableEnd
  }

  get firstLsn(): number {
    return this.#firstLsn
  }

  /** One above the last durable LSN. */
  get nextLsn(): number {
    return this.#nextLsn
  }

  get ended(): TidelogError | null {
    return this.#ended
  }

  changed(): Promise<void> {
    this.#changed ??= new Promise((resolve) => {
      this.#announce = resolve
    })
    return this.#changed
  }

  announce(): void {
    const announce = this.#announce
    this.#changed = null
    this.#announce = null
    announce?.()
  }

  setSegments(segments: readonly SegmentEntry[]): void {
    this.#segments = segments
  }

  /** Call `announce()` when all that belongs to the step is in place. */
  setDurableEnd(end: DurableEnd | null, nextLsn: number): void {
    this.#durableEnd = end
    this.#nextLsn = nextLsn
  }

  setFirstLsn(lsn: number): void {
    this.#firstLsn = lsn
  }

  end(reason: TidelogError): void {
    if (this.#ended !== null) return
    this.#ended = reason
    this.announce()
  }
}
