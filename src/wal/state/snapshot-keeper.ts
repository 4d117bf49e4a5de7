/**
 * Takes snapshots of the state, each exact at its LSN: when so much was appended that reading it back would take long,
 * before a truncation that needs one, and at the close. A stage of the pipeline, because it has to know which frames with
 * effects are under way.
 *
 * On a full disk a truncation is what makes room, and has none for the snapshot that it needs. So it goes up to the newest
 * snapshot first; then one is taken, in the room that this has made, in that of the older snapshot, or in the reserve; then
 * the rest goes.
 */
import type { AppendedRange, LogStore } from '../../log-store/log-store.ts'
import type { AppendUnit, Stage, UnitResult } from '../pipeline/interceptor.ts'
import type { WalState } from './wal-state.ts'

/** Appended bytes between two snapshots, at least. */
const INTERVAL_BYTES = 32 * 1024 * 1024
/** A large state is written more rarely: at most a fifth of what is written is snapshots. */
const INTERVAL_SIZES = 4

export interface SnapshotCounts {
  taken: number
  failed: number
  /** Of the newest one. */
  bytes: number
  lsn: number
}

/** The state as it is behind the last record below `lsn`. */
interface ExactState {
  readonly lsn: number
  readonly bytes: Buffer
}

export class SnapshotKeeper implements Stage {
  readonly name = 'snapshots'
  readonly #store: LogStore
  readonly #state: WalState
  readonly #intervalBytes: number
  readonly #counts: SnapshotCounts
  /** Frames with effects that are under way. */
  #underWay = 0
  /** Behind the last record whose effects are in the state. */
  #appliedEnd: number
  /** A frame ends there: single records of many callers share frames, and are told of one by one. */
  #isFrameEnd = true
  /** A snapshot waits for the end of a frame. Null: for none, the WAL is closing. */
  #onFrameEnd: ((exact: ExactState | null) => void) | null = null
  /** The end of a frame, behind what was durable when the wait began. */
  #awaitedEnd = 0
  /** Durable; -1: none. */
  #newest: number
  #appendedBytes = 0
  /** There was no room, for a snapshot or for an append: none since was saved. */
  #hasFailed = false
  #taking: Promise<void> | null = null
  /** Truncations that were asked for and take their snapshots themselves. */
  #truncating = 0
  /** One of retention's goes on when it has made room. */
  #goesOn = false
  #isClosing = false
  #isClosed = false

  constructor(store: LogStore, state: WalState, snapshots: readonly number[], intervalBytes = INTERVAL_BYTES) {
    this.#store = store
    this.#state = state
    this.#newest = snapshots[0] ?? -1
    this.#appliedEnd = store.nextLsn
    this.#intervalBytes = intervalBytes
    this.#counts = { taken: 0, failed: 0, bytes: 0, lsn: this.#newest }
  }

  get counts(): Readonly<SnapshotCounts> {
    return this.#counts
  }

  before(): void {
    this.#underWay++
  }

