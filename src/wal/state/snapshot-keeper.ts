/**
 * Takes snapshots of the state, each exact at its LSN: when so much was appended that reading it back would take long,
 * before a truncation that needs one, and at the close. A stage of the pipeline, because it has to know which frames with
 * effects are under way.
 */
import type { LogStore } from '../../log-store/log-store.ts'
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

export class SnapshotKeeper implements Stage {
  readonly name = 'snapshots'
  readonly #store: LogStore
  readonly #state: WalState
  readonly #intervalBytes: number
  readonly #counts: SnapshotCounts
  /** Frames with effects that are under way. */
  #underWay = 0
  /** Behind the last frame whose effects are in the state. */
  #appliedEnd: number
  /** Durable; -1: none. */
  #newest: number
  #appendedBytes = 0
  /** There was no room, for a snapshot or for an append: none since was saved. */
  #hasFailed = false
  #taking: Promise<void> | null = null

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

  after(_unit: AppendUnit, { range }: UnitResult): void {
    this.#appliedEnd = range.lastLsn + 1
  }

  leave(): void {
    this.#underWay--
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
    if (lsn > this.#newest) void this.take()
    return Math.min(kept, Math.max(0, this.#newest))
  }

  /** No producer, no key, no open transaction: there is nothing that a repeat could be recognized by. */
  get #isTrivial(): boolean {
    const { producers, keys, transactions } = this.#state
    return producers.size === 0 && keys.size === 0 && transactions.openCount === 0
  }

  /** Before a truncation: settles when the snapshot that it needs is there, or cannot be had. Never rejects. */
  async reach(lsn: number): Promise<void> {
    // The last blocks of a full disk are for the manifest that makes room.
    if (this.#hasFailed && this.#isTrivial) return
    if (lsn > this.#newest) await this.#taking
    if (lsn > this.#newest) await this.take()
  }

  /** An append has met a full disk. */
  noRoom(): void {
    this.#hasFailed = true
  }

  /** Settles when it is durable, or could not be taken: then the older ones and a longer tail serve. Never rejects. */
  take(): Promise<void> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null
    })
    return this.#taking
  }

  async #take(): Promise<void> {
    // Encoded in the turn in which the LSN is read: nothing comes in between.
    const lsn = this.#underWay === 0 ? this.#store.nextLsn : this.#appliedEnd
    if (lsn <= this.#newest) return
    const bytes = this.#state.encode()
    const appended = this.#appendedBytes
    this.#appendedBytes = 0
    try {
      await this.#store.snapshots.save(lsn, bytes)
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
}
