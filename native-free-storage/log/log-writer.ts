/**
 * The writer of a log, driven by events: idle means write now; while writes are under way frames gather, and the next
 * write leaves as soon as a slot is free and what waits is worth one. Several synced writes may be in flight; they are
 * acknowledged strictly in order, and only after no newer owner was seen.
 *
 * It decides what comes next (`#pump`) and how it ends; what moves has one owner each:
 *
 *   what waits       append-admission.ts -> append-queue.ts, and before it backlog.ts
 *   what is placed   group-commit.ts, numbers from frame-numbering.ts
 *   what is written  write-window.ts, watched by write-deadline.ts
 *   what is durable  acknowledgement.ts after owner-check.ts, made provable by durable-markers.ts
 *   segments         segment-steps.ts, one at a time (exclusive-step.ts), on segment-succession.ts; segment-cut.ts when
 *                    a write fails
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { FrameKind } from '../format/frame-header.ts'
import { Acknowledgement } from './acknowledgement.ts'
import { AppendAdmission } from './append-admission.ts'
import { asFailure, notWritten, unknownOutcome } from './append-errors.ts'
import { AppendQueue } from './append-queue.ts'
import { Backlog } from './backlog.ts'
import { DurableMarkers } from './durable-markers.ts'
import { ExclusiveStep } from './exclusive-step.ts'
import type { Flush, Ownership } from './flush.ts'
import { FrameNumbering } from './frame-numbering.ts'
import { GroupCommit } from './group-commit.ts'
import type { LeaseFile } from './lease-file.ts'
import type { LogState } from './log-state.ts'
import type { ManifestStore } from './manifest-store.ts'
import { OwnerCheck } from './owner-check.ts'
import { ControlFrame } from './pending-frame.ts'
import { QuietSignal } from './quiet-signal.ts'
import { SegmentCut } from './segment-cut.ts'
import type { BegunSegment } from './segment-files.ts'
import { SegmentSteps } from './segment-steps.ts'
import { SegmentSuccession } from './segment-succession.ts'
import type { TickOracle } from './tick-oracle.ts'
import { Watermark } from './watermark.ts'
import { WriteDeadline } from './write-deadline.ts'
import { WriteWindow } from './write-window.ts'
import type { WriterSettings, WriterStart } from './writer-start.ts'
import type { WriterStatistics } from './writer-statistics.ts'

/** A write that takes longer makes the log `stalled` in the eyes of health checks. */
const STALLED_MS = 1_000

export class LogWriter {
  readonly #settings: WriterSettings
  readonly #state: LogState
  readonly #owner: OwnerCheck
  readonly #segments: SegmentSuccession
  /** Where appends come in. */
  readonly appends: AppendAdmission
  readonly #queue: AppendQueue
  readonly #backlog: Backlog
  readonly #numbering: FrameNumbering
  readonly #commit: GroupCommit
  readonly #window: WriteWindow
  readonly #deadline: WriteDeadline
  readonly #acknowledgement: Acknowledgement
  readonly #markers: DurableMarkers
  readonly #step: ExclusiveStep
  readonly #cut: SegmentCut
  readonly #steps: SegmentSteps
  readonly #watermark: Watermark
  readonly #quiet = new QuietSignal()

  #pumpScheduled = false
  #failure: TidelogError | null = null
  #failedMs = 0
  #closing: Promise<void> | null = null
  /** Counts up with each flush, in the turn in which its frames get their ticks, and when the writer ends. */
  stirs = 0
  onStir: (() => void) | null = null
  /** Called when the writer wants the disk for itself, and when it does no longer. */
  onBusy: ((busy: boolean) => void) | null = null

