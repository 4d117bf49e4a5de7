/**
 * Compaction of a log that is open: one segment at a time, giving way to the writer, in the background or because
 * somebody asks. Each finished segment is looked at once for as long as the log is open.
 */
import type { Clock, Timer } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { logFilesOf } from '../log/log-files.ts'
import type { LogState } from '../log/log-state.ts'
import type { SegmentEnd, SegmentEntry } from '../log/log-view.ts'
import type { ManifestStore } from '../log/manifest-store.ts'
import type { RewrittenSegment } from '../segment/rewrite-segment.ts'
import { type CompactionWork, compactOne, refuseAborted } from './compact-segments.ts'
import { type CheckedCompaction, type CompactOptions, checkThresholds } from './compaction-options.ts'
import { type CompactionReport, emptyReport } from './compaction-report.ts'
import { dropRewritten, SegmentSwitch } from './switch-segment.ts'

/** A segment that was finished is looked at so long afterwards; those that an open finds, so long after the open. */
const DELAY_MS = 10_000
/** While the writer wants the disk for itself, a piece of work waits so long at most: there is always some progress. */
const GIVE_WAY_MS = 1_000
/** One look in the background takes no longer; what is left is for the next one, behind the next roll. */
const BACKGROUND_DEADLINE_MS = 600_000
/** The closing of the log waits no longer for a piece of work. */
const STOP_DEADLINE_MS = 30_000

export interface CompactedLog {
  readonly state: LogState
  readonly manifests: ManifestStore
  readonly settings: CheckedCompaction
  /** Runs a step while nothing is truncated. */
  alone<T>(step: () => Promise<T>): Promise<T>
  /** Why the log takes nothing any more; null: it does. */
  refusal(): TidelogError | null
}

export class LogCompaction {
  readonly #log: CompactedLog
  readonly #clock: Clock
  readonly #seen = new WeakSet<SegmentEntry>()
  #timer: Timer | null = null
  #running: Promise<unknown> = Promise.resolve()
  #stopped = false
  #busy = false
  #wakeQuiet: (() => void) | null = null

  constructor(log: CompactedLog) {
    this.#log = log
    this.#clock = log.state.environment.clock
  }

