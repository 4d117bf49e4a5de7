/**
 * Takes units through the stages into the log: what has to be asked is asked in order, and in one turn with the last
 * question the frame enters the log's queue. What settles is told to the state and to the stages in LSN order.
 *
 * No stage that has nothing to wait for makes a promise: such a unit enters the log within the call.
 */
import { TidelogError } from '../../errors.ts'
import type { AppendedRange, LogStore } from '../../log-store/log-store.ts'
import type { Effect } from '../effect.ts'
import { withoutVoids } from '../effects-of.ts'
import type { WalError } from '../types.ts'
import type { ExclusiveLock } from './exclusive-lock.ts'
import type { AppendUnit, Stage, UnitResult } from './interceptor.ts'

/** How an append stands. */
export interface StartedAppend {
  /**
   * Null: it entered the log's queue, or was answered or refused, within the call. Else settles (never rejects) when that
   * has happened: whoever wants its frames in order gives the next one then.
   */
  readonly entered: Promise<void> | null
  readonly settled: Promise<UnitResult>
}

/** What the log says of a durable frame, in LSN order: void rows are left out. */
export type ApplyEffects = (effects: readonly Effect[], range: AppendedRange) => void

export class AppendPipeline {
  readonly #store: LogStore
  readonly #lock: ExclusiveLock
  readonly #stages: readonly Stage[]
  readonly #apply: ApplyEffects
  #underWay = 0
  #onIdle: (() => void) | null = null

  /** `stages`: asked for units that have effects, in this order, while the lock is held. */
  constructor(store: LogStore, lock: ExclusiveLock, stages: readonly Stage[], apply: ApplyEffects) {
    this.#store = store
    this.#lock = lock
    this.#stages = stages
    this.#apply = apply
  }

  get underWay(): number {
    return this.#underWay
  }

  /** Settles when nothing is under way. */
  idle(): Promise<void> {
    if (this.#underWay === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.#onIdle
      this.#onIdle = () => {
        before?.()
        resolve()
      }
    })
  }

  /** Of appends that take the short way past the stages: the caller counts them in and out. */
  begin(): void {
    this.#underWay++
  }

  end(): void {
    this.#underWay--
    if (this.#underWay > 0 || this.#onIdle === null) return
    const onIdle = this.#onIdle
    this.#onIdle = null
    onIdle()
  }

  /** Never throws: what is wrong is what `settled` rejects with. */
  run(unit: AppendUnit, onSettled?: (result: UnitResult) => void): StartedAppend {
    return new Passage(this, unit, onSettled ?? null).start()
  }

  // What a passage needs.

  get store(): LogStore {
    return this.#store
  }

  get lock(): ExclusiveLock {
    return this.#lock
  }

  get stages(): readonly Stage[] {
    return this.#stages
  }

  applied(unit: AppendUnit, range: AppendedRange): void {
    if (unit.effects.length > 0) this.#apply(withoutVoids(unit.effects, unit.voids), range)
  }

  /** Of appends that take the short way. In LSN order. */
  apply(effects: readonly Effect[], range: AppendedRange): void {
    this.#apply(effects, range)
  }
}

/** One unit on its way. */
class Passage {
  readonly #pipeline: AppendPipeline
  readonly #unit: AppendUnit
  readonly #onSettled: ((result: UnitResult) => void) | null
  readonly #stages: readonly Stage[]
  #isLocked = false
  /** Stages whose `before` has passed. */
  #passed = 0
  #isOver = false
  #resolve!: (result: UnitResult) => void
  #reject!: (error: unknown) => void
  #enter: (() => void) | null = null
  #stopListening: (() => void) | null = null

  constructor(pipeline: AppendPipeline, unit: AppendUnit, onSettled: ((result: UnitResult) => void) | null) {
    this.#pipeline = pipeline
    this.#unit = unit
    this.#onSettled = onSettled
    this.#stages = unit.effects.length === 0 ? [] : pipeline.stages
  }

  start(): StartedAppend {
    const settled = new Promise<UnitResult>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#pipeline.begin()
    const waiting = this.#takeLock()
    if (waiting === null) {
      this.#isLocked = true
      this.#advance()
    } else {
      waiting.then(
        () => {
          this.#isLocked = true
          this.#advance()
        },
        (error: unknown) => this.#fail(error),
      )
    }
    if (this.#isOver) return { entered: null, settled }
    const entered = new Promise<void>((resolve) => {
      this.#enter = resolve
    })
    return { entered, settled }
  }

  #takeLock(): Promise<void> | null {
    const { exclusive, vchannels, signal } = this.#unit
    const { lock } = this.#pipeline
    return exclusive === null ? lock.shared(vchannels, signal) : lock.exclusive(exclusive.vchannel, signal)
  }

