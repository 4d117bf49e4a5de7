/** A log in memory: what outlives each opening of it. */
import { TidelogError } from '../errors.ts'
import type { SnapshotStore } from './log-store.ts'
import type { MemoryFrame } from './memory-frame.ts'

const SNAPSHOTS_KEPT = 2

export class MemoryLog {
  readonly name: string
  #frames: MemoryFrame[] = []
  /** Newest first. */
  #snapshots: { lsn: number; bytes: Buffer }[] = []
  #bytes = 0
  #firstLsn = 0
  #nextLsn = 0
  #lastTimeTick = 0n
  #ownerTerm = 0
  #incarnation = 0
  #wake: (() => void) | null = null
  #changed: Promise<void> | null = null

  constructor(name: string) {
    this.name = name
  }

  /** Of the bodies. */
  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0
  }

  get firstLsn(): number {
    return this.#firstLsn
  }

  get nextLsn(): number {
    return this.#nextLsn
  }

  get lastTimeTick(): bigint {
    return this.#lastTimeTick
  }

  get ownerTerm(): number {
    return this.#ownerTerm
  }

  /** Counted up at each opening: whoever has a smaller one is fenced. */
  get incarnation(): number {
    return this.#incarnation
  }

  /** Settles at the next `announce()`. */
  changed(): Promise<void> {
    this.#changed ??= new Promise((resolve) => {
      this.#wake = resolve
    })
    return this.#changed
  }

  announce(): void {
    const wake = this.#wake
    this.#wake = null
    this.#changed = null
    wake?.()
  }

  /** Throws TERM_STALE. */
  takeOver(ownerTerm: number): void {
    if (ownerTerm < this.#ownerTerm) {
      throw new TidelogError(
        'TERM_STALE',
        `log ${this.name} was opened at owner term ${this.#ownerTerm}; ${ownerTerm} is older and may not write`,
      )
    }
    this.#ownerTerm = ownerTerm
    this.#incarnation += 1
    // The one before learns here that it is fenced, even if it never appends again.
    this.announce()
  }

  /** At the end of the log. */
  add(frame: MemoryFrame): void {
    this.#frames.push(frame)
    this.#bytes += frame.bytes.length
    this.#nextLsn = frame.baseLsn + frame.recordCount
    this.#lastTimeTick = frame.baseTimeTick + BigInt(frame.recordCount - 1)
  }

  /** The first frame whose last LSN is not below `lsn`. */
  frameAt(lsn: number): MemoryFrame | undefined {
    return this.#frames[this.#indexOf(lsn)]
  }

  /** `floor`: how far a truncation to an LSN may go. Throws INVALID_ARGUMENT. */
  truncateBefore(asked: number, floor: ((lsn: number) => number) | null): void {
    if (!Number.isSafeInteger(asked) || asked < 0 || asked > this.#nextLsn) {
      throw new TidelogError('INVALID_ARGUMENT', `log ${this.name} ends before LSN ${this.#nextLsn}, not at ${asked}`, {
        lsn: asked,
      })
    }
    const lsn = floor === null ? asked : Math.min(asked, floor(asked))
    if (lsn <= this.#firstLsn) return
    this.#firstLsn = lsn
    const kept = this.#indexOf(lsn)
    for (const frame of this.#frames.slice(0, kept)) this.#bytes -= frame.bytes.length
    this.#frames = this.#frames.slice(kept)
    this.announce()
  }

  /** Those that fit the log as it is now, newest first. */
  snapshots(): Awaited<ReturnType<SnapshotStore['load']>> {
    return this.#snapshots.filter(({ lsn }) => lsn >= this.#firstLsn && lsn <= this.#nextLsn)
  }

  /** Throws INVALID_ARGUMENT. */
  addSnapshot(lsn: number, bytes: Uint8Array): void {
    const frame = this.frameAt(lsn)
    const isInside = frame !== undefined && frame.baseLsn < lsn
    if (!Number.isSafeInteger(lsn) || lsn < 0 || lsn > this.#nextLsn || isInside) {
      throw new TidelogError('INVALID_ARGUMENT', `log ${this.name}: no frame ends before LSN ${lsn}`, { lsn })
    }
    const older = this.#snapshots.filter((other) => other.lsn < lsn)
    this.#snapshots = [{ lsn, bytes: Buffer.from(bytes) }, ...older].slice(0, SNAPSHOTS_KEPT)
  }

  #indexOf(lsn: number): number {
    let low = 0
    let high = this.#frames.length
    while (low < high) {
      const middle = (low + high) >> 1
      const frame = this.#frames[middle]!
      if (frame.baseLsn + frame.recordCount <= lsn) low = middle + 1
      else high = middle
    }
    return low
  }
}
