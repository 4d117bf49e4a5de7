/**
 * Gives time ticks: a hybrid logical clock, `max(clock, last + 1)`, below a durable bound (DESIGN: time ticks). One
 * oracle serves one embedded log, or all the logs of a daemon's data directory.
 */
import type { Clock, Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { LeaseFile, readLease } from './lease-file.ts'

/** Bits of the logical counter below the milliseconds. */
const LOGICAL_BITS = 18n
/** How far ahead of the ticks given so far a barrier tick, or a step of the wall clock, may be. */
export const DEFAULT_MAX_TICK_LEAD_MS = 10_000
/** A clock that is further ahead is followed at this many times the speed of the monotonic clock. */
const CATCH_UP_RATE = 2
/** What an extension adds, and the rest at which the next one starts: idle, one write in 4 s. */
const LEASE_MS = 6_000
const LEASE_MARGIN_MS = 2_000

export interface TickOracle {
  /**
   * The first of `count` consecutive ticks, greater than every tick given before and not below `notBefore`; null when
   * the durable bound has to be raised first: await `extended()` and ask again. Throws TICK_TOO_FAR_AHEAD (not
   * written) for a `notBefore` that leads by more than the limit.
   */
  take(count: number, notBefore: bigint): bigint | null
  /**
   * Settles when the bound has been raised; rejects with IO_FAILED or FENCED when it never will be, with DISK_FULL when
   * there was no room: then `take` tries again.
   */
  extended(): Promise<void>
  /** A tick that is in a log: everything given from now on is greater. */
  observe(tick: bigint): void
  /** The last tick given or observed. */
  readonly last: bigint
  /** In words, when the wall clock is followed at a bounded rate; else empty. */
  readonly warning: string
  close(): Promise<void>
}

export function tickOf(ms: number): bigint {
  return BigInt(Math.max(0, Math.floor(ms))) << LOGICAL_BITS
}

export function tickToMs(tick: bigint): number {
  return Number(tick >> LOGICAL_BITS)
}

export interface TickOracleOptions {
  maxTickLeadMs?: number
  stillOwner?: () => boolean | Promise<boolean>
}

/** An oracle whose lease lives in `directory`. */
export async function openTickOracle(
  environment: Environment,
  directory: string,
  options: TickOracleOptions = {},
): Promise<TickOracle> {
  await loadChecksum()
  const found = await readLease(environment, directory)
  const bounds = { tickBound: found?.tickBound ?? 0n, lsnBound: found?.lsnBound ?? 0 }
  const lease = new LeaseFile(environment, directory, bounds, options.stillOwner ?? (() => true))
  return new LeasedTickOracle(environment.clock, lease, options.maxTickLeadMs ?? DEFAULT_MAX_TICK_LEAD_MS, true)
}

export class LeasedTickOracle implements TickOracle {
  readonly #clock: Clock
  readonly #lease: LeaseFile
  readonly #ownsLease: boolean
  readonly #maxLeadMs: number
  #last: bigint
  readonly #atStart: bigint
  #bound: bigint
  /** The wall clock as it was last followed, and the monotonic time of that look. */
  #followedMs: number
  #lookedAtMs: number
  #extending: Promise<void> | null = null
  #failure: unknown = null
  #warning = ''

  constructor(clock: Clock, lease: LeaseFile, maxLeadMs: number, ownsLease: boolean) {
    this.#clock = clock
    this.#lease = lease
    this.#ownsLease = ownsLease
    this.#maxLeadMs = maxLeadMs
    this.#bound = lease.bounds.tickBound
    // The predecessor may have given everything below its bound.
    this.#last = this.#bound > 0n ? this.#bound - 1n : 0n
    this.#atStart = this.#last
    this.#followedMs = Math.max(clock.nowMs(), tickToMs(this.#last))
    this.#lookedAtMs = clock.monotonicMs()
  }

  get last(): bigint {
    return this.#last
  }

  get warning(): string {
    return this.#warning
  }

  observe(tick: bigint): void {
    if (tick > this.#last) this.#last = tick
    this.#followedMs = Math.max(this.#followedMs, tickToMs(tick))
  }

  take(count: number, notBefore: bigint): bigint | null {
    const nowTick = tickOf(this.#followClock())
    let first = this.#last + 1n
    if (nowTick > first) first = nowTick
    if (notBefore > first) {
      const lead = tickToMs(notBefore) - tickToMs(first)
      if (lead > this.#maxLeadMs) {
        throw new TidelogError(
          'TICK_TOO_FAR_AHEAD',
          `the barrier tick ${notBefore} leads this node's clock by ${lead} ms; at most ${this.#maxLeadMs} ms are allowed. Check the clocks of both machines.`,
          { outcome: 'not-written', retriable: true },
        )
      }
      first = notBefore
    }
    const after = first + BigInt(count)
    if (after > this.#bound) {
      this.#extend(after)
      return null
    }
    if (this.#bound - after < tickOf(LEASE_MARGIN_MS)) this.#extend(after)
    this.#last = after - 1n
    return first
  }

  extended(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    return this.#extending ?? Promise.resolve()
  }

  async close(): Promise<void> {
    await this.#extending?.catch(() => {})
    if (this.#failure === null && this.#last > this.#atStart) {
      // Nothing above `last` was given: the next owner need not leap over the rest of the lease.
      await this.#lease.write({ tickBound: this.#last + 1n }).catch(() => {})
    }
    this.#failure ??= new TidelogError('CLOSED', 'the tick oracle is closed', { outcome: 'not-written' })
    this.#bound = 0n
    if (this.#ownsLease) await this.#lease.close()
  }

  /** The wall clock, but never back, and after a leap forward only at a bounded rate. */
  #followClock(): number {
    const wallMs = this.#clock.nowMs()
    const monotonicMs = this.#clock.monotonicMs()
    const elapsedMs = monotonicMs - this.#lookedAtMs
    this.#lookedAtMs = monotonicMs
    if (wallMs - (this.#followedMs + elapsedMs) > this.#maxLeadMs) {
      this.#followedMs += elapsedMs * CATCH_UP_RATE
      this.#warning = `the clock is ${Math.round((wallMs - this.#followedMs) / 1000)} s ahead of the ticks; they follow at a bounded rate`
    } else {
      if (wallMs > this.#followedMs) this.#followedMs = wallMs
      this.#warning = ''
    }
    return this.#followedMs
  }

  #extend(needed: bigint): void {
    if (this.#extending !== null || this.#failure !== null) return
    const bound = needed + tickOf(LEASE_MS)
    this.#extending = this.#lease
      .write({ tickBound: bound })
      .then(
        () => {
          this.#bound = bound
        },
        (cause) => {
          // Without room the next one who asks tries again.
          if (cause instanceof TidelogError && cause.code === 'DISK_FULL') throw cause
          this.#failure =
            cause instanceof TidelogError
              ? cause
              : new TidelogError('IO_FAILED', 'the tick lease could not be extended: no further tick may be given', {
                  outcome: 'not-written',
                  cause,
                })
          throw this.#failure
        },
      )
      .finally(() => {
        this.#extending = null
      })
    this.#extending.catch(() => {})
  }
}