  constructor(
    settings: WriterSettings,
    state: LogState,
    manifests: ManifestStore,
    ticks: TickOracle,
    lsnLease: LeaseFile | null,
    owner: Ownership,
    start: WriterStart,
  ) {
    const { environment, directory, limits, queueBytes, whenFull, depth, durability, writeDeadlineMs } = settings
    const { clock } = environment
    const onFailure = (error: unknown) => this.#fail(asFailure(error, directory))
    const segments = new SegmentSuccession(settings, state, manifests, lsnLease, owner, start, onFailure)
    const queue = new AppendQueue(limits, queueBytes, whenFull)
    const backlog = new Backlog(start)
    const numbering = new FrameNumbering(ticks, lsnLease, start.nextLsn, start.lastTimeTick)
    const window = new WriteWindow(depth)
    const acknowledgement = new Acknowledgement(state, segments, queue)
    const commit = new GroupCommit(queue, backlog, numbering, owner, acknowledgement.buffers, {
      onFull: (frameLength) => this.#steps.roll(frameLength),
      onLease: (extended) => this.#steps.lease(extended),
    })
    const markers = new DurableMarkers(clock, durability !== 'os', () => this.#writeMarker())
    const step = new ExclusiveStep(
      settings,
      (error) => this.#fail(error),
      () => this.#onStepEnd(),
    )
    const cut = new SegmentCut(directory, segments, window, queue, backlog, numbering)
    const quiet = this.#quiet
    const hasFailed = () => this.#failure !== null
    const parts = { segments, window, backlog, numbering, commit, markers, step, cut, quiet, hasFailed }
    this.#settings = settings
    this.#state = state
    this.#owner = new OwnerCheck(settings, manifests)
    this.#segments = segments
    this.#queue = queue
    this.appends = new AppendAdmission(
      limits,
      queue,
      () => this.#ended(),
      () => this.#schedule(),
    )
    this.#backlog = backlog
    this.#numbering = numbering
    this.#commit = commit
    this.#window = window
    this.#deadline = new WriteDeadline(clock, writeDeadlineMs, window, () => this.#steps.lateWrite())
    this.#acknowledgement = acknowledgement
    this.#markers = markers
    this.#step = step
    this.#cut = cut
    this.#steps = new SegmentSteps(parts)
    this.#watermark = new Watermark(segments, window, backlog, numbering)
    if (this.#backlog.owesRecovery) this.#schedule()
  }

  /** Settles when what the recovery left to do is done, or has to wait for room on the disk. Rejects when it failed. */
  async recovered(): Promise<void> {
    while (this.#failure === null && !this.#cut.isDiskFull && (this.#backlog.owesRecovery || !this.isQuiet)) {
      this.#schedule()
      await this.#quiet.next()
    }
    if (this.#failure !== null) throw this.#failure
  }

  // --- appending -------------------------------------------------------------------------------------------------

  /** Why nothing is admitted any more. */
  #ended(): TidelogError | null {
    if (this.#failure !== null) return notWritten(this.#failure)
    if (this.#closing !== null) return new TidelogError('CLOSED', 'the log is closed', { outcome: 'not-written' })
    return null
  }

  /** Called after each segment that was finished: retention looks at the log. */
  set onRoll(listener: () => void) {
    this.#steps.onRoll = listener
  }

  // --- what others look at ---------------------------------------------------------------------------------------

  get failure(): TidelogError | null {
    return this.#failure
  }

  /** Wall clock of the failure, milliseconds since 1970. */
  get failedMs(): number {
    return this.#failedMs
  }

  /**
   * Looks whether the log is still this writer's, as it does before each acknowledgement: an idle writer whose
   * directory has gone, or whose log somebody else has opened, fails now and not at its next append.
   */
  look(): void {
    if (this.#failure !== null || this.#closing !== null) return
    const overtaken = this.#owner.overtaken()
    if (overtaken != null) this.#fail(overtaken)
  }

  get activeBytes(): number {
    return this.#segments.active?.writer.position ?? 0
  }

  /** A write has been under way for longer than a healthy disk takes. */
  get isStalled(): boolean {
    const { oldest } = this.#window
    return oldest !== undefined && this.#nowMs() - oldest.issuedAtMs > STALLED_MS
  }

  /** Nothing waits and nothing is under way. */
  get isQuiet(): boolean {
    return this.#window.isEmpty && this.#queue.isEmpty && this.#backlog.moving.length === 0
  }

  statistics(): WriterStatistics {
    return {
      ...this.#acknowledgement.counts,
      rolls: this.#steps.rolls,
      cuts: this.#cut.cuts,
      waitingBytes: this.#queue.waitingBytes,
      heldBytes: this.#queue.heldBytes,
      inFlight: this.#window.length,
    }
  }

  /**
   * T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. `shared`
   * above 0: a tick that this log's oracle gave at any time before, in the place of a fresh one.
   */
  watermark(shared = 0n): bigint {
    return this.#watermark.read(this.#failure !== null || this.#closing !== null, shared)
  }

  // --- writing ---------------------------------------------------------------------------------------------------

  /** All appends of one run of the event loop's callbacks go out together. */
  #schedule(): void {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    queueMicrotask(() => {
      this.#pumpScheduled = false
      this.#pump()
    })
  }

  /** What comes next. Called whenever a flush or a step has ended, and when something was admitted. */
  #pump(): void {
    while (!this.#step.isRunning && this.#failure === null) {
      if (this.#steps.cutIfStuck()) return
      if (this.#cut.isDiskFull && this.#queue.isEmpty) return
      const { carryOver } = this.#backlog
      if (carryOver !== null) {
        this.#steps.carryOver(carryOver)
        return
      }
      if (this.#commit.isEmpty) {
        if (this.#window.isEmpty) this.#onQuiet()
        return
      }
      if (!this.#window.mayLeave(this.#queue.waitingBytes)) return
      const { active } = this.#segments
      if (active === null) {
        this.#steps.begin()
        return
      }
      const flush = this.#commit.next(active, this.#nowMs())
      if (flush === null) return
      this.#issue(flush, active)
    }
  }

  #issue(flush: Flush, segment: BegunSegment): void {
    this.#window.add(flush)
    this.#stir()
    if (this.#window.length === 2) this.#setBusy(true)
    this.#deadline.watch()
    // What returns when its segment was left, or the writer has ended, is nobody's.
    segment.writer.write(flush.bytes, flush.position).then(
      () => {
        if (this.#segments.active !== segment || this.#failure !== null) return
        if (this.#window.returned(flush)) this.#complete()
        else this.#pump()
      },
      (error) => {
        if (this.#segments.active === segment && this.#failure === null) this.#onWriteFailed(flush, error, segment)
      },
    )
  }

  /** Acknowledges the flushes that are durable, in order, when no newer owner was seen. */
  #complete(): void {
    if (this.#failure !== null || !this.#window.hasFinished) return
    const overtaken = this.#owner.overtaken()
    if (overtaken === undefined) {
      void this.#owner.known().then(() => this.#complete())
      return
    }
    if (overtaken !== null) {
      this.#fail(overtaken)
      return
    }
    const finished = this.#window.takeFinished()
    this.#acknowledgement.acknowledge(finished, this.#segments.active!, this.#nowMs())
    this.#markers.entered(finished.at(-1)!.frames.at(-1)!.header.kind === FrameKind.durableMarker)
    // The gap that is owed is placed before everything else.
    if (this.#backlog.gap === null) this.#numbering.gapWritten()
    if (this.#window.isEmpty) this.#quiet.announce()
    this.#pump()
  }

  #onStepEnd(): void {
    this.#quiet.announce()
    this.#pump()
  }

  #stir(): void {
    this.stirs++
    this.onStir?.()
  }

  // --- failures --------------------------------------------------------------------------------------------------

  #onWriteFailed(flush: Flush, error: unknown, segment: BegunSegment): void {
    const { directory } = this.#settings
    if (!isDiskError(error, 'ENOSPC')) {
      this.#fail(asFailure(error, directory, `${directory}/${segment.entry.name}`))
      return
    }
    this.#cut.forSpace(flush, error.bytesWritten, error)
    this.#quiet.announce()
    this.#schedule()
  }

  /** Final. What is under way may be in the log or not; what waits is not. */
  #fail(error: TidelogError): void {
    if (this.#failure !== null) return
    this.#failure = error
    this.#stir()
    this.#failedMs = this.#settings.environment.clock.nowMs()
    this.#numbering.doubt()
    this.#setBusy(false)
    this.#deadline.cancel()
    this.#markers.stop()
    const underWay = this.#window.abandon()
    const moving = this.#backlog.takeMoving()
    this.#state.end(error)
    for (const { frames } of underWay) for (const { pending } of frames) pending?.fail(unknownOutcome(error))
    for (const { pending } of moving) pending?.fail(unknownOutcome(error))
    this.#queue.rejectAll(() => notWritten(error))
    this.#quiet.announce()
  }

  // --- idle, close -----------------------------------------------------------------------------------------------

  /** Two flushes in flight want the disk for themselves; preparing and tidying give way until all is quiet. */
  #setBusy(busy: boolean): void {
    this.#settings.pool.setBusy(this, busy)
    this.#segments.setBusy(busy)
    this.onBusy?.(busy)
  }

  #onQuiet(): void {
    this.#quiet.announce()
    this.#setBusy(false)
    this.#markers.quiet()
  }

  #writeMarker(): void {
    if (!this.isQuiet || this.#step.isRunning) return
    if ((this.#segments.active?.writer.room ?? 0) < this.#settings.alignment) return
    this.#queue.push(ControlFrame.durableMarker())
    this.#schedule()
  }

  /**
   * Settles every append, seals the active segment and publishes its end. Idempotent. After a failure it only releases
   * what is held.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#stir()
    this.#markers.stop()
    // `#closing` is set when this runs on: nothing is admitted any more.
    await Promise.resolve()
    while (this.#failure === null && (!this.isQuiet || this.#step.isRunning)) {
      this.#schedule()
      await this.#quiet.next()
    }
    this.#deadline.cancel()
    this.#setBusy(false)
    if (this.#failure === null) await this.#closeSegments()
    if (this.#failure !== null) this.#segments.leave()
    // What is stuck in the background keeps its file open, and nobody waiting.
    await this.#step.withinDeadline(this.#segments.settled()).catch(() => {})
    this.#state.end(new TidelogError('CLOSED', 'the log is closed'))
  }

  async #closeSegments(): Promise<void> {
    try {
      await this.#step.withinDeadline(this.#segments.close(this.#numbering.nextLsn))
    } catch (error) {
      this.#fail(asFailure(error, this.#settings.directory))
      throw this.#failure
    }
    if (this.#backlog.gap !== null) return
    await this.#numbering.close().catch((error: unknown) => {
      // Without room the old bound stays: numbering may go on with a gap.
      if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
    })
  }

  #nowMs(): number {
    return this.#settings.environment.clock.monotonicMs()
  }
}