  #leaveLock(): void {
    if (!this.#isLocked) return
    this.#isLocked = false
    const { exclusive, vchannels } = this.#unit
    if (exclusive === null) this.#pipeline.lock.leaveAllShared(vchannels)
    else this.#pipeline.lock.leaveExclusive(exclusive.vchannel)
  }

  #advance(): void {
    const unit = this.#unit
    while (this.#passed < this.#stages.length) {
      let waiting: void | Promise<void>
      try {
        waiting = this.#stages[this.#passed]!.before?.(unit)
      } catch (error) {
        this.#fail(error)
        return
      }
      if (waiting !== undefined) {
        waiting.then(
          () => {
            this.#passed++
            if (unit.answer === null) this.#advance()
            else this.#answer(unit.answer)
          },
          (error: unknown) => this.#fail(error),
        )
        return
      }
      this.#passed++
      if (unit.answer !== null) {
        this.#answer(unit.answer)
        return
      }
    }
    this.#place()
  }

  /** Into the log's queue. What is refused here was refused before it took a tick. */
  #place(): void {
    const unit = this.#unit
    const { store } = this.#pipeline
    const { barrierTick } = unit
    // What has effects must be heard of when it is durable: an abort ends its caller's wait alone.
    const signal = unit.effects.length === 0 ? unit.signal : undefined
    if (signal === undefined && unit.signal !== undefined && this.#listenTo(unit.signal)) return
    const admit = needsAdmit(unit.effects) ? () => this.#admit() : undefined
    let appended: Promise<AppendedRange>
    try {
      if (unit.body !== null) {
        appended = store.append(unit.body, { barrierTick, signal, admit, voids: unit.voids })
      } else {
        const contexts = unit.contexts ?? undefined
        // Frames of begin, commit and rollback hold nothing else; an exclusive message is alone in its frame.
        const ownFrame = unit.internal || unit.exclusive !== null
        appended = store.appendRecords(unit.records!, { barrierTick, signal, admit, contexts, ownFrame })
      }
    } catch (error) {
      this.#fail(error)
      return
    }
    this.#entered()
    appended.then(
      (range) => this.#durable(range),
      (error: unknown) => this.#fail(error),
    )
  }

  /** True: it was aborted before it was placed, and is refused. */
  #listenTo(signal: AbortSignal): boolean {
    const aborted = (outcome: 'not-written' | 'unknown') =>
      new TidelogError(
        'ABORTED',
        `the append was aborted${outcome === 'unknown' ? ' while it was being written' : ''}`,
        {
          outcome,
          cause: signal.reason,
        },
      )
    if (signal.aborted) {
      this.#fail(aborted('not-written'))
      return true
    }
    const onAbort = () => this.#reject(aborted('unknown'))
    signal.addEventListener('abort', onAbort, { once: true })
    this.#stopListening = () => signal.removeEventListener('abort', onAbort)
    return false
  }

  #admit(): WalError | null {
    for (const stage of this.#stages) {
      const refusal = stage.admit?.(this.#unit) ?? null
      if (refusal !== null) return refusal
    }
    return null
  }

  #durable(range: AppendedRange): void {
    const unit = this.#unit
    const result: UnitResult = { range, duplicate: false, duplicates: unit.duplicates }
    try {
      for (const stage of this.#stages) stage.durable?.(range)
      this.#pipeline.applied(unit, range)
      for (const stage of this.#stages) stage.after?.(unit, result)
      this.#onSettled?.(result)
    } catch (error) {
      // A broken invariant of our own: told to the caller, and nobody is left waiting for the lock.
      this.#fail(error)
      return
    }
    this.#leave()
    this.#resolve(result)
    this.#pipeline.end()
  }

  /** It was in the log before. */
  #answer(answer: UnitResult): void {
    this.#entered()
    this.#leave()
    this.#resolve(answer)
    this.#pipeline.end()
  }

  #fail(error: unknown): void {
    for (let at = this.#passed - 1; at >= 0; at--) this.#stages[at]!.failed?.(this.#unit, error)
    this.#entered()
    this.#leave()
    this.#reject(error)
    this.#pipeline.end()
  }

  #leave(): void {
    this.#stopListening?.()
    for (let at = this.#passed - 1; at >= 0; at--) this.#stages[at]!.leave?.(this.#unit)
    this.#passed = 0
    this.#leaveLock()
  }

  #entered(): void {
    this.#isOver = true
    this.#enter?.()
    this.#enter = null
  }
}

/** Keys and exclusive messages are settled before: only what others may have ended meanwhile is asked again. */
function needsAdmit(effects: readonly Effect[]): boolean {
  for (const { kind } of effects) if (kind !== 'key' && kind !== 'exclusive') return true
  return false
}
