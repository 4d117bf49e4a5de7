/**
 * LSNs and ticks: given to frames one after the other, in the order of the log, below the leases that bound them. An LSN
 * is given again only when its frame is known not to be in the log; a tick never is.
 */
import type { TidelogError } from '../errors.ts'
import { FrameKind } from '../format/frame-header.ts'
import { payloadChanged } from './append-errors.ts'
import type { Placement } from './flush.ts'
import type { LeaseFile } from './lease-file.ts'
import type { PendingFrame } from './pending-frame.ts'
import type { TickOracle } from './tick-oracle.ts'

/** LSNs that a lease takes in advance at durability `os`. */
const LSN_LEASE = 1_000_000

export class FrameNumbering {
  readonly #ticks: TickOracle
  /** Null at level `disk`. */
  readonly #lsnLease: LeaseFile | null
  #nextLsn: number
  #lastTick: bigint

  constructor(ticks: TickOracle, lsnLease: LeaseFile | null, nextLsn: number, lastTick: bigint) {
    this.#ticks = ticks
    this.#lsnLease = lsnLease
    this.#nextLsn = nextLsn
    this.#lastTick = lastTick
  }

  get nextLsn(): number {
    return this.#nextLsn
  }

  /**
   * Gives the frame its LSNs and ticks. An error: the frame is refused. A promise: a lease is being extended, and the
   * frame has to be asked for again when that has settled. With either nothing was given.
   */
  number(pending: PendingFrame): Placement | TidelogError | Promise<void> {
    if (this.#lsnLease !== null && this.#nextLsn + pending.lsnCount > this.#lsnLease.bounds.lsnBound) {
      return this.#lsnLease.write({ lsnBound: this.#nextLsn + pending.lsnCount + LSN_LEASE })
    }
    if (!pending.isIntact()) return payloadChanged()
    let baseTimeTick = this.#lastTick + 1n
    const ticks = pending.kind === FrameKind.timeTick ? 1 : pending.recordCount
    if (ticks > 0) {
      let given: bigint | null
      try {
        const notBefore = pending.barrierTick > baseTimeTick ? pending.barrierTick : baseTimeTick
        given = this.#ticks.take(ticks, notBefore)
      } catch (error) {
        return error as TidelogError
      }
      if (given === null) return this.#ticks.extended()
      baseTimeTick = given
    }
    // The last question: whoever is admitted is placed.
    const refusal = pending.admit?.() ?? null
    if (refusal !== null) return refusal as TidelogError
    if (ticks > 0) this.#lastTick = baseTimeTick + BigInt(ticks - 1)
    const placement = { pending, baseLsn: this.#nextLsn, baseTimeTick }
    this.#nextLsn += pending.lsnCount
    return placement
  }

  /** The frames from `nextLsn` on are not in the log, and never will be: their LSNs are given again. */
  takeBack(nextLsn: number): void {
    this.#nextLsn = nextLsn
  }

  /** A tick above all that were given, for a watermark; null while the lease of ticks is extended. */
  now(): bigint | null {
    return this.#ticks.take(1, 0n)
  }

  /** No gap is owed for LSNs of a former lease: what there was is durable. */
  gapWritten(): void {
    this.#lsnLease?.gapWritten()
  }

  /** The writer has failed: LSNs below the bound of the lease may be in the log. */
  doubt(): void {
    this.#lsnLease?.doubt()
  }

  /** All that was given is in the log, which is closed: the next opening needs no gap. */
  async close(): Promise<void> {
    await this.#lsnLease?.write({ lsnBound: this.#nextLsn })
  }
}
