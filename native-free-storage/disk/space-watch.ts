/**
 * Watches the room on the file system that holds a directory: warns, refuses appends while too little is left, and
 * takes them again by itself when there is room. A full disk is no danger to what was acknowledged (the engine refuses
 * with DISK_FULL); it is one to everything else that writes there, and to the repair of it.
 *
 * The file system is asked every few seconds and, while much is written, after a share of what is left: never for each
 * append. Between two answers what was admitted is counted, and a burst that may have used up half of the room between
 * the limit and the end is refused until the next answer. An append that is not settled when the file system is asked
 * may not be in its answer, and is counted on.
 *
 * A file system that does not answer, or answers with an error, stops nothing: the state is `unknown`, and everything
 * is admitted.
 *
 * Used by the daemon for all logs of a data directory; with `openLog` alone, ask `admit` before an append and tell
 * `settled` after it.
 */
import type { Environment, Timer } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { type DiskSpace, isDiskError } from './disk.ts'

/** An amount takes the place of the percentage. 100 %, or an amount of 0: never. */
export interface SpaceLimit {
  /** Of what an unprivileged user can use altogether, as `df` counts it. */
  usedPercent: number
  /** This much left, or less. */
  freeBytes?: number | null | undefined
}

export interface SpaceLimits {
  warn: SpaceLimit
  refuse: SpaceLimit
}

export type SpaceState = 'unknown' | 'ok' | 'warning' | 'refusing'

export interface SpaceStatus {
  state: SpaceState
  /** Why, in words; empty when there is nothing to say. */
  message: string
  /** As of the last answer; null before the first one. */
  usedBytes: number | null
  /** What an unprivileged writer may still use. */
  freeBytes: number | null
  /** Appends and creations that were refused since the start. */
  refusals: number
}

export interface SpaceWatchOptions {
  /** What the file system says; default: the environment's disk. */
  measure?: (() => Promise<DiskSpace>) | undefined
  /** Called at each change of state. */
  onChange?: ((status: SpaceStatus, before: SpaceState) => void) | undefined
}

const INTERVAL_MS = 5_000
/** While appends are refused, or nothing is known. */
const INTERVAL_URGENT_MS = 1_000
/** An answer that takes longer is not waited for. */
const ANSWER_MS_MAX = 1_000
/** So much admitted makes it look again, however much is left. */
const LOOK_BYTES_MAX = 64 * 1024 * 1024
/** What a frame takes on the disk besides its body: its header, and padding to the next sector. */
const FRAME_OVERHEAD_BYTES = 1024
/** A limit that was reached is left again when a tenth more than its room is free. */
const LEAVE_FACTOR = 1.1

/** Settles with the first answer of the file system, or when there is none in time. Never rejects. */
export async function openSpaceWatch(
  environment: Environment,
  directory: string,
  limits: SpaceLimits,
  options: SpaceWatchOptions = {},
): Promise<SpaceWatch> {
  const watch = new SpaceWatch(environment, directory, limits, options)
  await watch.look()
  return watch
}

export class SpaceWatch {
  readonly #clock: Environment['clock']
  readonly #directory: string
  readonly #limits: SpaceLimits
  readonly #measure: () => Promise<DiskSpace>
  readonly #onChange: ((status: SpaceStatus, before: SpaceState) => void) | undefined
  #state: SpaceState = 'unknown'
  #space: { usedBytes: number; freeBytes: number } | null = null
  #fault = ''
  #faultTold = false
  #refusals = 0
  /** Admitted and not settled. */
  #outstanding = 0
  /** May have been written since the last answer. */
  #spent = 0
  /** Admitted since the file system was asked last. */
  #sinceAsked = 0
  #lookAt = Number.POSITIVE_INFINITY
  #stopAt = Number.POSITIVE_INFINITY
  #looking: Promise<void> | null = null
  #timer: Timer | null = null
  #closed = false

  constructor(environment: Environment, directory: string, limits: SpaceLimits, options: SpaceWatchOptions) {
    this.#clock = environment.clock
    this.#directory = directory
    this.#limits = limits
    this.#measure = options.measure ?? (() => environment.disk.space(directory))
    this.#onChange = options.onChange
  }

  get state(): SpaceState {
    return this.#state
  }

  status(): SpaceStatus {
    return {
      state: this.#state,
      message: this.#message(),
      usedBytes: this.#space?.usedBytes ?? null,
      freeBytes: this.#space?.freeBytes ?? null,
      refusals: this.#refusals,
    }
  }