  /** A segment was finished, or the log was opened: there may be something to do in a while. */
  notice(): void {
    if (!this.#log.settings.enabled || this.#timer !== null || this.#stopped) return
    const finished = this.#log.state.segments.slice(0, -1)
    // The newest first: mostly that is the one.
    if (finished.findLast((entry) => !this.#seen.has(entry)) === undefined) return
    this.#timer = this.#clock.after(DELAY_MS, () => {
      this.#timer = null
      this.#enqueue(() => this.#inBackground()).catch(() => {
        // What stands in its way (no room, damage) is told by `compact` and `verify`; another roll tries again.
      })
    })
  }

  /** The writer needs the disk for itself, or does no longer. */
  setBusy(busy: boolean): void {
    this.#busy = busy
    if (!busy) this.#wakeQuiet?.()
  }

  /** Reads every finished segment, and writes those anew that save enough. Errors as `Log.compact`. */
  run(options: CompactOptions): Promise<CompactionReport> {
    return this.#enqueue(() => this.#run(options))
  }

  /** Ends what is under way, behind the piece of work at hand. Settles when nothing is any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    this.#wakeQuiet?.()
    let late: Timer | undefined
    const deadline = new Promise<void>((resolve) => {
      late = this.#clock.after(STOP_DEADLINE_MS, resolve)
    })
    // What the disk does not answer keeps its file open, and nobody waiting. Nothing is published any more.
    await Promise.race([this.#running, deadline])
    late?.cancel()
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#running.then(work)
    this.#running = run.catch(() => {})
    return run
  }

  async #run(options: CompactOptions): Promise<CompactionReport> {
    const { dryRun = false, signal, onSegment } = options
    const thresholds = checkThresholds(options)
    const report = emptyReport(this.#log.state.directory, dryRun)
    const work = this.#work({ ...thresholds, report, exact: true, dryRun }, () => refuseAborted(signal))
    for (const entry of this.#candidates()) {
      await work.pace()
      onSegment?.(entry.name)
      await this.#one(work, entry)
    }
    return report
  }

  async #inBackground(): Promise<void> {
    const report = emptyReport(this.#log.state.directory, false)
    const startedMs = this.#clock.monotonicMs()
    const work = this.#work({ ...this.#log.settings, report, exact: false, dryRun: false }, () => {
      if (this.#clock.monotonicMs() - startedMs > BACKGROUND_DEADLINE_MS)
        throw new TidelogError('TIMEOUT', 'took too long')
    })
    for (const entry of this.#candidates()) {
      if (this.#seen.has(entry)) continue
      await work.pace()
      await this.#one(work, entry)
      this.#seen.add(entry)
    }
  }

  #work(
    given: Pick<CompactionWork, 'report' | 'exact' | 'savedBytesMin' | 'savedShareMin'> & { dryRun: boolean },
    check: () => void,
  ): CompactionWork {
    const { state, manifests } = this.#log
    return {
      ...given,
      log: state,
      files: logFilesOf(state).segments,
      owner: () => manifests.content,
      pace: async () => {
        check()
        await this.#giveWay()
        check()
      },
      replace: given.dryRun ? null : (old, oldEnd, made) => this.#replace(old.id, oldEnd, made),
    }
  }

  async #one(work: CompactionWork, entry: SegmentEntry): Promise<void> {
    const { segments } = this.#log.state
    const at = segments.indexOf(entry)
    const successor = segments[at + 1]
    // Truncated away meanwhile.
    if (at < 0 || successor === undefined) return
    try {
      await compactOne(work, entry, successor)
    } catch (error) {
      const isGone = error instanceof TidelogError && error.code === 'SEGMENT_MISSING'
      if (!isGone || this.#log.state.segments.includes(entry)) throw error
    }
  }

  /** Finished, indexed, and before the segment that the manifest names as the tail. */
  #candidates(): readonly SegmentEntry[] {
    const { state, manifests } = this.#log
    const tailId = manifests.content.tail?.id
    const tail = state.segments.findIndex(({ id }) => id === tailId)
    return state.segments.slice(0, Math.max(0, tail)).filter(({ building }) => building === undefined)
  }

  async #replace(oldId: string, oldEnd: SegmentEnd, made: RewrittenSegment): Promise<boolean> {
    return await this.#log.alone(async () => {
      const { state, manifests } = this.#log
      const old = state.segments.find(({ id }) => id === oldId)
      // Truncated away while it was read.
      if (old === undefined || this.#stopped) {
        await dropRewritten(state, made)
        return false
      }
      const step = new SegmentSwitch(state, manifests, old, made)
      await step.switch()
      const { id, baseLsn, name, end } = made
      const entry: SegmentEntry = { id, baseLsn, name, end, building: undefined }
      old.end ??= oldEnd
      old.replacedBy = entry
      this.#seen.add(entry)
      state.setSegments(state.segments.map((segment) => (segment === old ? entry : segment)))
      state.announce()
      await step.removeOld()
      return true
    })
  }

  /** Throws CLOSED, and why the log has failed. */
  async #giveWay(): Promise<void> {
    this.#refuse()
    if (this.#busy) {
      await new Promise<void>((resolve) => {
        const late = this.#clock.after(GIVE_WAY_MS, resolve)
        this.#wakeQuiet = () => {
          late.cancel()
          resolve()
        }
      })
      this.#wakeQuiet = null
      this.#refuse()
    }
  }

  #refuse(): void {
    if (this.#stopped) throw new TidelogError('CLOSED', 'the log is closed')
    const refusal = this.#log.refusal()
    if (refusal !== null) throw refusal
  }
}
