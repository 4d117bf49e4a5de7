/**
 * How much may come in: bytes a second, and bytes under way, of one pchannel and of the node. Whoever comes faster is
 * slowed down first and refused only then (RATE_LIMITED: retriable, not written); it recovers by itself. Listeners are
 * told when the state changes, so that producers can be.
 *
 * Without limits nothing is counted but the bytes under way.
 */
import type { Clock, Timer } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { TokenBucket } from './token-bucket.ts'

export interface AdmissionLimits {
  /** No bound when left out. */
  bytesPerSecond?: number | undefined
  /** What may come at once above the rate; default: what comes in a second. */
  burstBytes?: number | undefined
  /** Bytes that are under way at once, from their admission until they have settled. No bound when left out. */
  memoryBytes?: number | undefined
  /** The longest that an append is held back before it is refused. Default 1,000. */
  delayMsMax?: number | undefined
}

export interface ThrottleState {
  /** `slow`: appends are held back. `refusing`: appends are refused now. */
  readonly state: 'ok' | 'slow' | 'refusing'
  /** What may come in for now; 0: no bound is known. */
  readonly bytesPerSecond: number
}

export interface AdmissionStatistics {
  /** Bytes under way. */
  bytes: number
  delayed: number
  delayedMs: number
  refused: number
}

/** Parts of `memoryBytes`: above the first appends are slowed, above the second refused, until it falls to the third. */
const SLOW_ABOVE = 0.85
const REFUSE_ABOVE = 1
const RECOVERED_BELOW = 0.8
const DELAY_MS_MAX = 1_000

const OK: ThrottleState = { state: 'ok', bytesPerSecond: 0 }

/** One bound: of a pchannel, or of the node, which all its pchannels share. */
export class Admission {
  readonly #clock: Clock
  readonly #name: string
  readonly #bucket: TokenBucket | null
  readonly #memoryBytes: number
  readonly #delayMsMax: number
  readonly #listeners = new Set<(state: ThrottleState) => void>()
  #bytes = 0
  /** By the memory alone; kept until it has recovered. */
  #memory: ThrottleState['state'] = 'ok'
  /** By the rate alone; until the debt is paid. */
  #rate: ThrottleState['state'] = 'ok'
  #recovery: Timer | null = null
  #delayed = 0
  #delayedMs = 0
  #refused = 0
  #told: ThrottleState = OK

  /** `name` as in "pchannel 3" or "the node". INVALID_ARGUMENT for limits that are no positive numbers. */
  constructor(clock: Clock, name: string, limits: AdmissionLimits = {}) {
    const { bytesPerSecond, burstBytes, memoryBytes, delayMsMax = DELAY_MS_MAX } = limits
    for (const [what, value] of Object.entries({ bytesPerSecond, burstBytes, memoryBytes })) {
      if (value !== undefined && !(Number.isFinite(value) && value >= 1)) throw wrong(what, value)
    }
    if (!(Number.isFinite(delayMsMax) && delayMsMax >= 0)) throw wrong('delayMsMax', delayMsMax)
    this.#clock = clock
    this.#name = name
    this.#memoryBytes = memoryBytes ?? Number.POSITIVE_INFINITY
    this.#delayMsMax = delayMsMax
    this.#bucket =
      bytesPerSecond === undefined
        ? null
        : new TokenBucket(() => clock.monotonicMs(), bytesPerSecond, burstBytes ?? bytesPerSecond)
  }

  get state(): ThrottleState {
    return this.#told
  }

  statistics(): AdmissionStatistics {
    return { bytes: this.#bytes, delayed: this.#delayed, delayedMs: this.#delayedMs, refused: this.#refused }
  }

  /** Called at each change of the state. Gives what ends it. */
  onChange(listener: (state: ThrottleState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Counts `bytes` in, until `release`. How many milliseconds they are to be held back; RATE_LIMITED, counting nothing. */
  enter(bytes: number): number {
    const wait = this.#bucket === null ? 0 : this.#bucket.waitMs(bytes)
    if (this.#memoryBytes !== Number.POSITIVE_INFINITY) this.#look(bytes)
    if (wait > this.#delayMsMax || this.#memory === 'refusing') {
      this.#refused++
      if (wait > this.#delayMsMax) this.#rate = 'refusing'
      this.#tell()
      throw this.#refusal(wait)
    }
    this.#bucket?.take(bytes)
    this.#bytes += bytes
    if (wait > 0) this.#rate = 'slow'
    const delay = Math.max(wait, this.#memory === 'slow' ? this.#slowness() : 0)
    if (delay > 0) {
      this.#delayed++
      this.#delayedMs += delay
    }
    if (delay > 0 || this.#told !== OK) this.#tell()
    return delay
  }

  release(bytes: number): void {
    this.#bytes -= bytes
    if (this.#memory !== 'ok') {
      this.#look(0)
      this.#tell()
    }
  }

  close(): void {
    this.#recovery?.cancel()
    this.#recovery = null
    this.#listeners.clear()
  }

  /** What the memory allows, with `bytes` more. One that is larger than the bound is let in when nothing else is there. */
  #look(bytes: number): void {
    const part = this.#bytes === 0 ? 0 : (this.#bytes + bytes) / this.#memoryBytes
    if (part > REFUSE_ABOVE) this.#memory = 'refusing'
    else if (part < RECOVERED_BELOW) this.#memory = 'ok'
    else if (part > SLOW_ABOVE && this.#memory === 'ok') this.#memory = 'slow'
  }

  /** The fuller, the slower. */
  #slowness(): number {
    const part = (this.#bytes / this.#memoryBytes - RECOVERED_BELOW) / (REFUSE_ABOVE - RECOVERED_BELOW)
    return Math.ceil(this.#delayMsMax * Math.min(1, Math.max(0, part)))
  }

  #tell(): void {
    const state = worse(this.#memory, this.#rate)
    const bytesPerSecond = state === 'ok' ? 0 : (this.#bucket?.bytesPerSecond ?? 0)
    if (this.#rate !== 'ok') this.#watchRecovery()
    if (this.#told.state === state) return
    this.#told = state === 'ok' ? OK : { state, bytesPerSecond }
    for (const listener of this.#listeners) listener(this.#told)
  }

  /** Also when nobody comes any more, the state goes back once the debt is paid. */
  #watchRecovery(): void {
    if (this.#recovery !== null) return
    this.#recovery = this.#clock.after(Math.max(1, this.#bucket?.debtMs ?? 0), () => {
      this.#recovery = null
      const debtMs = this.#bucket?.debtMs ?? 0
      this.#rate = debtMs === 0 ? 'ok' : debtMs > this.#delayMsMax ? 'refusing' : 'slow'
      this.#tell()
    })
  }

  #refusal(waitMs: number): TidelogError<'RATE_LIMITED'> {
    const why =
      this.#memory === 'refusing'
        ? `${this.#bytes} bytes are under way and at most ${this.#memoryBytes} may be`
        : `it takes ${this.#bucket!.bytesPerSecond} bytes/s, and this append would wait ${waitMs} ms`
    return new TidelogError('RATE_LIMITED', `${this.#name} refuses appends for now: ${why}. Send again later.`, {
      outcome: 'not-written',
      retriable: true,
    })
  }
}

const RANK = { ok: 0, slow: 1, refusing: 2 } as const

function worse(a: ThrottleState['state'], b: ThrottleState['state']): ThrottleState['state'] {
  return RANK[a] >= RANK[b] ? a : b
}

function wrong(what: string, value: unknown): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', `${what} is ${String(value)}; it has to be a positive number`)
}
