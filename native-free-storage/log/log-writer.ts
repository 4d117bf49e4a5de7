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
 *   what is durable  acknowledgement.ts, made provable by durable-markers.ts
 *   segments         segment-succession.ts, one step at a time (exclusive-step.ts); segment-cut.ts when a write fails
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import type { RecordInput } from '../format/body-plan.ts'
import { FrameKind } from '../format/frame-header.ts'
import { Acknowledgement } from './acknowledgement.ts'
import { AppendAdmission } from './append-admission.ts'
import { asFailure, directoryGone, fencedAway, isGone, notWritten, unknownOutcome } from './append-errors.ts'
import type { AppendOptions, AppendRecordsOptions } from './append-options.ts'
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
import { type AppendResult, ControlFrame, type ReceivedBody } from './pending-frame.ts'
import { QuietSignal } from './quiet-signal.ts'
import { SegmentCut } from './segment-cut.ts'
import type { BegunSegment } from './segment-files.ts'
import { SegmentSuccession } from './segment-succession.ts'
import type { TickOracle } from './tick-oracle.ts'
import { WriteDeadline } from './write-deadline.ts'
import { WriteWindow } from './write-window.ts'
import type { CarryOver, WriterSettings, WriterStart } from './writer-start.ts'
import type { WriterStatistics } from './writer-statistics.ts'

/** A write that takes longer makes the log `stalled` in the eyes of health checks. */
const STALLED_MS = 1_000

export class LogWriter {
  readonly #settings: WriterSettings
  readonly #state: LogState
  readonly #manifests: ManifestStore
  readonly #segments: SegmentSuccession
  readonly #queue: AppendQueue
  readonly #admission: AppendAdmission
  readonly #backlog: Backlog
  readonly #numbering: FrameNumbering
  readonly #commit: GroupCommit
  readonly #window: WriteWindow
  readonly #deadline: WriteDeadline
  readonly #acknowledgement: Acknowledgement
  readonly #markers: DurableMarkers
  readonly #step: ExclusiveStep
  readonly #cut: SegmentCut
  readonly #quiet = new QuietSignal()

