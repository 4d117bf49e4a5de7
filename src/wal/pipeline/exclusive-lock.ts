/**
 * Exclusive messages (DDL, flushes) against everything else. Each append holds its vchannels shared, from before it is
 * deduplicated until it has settled; an exclusive message holds its vchannel, or the whole pchannel, alone. Those that
 * have to wait are served in the order in which they came: one that waits holds back whoever comes behind it and
 * conflicts with it, and nobody else. Nobody waits for a vchannel while holding another, so there is no deadlock.
 *
 * While no exclusive message is there, a hold costs a look-up in a map and a count.
 */
import type { Clock, Timer } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'

export interface ExclusiveLockOptions {
  /** How long an append waits for its turn before TIMEOUT. */
  waitMs: number
  /** Appends that may wait; one more is QUEUE_FULL. */
  waitersMax: number
}

interface Lane {
  shared: number
  exclusive: boolean
  /** Requests that wait and name this vchannel. */
  waiting: number
}

interface Waiter {
  readonly kind: 'shared' | 'exclusive' | 'pchannel'
  readonly vchannels: readonly string[]
  timer: Timer | null
  grant(): void
}

/** With so many lanes those that nobody holds are forgotten. */
const IDLE_LANES_MAX = 4_096

export class ExclusiveLock {
  readonly #clock: Clock
  readonly #options: ExclusiveLockOptions
  readonly #lanes = new Map<string, Lane>()
  /** In the order in which they came. */
  readonly #waiters = new Set<Waiter>()
  #waitingForPchannel = 0
  #lanesMax = IDLE_LANES_MAX
  /** Shared holds, over all vchannels. */
  #shared = 0
  #exclusives = 0
  #pchannelHeld = false
  #waits = 0
  #lastName: string | null = null
  #lastLane: Lane | null = null

  constructor(clock: Clock, options: ExclusiveLockOptions) {
    this.#clock = clock
    this.#options = options
  }