  /** The effects of these records are applied next. */
  durable({ firstLsn }: AppendedRange): void {
    if (this.#onFrameEnd !== null && firstLsn >= this.#awaitedEnd) this.#atFrameEnd(this.#awaitedEnd)
  }

  after(unit: AppendUnit, { range }: UnitResult): void {
    this.applied(range, unit.recordCount > 1 || unit.body !== null)
  }

  /** Their effects are in the state. `areFrame`: they are a frame, not some of one. */
  applied({ lastLsn }: AppendedRange, areFrame: boolean): void {
    this.#appliedEnd = lastLsn + 1
    this.#isFrameEnd = areFrame || this.#store.nextLsn === this.#appliedEnd
    if (this.#isFrameEnd && this.#onFrameEnd !== null) this.#atFrameEnd(this.#appliedEnd)
  }

  leave(): void {
    this.#underWay--
    if (this.#underWay === 0 && this.#onFrameEnd !== null) this.#atFrameEnd(this.#store.nextLsn)
  }

  /** So many bytes more are in the log. */
  appended(bytes: number): void {
    this.#appendedBytes += bytes
    if (this.#appendedBytes >= Math.max(this.#intervalBytes, INTERVAL_SIZES * this.#counts.bytes)) void this.take()
  }

  /** How far the log may be truncated when nothing below `lsn` is needed any more. Never throws. */
  floor(lsn: number): number {
    const kept = this.#state.transactions.truncationFloor(lsn)
    // On a full disk a truncation may be what makes room for the snapshot: where there is nothing to lose, it goes first.
    if (this.#hasFailed && this.#isTrivial) return kept
    const floor = Math.min(kept, Math.max(0, this.#newest))
    if (lsn > this.#newest && this.#truncating === 0) void (this.#hasFailed ? this.#goOn(lsn, floor) : this.take())
    return floor
  }

  /** No producer, no key, no open transaction: there is nothing that a repeat could be recognized by. */
  get #isTrivial(): boolean {
    const { producers, keys, transactions } = this.#state
    return producers.size === 0 && keys.size === 0 && transactions.openCount === 0
  }

  /** Truncates the log, as far as a snapshot and open transactions let it. Rejects with what the store rejects with. */
  async truncate(lsn: number): Promise<void> {
    const wanted = Math.min(lsn, this.#store.nextLsn)
    this.#truncating++
    try {
      if (!this.#hasFailed && wanted > this.#newest) await this.#taking
      if (!this.#hasFailed && wanted > this.#newest) await this.take()
      await this.#store.truncateBefore(lsn)
      if (!this.#hasFailed || wanted <= this.#newest) return
      await this.#taking
      await this.take(true)
      if (!this.#hasFailed) await this.#store.truncateBefore(lsn)
    } finally {
      this.#truncating--
    }
  }

  /** Retention was let go up to `floor`, and there was no room for a snapshot. Never rejects. */
  async #goOn(lsn: number, floor: number): Promise<void> {
    if (this.#goesOn) return
    this.#goesOn = true
    try {
      if (floor > this.#store.firstLsn) await this.#store.changed()
      await this.#taking
      await this.take(true)
      if (!this.#hasFailed && !this.#isClosed) await this.#store.truncateBefore(lsn)
    } catch {
      // Whoever reads or appends meets what stands in its way, and tells it.
    } finally {
      this.#goesOn = false
    }
  }

  /** An append has met a full disk. */
  noRoom(): void {
    this.#hasFailed = true
  }

  /**
   * Settles when it is durable, or could not be taken: then the older ones and a longer tail serve. Never rejects.
   * `forRoom`: what it makes possible makes more room than it takes.
   */
  take(forRoom = false): Promise<void> {
    if (this.#isClosed) return Promise.resolve()
    this.#taking ??= this.#take(forRoom).finally(() => {
      this.#taking = null
    })
    return this.#taking
  }

  /** The last one. Never rejects. */
  async close(): Promise<void> {
    this.#isClosing = true
    // What is still under way now may hang.
    const onFrameEnd = this.#onFrameEnd
    this.#onFrameEnd = null
    onFrameEnd?.(null)
    await this.#taking
    await this.take()
    this.#isClosed = true
  }

  async #take(forRoom: boolean): Promise<void> {
    const exact = this.#exact()
    const taken = exact instanceof Promise ? await exact : exact
    if (taken === null) return
    const { lsn, bytes } = taken
    const appended = this.#appendedBytes
    this.#appendedBytes = 0
    try {
      await this.#store.snapshots.save(lsn, bytes, { forRoom })
      this.#newest = lsn
      this.#hasFailed = false
      this.#counts.taken++
      this.#counts.bytes = bytes.length
      this.#counts.lsn = lsn
      this.#state.transactions.truncated(this.#store.firstLsn)
    } catch {
      this.#counts.failed++
      this.#hasFailed = true
      // Tried again when as much has been appended once more.
      this.#appendedBytes = Math.floor(appended / 2)
    }
  }

  /** Null: there is nothing that the newest one has not. Waits while a frame is in the state in part. */
  #exact(): ExactState | null | Promise<ExactState | null> {
    const lsn = this.#underWay === 0 ? this.#store.nextLsn : this.#appliedEnd
    if (this.#underWay === 0 || this.#isFrameEnd) return this.#stateAt(lsn)
    if (this.#isClosing) return null
    // What is durable ends with a frame.
    this.#awaitedEnd = this.#store.nextLsn
    return new Promise((resolve) => {
      this.#onFrameEnd = resolve
    })
  }

  /** Encoded in the turn in which the state stands there: nothing comes in between. */
  #stateAt(lsn: number): ExactState | null {
    return lsn <= this.#newest ? null : { lsn, bytes: this.#state.encode() }
  }

  #atFrameEnd(lsn: number): void {
    const onFrameEnd = this.#onFrameEnd!
    this.#onFrameEnd = null
    onFrameEnd(this.#stateAt(lsn))
  }
}