  #pumpScheduled = false
  /** A step waits until nothing is in flight. */
  #draining = false
  /** A write has passed its deadline while a step was waiting for it. */
  #stuck = false
  #failure: TidelogError | null = null
  #failedMs = 0
  #closing: Promise<void> | null = null
  #lastWatermark = 0n
  #rolls = 0
  /** Counts up with each flush, in the turn in which its frames get their ticks, and when the writer ends. */
  stirs = 0
  onStir: (() => void) | null = null
  /** Called after each segment that was finished: retention looks at the log. */
  onRoll: (() => void) | null = null
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
    const { environment, directory, limits, depth, durability, writeDeadlineMs } = settings
    const { clock } = environment
    const fail = (error: unknown) => this.#fail(asFailure(error, directory))
    this.#settings = settings
    this.#state = state
    this.#manifests = manifests
    this.#segments = new SegmentSuccession(settings, state, manifests, lsnLease, owner, start, fail)
    this.#queue = new AppendQueue(limits, settings.queueBytes, settings.whenFull)
    this.#admission = new AppendAdmission(
      limits,
      this.#queue,
      () => this.#ended(),
      () => this.#schedule(),
    )
    this.#backlog = new Backlog(start)
    this.#numbering = new FrameNumbering(ticks, lsnLease, start.nextLsn, start.lastTimeTick)
    this.#window = new WriteWindow(depth)
    this.#deadline = new WriteDeadline(clock, writeDeadlineMs, this.#window, () => this.#onLateWrite())
    this.#acknowledgement = new Acknowledgement(state, this.#segments, this.#queue)
    this.#commit = new GroupCommit(this.#queue, this.#backlog, this.#numbering, owner, this.#acknowledgement.buffers, {
      onFull: (frameLength) => this.#step.run(this.#roll(frameLength)),
      onLease: (extended) => this.#step.run(this.#cut.whenSpace(extended)),
    })
    this.#markers = new DurableMarkers(clock, durability !== 'os', () => this.#writeMarker())
    this.#step = new ExclusiveStep(
      settings,
      (error) => this.#fail(error),
      () => {
        this.#quiet.announce()
        this.#pump()
      },
    )
    this.#cut = new SegmentCut(directory, this.#segments, this.#window, this.#queue, this.#backlog, this.#numbering)
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

  append(records: readonly RecordInput[], options: AppendRecordsOptions | undefined): Promise<AppendResult> {
    return this.#admission.append(records, options)
  }

  appendBody(
    body: ReceivedBody,
    nodeSection: Buffer | null,
    options: AppendOptions | undefined,
  ): Promise<AppendResult> {
    return this.#admission.appendBody(body, nodeSection, options)
  }

  appendTick(signal: AbortSignal | undefined): Promise<bigint> {
    return this.#admission.appendTick(signal)
  }

  #ended(): TidelogError | null {
    if (this.#failure !== null) return notWritten(this.#failure)
    if (this.#closing !== null) return new TidelogError('CLOSED', 'the log is closed', { outcome: 'not-written' })
    return null
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
    try {
      if (this.#manifests.isNewest() === false) this.#fail(this.#overtaken())
    } catch (error) {
      this.#fail(asFailure(error, this.#settings.directory))
    }
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
      rolls: this.#rolls,
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
    const { moving, uncutTick } = this.#backlog
    const oldest = moving[0]?.header ?? this.#window.oldest?.frames[0]?.header
    let tick: bigint | null
    if (oldest !== undefined) tick = oldest.baseTimeTick - 1n
    else if (uncutTick !== null) tick = uncutTick - 1n
    else if (this.#failure !== null || this.#closing !== null) tick = this.#segments.durable.lastTimeTick
    else tick = shared > 0n ? shared : this.#numbering.now()
    if (tick !== null && tick > this.#lastWatermark) this.#lastWatermark = tick
    return this.#lastWatermark
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
      if (this.#stuck) {
        this.#stuck = false
        this.#step.run(this.#cutStuck())
        return
      }
      if (this.#cut.isDiskFull && this.#queue.isEmpty) return
      const { carryOver } = this.#backlog
      if (carryOver !== null) {
        this.#step.run(this.#runCarryOver(carryOver))
        return
      }
      if (this.#commit.isEmpty) {
        if (this.#window.isEmpty) this.#onQuiet()
        return
      }
      if (!this.#window.mayLeave(this.#queue.waitingBytes)) return
      const { active } = this.#segments
      if (active === null) {
        this.#step.run(this.#begin())
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
    let newest: boolean | undefined
    try {
      newest = this.#manifests.isNewest()
    } catch (error) {
      this.#fail(asFailure(error, this.#settings.directory))
      return
    }
    if (newest === undefined) {
      void this.#manifests.linked().then(() => this.#complete())
      return
    }
    if (!newest) {
      this.#fail(this.#overtaken())
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

  #stir(): void {
    this.stirs++
    this.onStir?.()
  }

  // --- steps that no flush may overtake --------------------------------------------------------------------------

  async #runCarryOver(carryOver: CarryOver): Promise<void> {
    await this.#cut.whenSpace(this.#segments.carryOver(carryOver))
    if (this.#segments.active === null) return
    this.#backlog.carriedOver()
    this.#markers.entered(true)
  }

  async #begin(): Promise<void> {
    const { moving } = this.#backlog
    const baseLsn = moving[0]?.header.baseLsn ?? this.#numbering.nextLsn
    await this.#cut.whenSpace(this.#segments.begin(baseLsn, this.#commit.firstBytes, moving.length > 0))
    if (this.#segments.active !== null) this.#backlog.cutPublished()
  }

  async #roll(frameLength: number): Promise<void> {
    const drained = async (): Promise<boolean> => {
      await this.#drained()
      return this.#failure === null && !this.#stuck
    }
    await this.#cut.whenSpace(
      this.#segments.roll(this.#numbering.nextLsn, frameLength, drained).then((rolled) => {
        if (!rolled) return
        this.#rolls++
        this.onRoll?.()
      }),
    )
  }

  async #cutStuck(): Promise<void> {
    this.#cut.forStuckWrite()
    await this.#begin()
  }

  /** Settles when nothing is in flight, when everything has failed, or when a write is stuck. */
  async #drained(): Promise<void> {
    this.#draining = true
    while (!this.#window.isEmpty && this.#failure === null && !this.#stuck) await this.#quiet.next()
    this.#draining = false
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

  /** False: a step is under way that does not wait for this write. */
  #onLateWrite(): boolean {
    if (!this.#step.isRunning) {
      this.#step.run(this.#cutStuck())
      return true
    }
    if (!this.#draining) return false
    this.#stuck = true
    this.#quiet.announce()
    return true
  }

  /** Why the own manifest is not the newest any more. */
  #overtaken(): TidelogError {
    const { environment, directory } = this.#settings
    return isGone(environment.disk, directory) ? directoryGone(directory) : fencedAway(directory)
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