  /** Appends that wait now, and those that ever had to. */
  get statistics(): { waiting: number; waits: number } {
    return { waiting: this.#waiters.size, waits: this.#waits }
  }

  /** True: it is held, and `leaveShared` gives it back. False: somebody is in the way; see `shared`. */
  tryShared(vchannel: string): boolean {
    const lane = this.#lane(vchannel)
    if (!this.#isFree(lane)) return false
    lane.shared++
    this.#shared++
    return true
  }

  /** Null: all are held. QUEUE_FULL at once; the promise rejects with TIMEOUT or ABORTED. All are "not written". */
  shared(vchannels: readonly string[], signal?: AbortSignal): Promise<void> | null {
    if (this.#waiters.size === 0 && this.#exclusives === 0 && !this.#pchannelHeld) {
      this.#holdShared(vchannels)
      return null
    }
    if (vchannels.every((vchannel) => this.#isFree(this.#lane(vchannel)))) {
      this.#holdShared(vchannels)
      return null
    }
    return this.#wait('shared', vchannels, signal)
  }

  leaveShared(vchannel: string): void {
    const lane = this.#lane(vchannel)
    lane.shared--
    this.#shared--
    if (this.#waiters.size === 0) return
    if ((lane.shared === 0 && lane.waiting > 0) || (this.#shared === 0 && this.#waitingForPchannel > 0)) this.#serve()
  }

  leaveAllShared(vchannels: readonly string[]): void {
    for (const vchannel of vchannels) this.leaveShared(vchannel)
  }

  /** The vchannel alone; of the empty name the whole pchannel. As `shared`. */
  exclusive(vchannel: string, signal?: AbortSignal): Promise<void> | null {
    if (vchannel === '') {
      if (this.#waiters.size === 0 && this.#shared === 0 && this.#exclusives === 0 && !this.#pchannelHeld) {
        this.#pchannelHeld = true
        return null
      }
      return this.#wait('pchannel', [], signal)
    }
    const lane = this.#lane(vchannel)
    if (this.#isFree(lane) && lane.shared === 0) {
      lane.exclusive = true
      this.#exclusives++
      return null
    }
    return this.#wait('exclusive', [vchannel], signal)
  }

  leaveExclusive(vchannel: string): void {
    if (vchannel === '') {
      this.#pchannelHeld = false
    } else {
      this.#lane(vchannel).exclusive = false
      this.#exclusives--
    }
    if (this.#waiters.size > 0) this.#serve()
  }

  #isFree(lane: Lane): boolean {
    return !lane.exclusive && lane.waiting === 0 && !this.#pchannelHeld && this.#waitingForPchannel === 0
  }

  #holdShared(vchannels: readonly string[]): void {
    for (const vchannel of vchannels) {
      this.#lane(vchannel).shared++
      this.#shared++
    }
  }

  #lane(vchannel: string): Lane {
    if (vchannel === this.#lastName) return this.#lastLane!
    let lane = this.#lanes.get(vchannel)
    if (lane === undefined) {
      if (this.#lanes.size >= this.#lanesMax) this.#forgetIdle()
      lane = { shared: 0, exclusive: false, waiting: 0 }
      this.#lanes.set(vchannel, lane)
    }
    this.#lastName = vchannel
    this.#lastLane = lane
    return lane
  }

  #forgetIdle(): void {
    for (const [vchannel, lane] of this.#lanes) {
      if (lane.shared === 0 && !lane.exclusive && lane.waiting === 0) this.#lanes.delete(vchannel)
    }
    // Where more are in use at once, the next look comes only after as many again.
    this.#lanesMax = Math.max(IDLE_LANES_MAX, 2 * this.#lanes.size)
    this.#lastName = null
    this.#lastLane = null
  }

  #wait(kind: Waiter['kind'], vchannels: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const { waitMs, waitersMax } = this.#options
    if (this.#waiters.size >= waitersMax) {
      return Promise.reject(
        new TidelogError('QUEUE_FULL', `${waitersMax} appends wait for exclusive messages. Send again later.`, {
          outcome: 'not-written',
          retriable: true,
        }),
      )
    }
    if (signal?.aborted) return Promise.reject(aborted(signal))
    this.#waits++
    return new Promise((resolve, reject) => {
      const leave = () => {
        waiter.timer?.cancel()
        signal?.removeEventListener('abort', onAbort)
        this.#waiters.delete(waiter)
        if (kind === 'pchannel') this.#waitingForPchannel--
        for (const vchannel of vchannels) this.#lane(vchannel).waiting--
      }
      const refuse = (error: unknown) => {
        leave()
        reject(error)
        // Those behind it may have waited for it alone.
        this.#serve()
      }
      const waiter: Waiter = {
        kind,
        vchannels,
        timer: null,
        grant: () => {
          leave()
          resolve()
        },
      }
      const onAbort = () => refuse(aborted(signal!))
      this.#waiters.add(waiter)
      if (kind === 'pchannel') this.#waitingForPchannel++
      for (const vchannel of vchannels) this.#lane(vchannel).waiting++
      signal?.addEventListener('abort', onAbort, { once: true })
      waiter.timer = this.#clock.after(waitMs, () => refuse(this.#late(kind, vchannels)))
    })
  }

  /** Serves whoever can be, in the order in which they came. */
  #serve(): void {
    const held = new Set<string>()
    let isFirst = true
    for (const waiter of this.#waiters) {
      const { kind, vchannels } = waiter
      if (kind === 'pchannel') {
        if (isFirst && this.#shared === 0 && this.#exclusives === 0 && !this.#pchannelHeld) {
          this.#pchannelHeld = true
          waiter.grant()
        }
        return
      }
      if (this.#pchannelHeld) return
      if (vchannels.some((vchannel) => held.has(vchannel) || !this.#isOpen(kind, this.#lane(vchannel)))) {
        for (const vchannel of vchannels) held.add(vchannel)
        isFirst = false
        continue
      }
      if (kind === 'shared') {
        this.#holdShared(vchannels)
      } else {
        this.#lane(vchannels[0]!).exclusive = true
        this.#exclusives++
      }
      waiter.grant()
    }
  }

  #isOpen(kind: Waiter['kind'], lane: Lane): boolean {
    return !lane.exclusive && (kind === 'shared' || lane.shared === 0)
  }

  #late(kind: Waiter['kind'], vchannels: readonly string[]): TidelogError {
    const what = vchannels.length === 1 ? `vchannel "${vchannels[0]}"` : 'its vchannels'
    return new TidelogError(
      'TIMEOUT',
      kind === 'shared'
        ? `an exclusive message had ${what} for longer than ${this.#options.waitMs} ms`
        : `${kind === 'pchannel' ? 'the pchannel' : what} was not free for an exclusive message within ${this.#options.waitMs} ms`,
      { outcome: 'not-written', retriable: true },
    )
  }
}

function aborted(signal: AbortSignal): TidelogError {
  return new TidelogError('ABORTED', 'the append was aborted before it was written', {
    outcome: 'not-written',
    cause: signal.reason,
  })
}