  /**
   * Null: `bytes` may be written; `settled` has to be told when they are, or are not. Otherwise why not:
   * DISK_NEARLY_FULL, retriable, not written. Synchronous, and no call of the system.
   */
  admit(bytes: number): TidelogError | null {
    const cost = bytes + FRAME_OVERHEAD_BYTES
    if (this.#state === 'refusing') return this.#refuse()
    if (this.#spent + cost > this.#stopAt) {
      void this.look()
      return this.#refuse()
    }
    this.#spent += cost
    this.#sinceAsked += cost
    this.#outstanding += cost
    if (this.#sinceAsked > this.#lookAt) void this.look()
    return null
  }

  /** What `admit` let pass has been written or has failed. */
  settled(bytes: number): void {
    this.#outstanding -= bytes + FRAME_OVERHEAD_BYTES
  }

  /** Asks the file system now, unless it is being asked. Settles with its answer, or when there is none in time. */
  look(): Promise<void> {
    if (this.#closed) return Promise.resolve()
    this.#looking ??= this.#look()
    return this.#looking
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
  }

  #look(): Promise<void> {
    const carried = this.#outstanding
    this.#sinceAsked = 0
    this.#timer?.cancel()
    return new Promise((resolve) => {
      const late = this.#clock.after(ANSWER_MS_MAX, () => {
        if (!this.#closed) this.#enterUnknown(`it has not answered within ${ANSWER_MS_MAX / 1000} s`)
        resolve()
      })
      const answered = (enter: () => void): void => {
        late.cancel()
        this.#looking = null
        if (!this.#closed) {
          enter()
          this.#arm()
        }
        resolve()
      }
      this.#measure().then(
        (space) => answered(() => this.#enter(space, carried)),
        (error: unknown) => answered(() => this.#enterUnknown(isDiskError(error) ? error.code : String(error))),
      )
    })
  }

  #arm(): void {
    const urgent = this.#state === 'refusing' || this.#state === 'unknown'
    this.#timer = this.#clock.after(urgent ? INTERVAL_URGENT_MS : INTERVAL_MS, () => void this.look())
  }

  #enter({ totalBytes, freeBytes, usedBytes = totalBytes - freeBytes }: DiskSpace, carried: number): void {
    this.#space = { usedBytes, freeBytes }
    this.#fault = ''
    this.#faultTold = false
    this.#spent = carried + this.#sinceAsked
    const refuseAt = this.#freeAt(this.#limits.refuse)
    const warnAt = this.#freeAt(this.#limits.warn)
    const room = Math.max(0, freeBytes - refuseAt)
    this.#lookAt = Math.min(LOOK_BYTES_MAX, Math.max(room / 4, refuseAt / 8))
    this.#stopAt = refuseAt === 0 ? Number.POSITIVE_INFINITY : freeBytes - refuseAt / 2
    const before = this.#state
    if (this.#isReached(refuseAt, before === 'refusing')) this.#change('refusing')
    else if (this.#isReached(warnAt, before === 'warning' || before === 'refusing')) this.#change('warning')
    else this.#change('ok')
  }

  #enterUnknown(fault: string): void {
    this.#fault = fault
    this.#lookAt = Number.POSITIVE_INFINITY
    this.#stopAt = Number.POSITIVE_INFINITY
    const before = this.#state
    this.#state = 'unknown'
    if (this.#faultTold) return
    this.#faultTold = true
    this.#onChange?.(this.status(), before)
  }

  #change(state: SpaceState): void {
    const before = this.#state
    if (state === before) return
    this.#state = state
    this.#onChange?.(this.status(), before)
  }

  #isReached(limit: number, held: boolean): boolean {
    if (limit === 0) return false
    return this.#space!.freeBytes <= (held ? this.#leaveAt(limit) : limit)
  }

  /** Free bytes at which the limit is reached; 0: never. */
  #freeAt({ usedPercent, freeBytes }: SpaceLimit): number {
    if (freeBytes !== null && freeBytes !== undefined) return freeBytes
    return (this.#usable() * (100 - usedPercent)) / 100
  }

  /** Above this many free bytes the limit is left again. */
  #leaveAt(limit: number): number {
    return Math.min(limit * LEAVE_FACTOR, Math.max(limit, (limit + this.#usable()) / 2))
  }

  #usable(): number {
    return this.#space!.usedBytes + this.#space!.freeBytes
  }

  #refuse(): TidelogError {
    this.#refusals++
    const why =
      this.#state === 'refusing' ? this.#message() : `${this.#fullness()}, and more may have been written since`
    return new TidelogError(
      'DISK_NEARLY_FULL',
      `${why}. Nothing of this was written; make room, and send again: it is taken as soon as there is room.`,
      { outcome: 'not-written', retriable: true },
    )
  }

  #message(): string {
    if (this.#state === 'unknown') {
      return this.#fault === ''
        ? ''
        : `the file system of ${this.#directory} does not say how full it is (${this.#fault}); appends are taken all the same`
    }
    if (this.#state === 'ok') return ''
    const refuseAt = this.#freeAt(this.#limits.refuse)
    if (this.#state === 'refusing') {
      return `${this.#fullness()}: appends are refused until more than ${bytesText(this.#leaveAt(refuseAt))} are free`
    }
    return refuseAt === 0 ? this.#fullness() : `${this.#fullness()}: appends are refused at ${bytesText(refuseAt)} free`
  }

  #fullness(): string {
    const { usedBytes, freeBytes } = this.#space!
    const percent = ((100 * usedBytes) / Math.max(1, this.#usable())).toFixed(1)
    return `the file system of ${this.#directory} is ${percent} % full, ${bytesText(freeBytes)} are free`
  }
}

function bytesText(bytes: number): string {
  if (bytes < 10e6) return `${Math.floor(bytes / 1e3)} kB`
  return bytes < 10e9 ? `${Math.floor(bytes / 1e6)} MB` : `${Math.floor(bytes / 1e9)} GB`
}
