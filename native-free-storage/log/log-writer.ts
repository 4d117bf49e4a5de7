/**
 * Group commit, driven by events: idle means write now; while writes are under way frames gather, and the next write
 * leaves as soon as a slot is free and what waits is worth one. Several synced writes may be in flight; they are
 * acknowledged strictly in order, and only after no newer owner was seen.
 *
 * One owner of all that moves: the queue, the flushes in flight, and (segment-succession.ts) the segments.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Timer } from '../environment.ts'
import { assert, TidelogError } from '../errors.ts'
import { planBody, type RecordInput } from '../format/body-plan.ts'
import { FrameKind } from '../format/frame-header.ts'
import type { SegmentWriter } from '../segment/segment-writer.ts'
import {
  asFailure,
  directoryGone,
  diskDoesNotAnswer,
  fencedAway,
  isGone,
  noSpace,
  notWritten,
  payloadChanged,
  refused,
  unknownOutcome,
} from './append-errors.ts'
import { AppendQueue, aborted } from './append-queue.ts'
import {
  buildFlush,
  type Flush,
  frameBytes,
  lastTickOfFlush,
  type MovedFrame,
  moveFrames,
  type Ownership,
  type Placement,
} from './flush.ts'
import { FlushBuffers } from './flush-buffers.ts'
import type { LeaseFile } from './lease-file.ts'
import type { LogState } from './log-state.ts'
import type { ManifestStore } from './manifest-store.ts'
import {
  type Admit,
  type AppendResult,
  BatchFrame,
  ControlFrame,
  type PendingFrame,
  type ReceivedBody,
  ReceivedFrame,
  TickFrame,
} from './pending-frame.ts'
import type { BegunSegment } from './segment-files.ts'
import { SegmentSuccession } from './segment-succession.ts'
import type { TickOracle } from './tick-oracle.ts'
import type { CarryOver, WriterSettings, WriterStart } from './writer-start.ts'

/** One write takes at most this, unless a single frame is larger. */
const FLUSH_BYTES_MAX = 1024 * 1024
/** While writes are in flight, a further one leaves only with this much: small ones gather better than they overlap. */
const OVERLAP_BYTES_MIN = 128 * 1024
/** Idle this long, what was acknowledged last is made provable by a durable marker. */
const MARKER_DELAY_MS = 100
/** A write that takes longer makes the log `stalled` in the eyes of health checks. */
const STALLED_MS = 1_000
/**
 * A write that returns before an earlier one frees its slot, but is not acknowledged: so many depths of flushes may be
 * under way together. It bounds what is acknowledged and not yet provable.
 */
const WINDOW_DEPTHS = 2
/** A step that takes this many deadlines of a write ends the writer. */
const STEP_DEADLINES = 3
/** LSNs that a lease takes in advance at durability `os`. */
const LSN_LEASE = 1_000_000
/** More names than this in the index of the active segment: a new one is begun. */
const SEGMENT_VCHANNELS_MAX = 131_072

export interface AppendOptions {
  /** The first tick of the append is not below it. */
  barrierTick?: bigint | undefined
  /** Ends a wait for room in the queue. What is in the queue is written. */
  signal?: AbortSignal | undefined
  /**
   * Asked in the turn in which the frame gets its LSNs, when all that entered before it has its own, and as the last
   * question: null means that the frame is placed. An error refuses it, and it takes no LSN. It must not throw, nor
   * call the log.
   */
  admit?: Admit | undefined
}

/** Of records that are encoded here. */
export interface AppendRecordsOptions extends AppendOptions {
  /** Encoded contexts (`encodeContext`), which the records name by their `contextIndex`. */
  contexts?: readonly Uint8Array[] | undefined
  /** A single record shares no frame with others'. So it is with `contexts` and with `admit`, too. */
  ownFrame?: boolean | undefined
}

export interface WriterStatistics {
  appendedRecords: number
  /** That hold records. */
  appendedFrames: number
  appendedBytes: number
  flushes: number
  rolls: number
  cuts: number
  /** Milliseconds that the flushes took together: divided by `flushes` the mean. */
  flushMs: number
  waitingBytes: number
  heldBytes: number
  inFlight: number
}

export class LogWriter {
  readonly #settings: WriterSettings
  readonly #state: LogState
  readonly #manifests: ManifestStore
  readonly #ticks: TickOracle
  readonly #lsnLease: LeaseFile | null
  readonly #owner: Ownership
  readonly #segments: SegmentSuccession
  readonly #queue: AppendQueue
  readonly #buffers = new FlushBuffers()
  /** The buffer whose frames are entering the cache: not used again before all of them have. */
  #entering: ArrayBufferLike | null = null

  /** In order, those included that have returned before an earlier one. */
  #inFlight: Flush[] = []
  /** Writes of the active segment that have not returned. */
  #writing = 0
  /** Frames of a stuck segment that go first into the next one. */
  #moving: MovedFrame[] = []
  /** Goes before everything in the queue. */
  #first: PendingFrame | null
  #carryOver: CarryOver | null
  #nextLsn: number
  #lastTick: bigint
  /** The last durable frame is a marker, or there is none of this writer: all that was acknowledged is provable. */
  #provenByMarker = true

  /** A step that no flush may overtake: lease, roll, cut. */
  #busy = false
  #pumpScheduled = false
  /** A write has passed its deadline while another step was waiting for it. */
  #stuck = false
  #draining = false
  /** The last step could not be made for want of space: the next append tries again. */
  #noSpace = false
  /** First tick of frames that a crash may bring to light, until the manifest has cut them off; no watermark passes it. */
  #uncutTick: bigint | null
  #failure: TidelogError | null = null
  #failedMs = 0
  #closing: Promise<void> | null = null
  #quietWaiters: (() => void)[] = []
  #deadline: Timer | null = null
  #marker: Timer | null = null
  #lastWatermark = 0n
  readonly #counts = {
    appendedRecords: 0,
    appendedFrames: 0,
    appendedBytes: 0,
    flushes: 0,
    rolls: 0,
    cuts: 0,
    flushMs: 0,
  }
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
    this.#settings = settings
    this.#state = state
    this.#manifests = manifests
    this.#ticks = ticks
    this.#lsnLease = lsnLease
    this.#owner = owner
    this.#segments = new SegmentSuccession(settings, state, manifests, lsnLease, owner, start, (error) =>
      this.#fail(asFailure(error, this.#settings.directory)),
    )
    this.#queue = new AppendQueue(settings.limits, settings.queueBytes, settings.whenFull)
    this.#nextLsn = start.nextLsn
    this.#lastTick = start.lastTimeTick
    this.#first = start.gapCount > 0 ? ControlFrame.gap({ count: start.gapCount, reason: 'leased' }) : null
    this.#carryOver = start.carryOver
    this.#uncutTick = start.firstUnprovenTick
    state.cache.onUnused = (allocation) => {
      if (allocation !== this.#entering) this.#buffers.give(allocation)
    }
    if (this.#carryOver !== null || this.#first !== null) this.#schedule()
  }

  /** Settles when what the recovery left to do is done, or has to wait for room on the disk. Rejects when it failed. */
  async recovered(): Promise<void> {
    while (
      this.#failure === null &&
      !this.#noSpace &&
      (this.#carryOver !== null || this.#first !== null || !this.isQuiet)
    ) {
      this.#schedule()
      await this.#nextQuiet()
    }
    if (this.#failure !== null) throw this.#failure
  }

  // --- appending -------------------------------------------------------------------------------------------------

  /** A batch is a frame of its own; a single record may share one with other callers'. Must not change until it settles. */
  append(records: readonly RecordInput[], options: AppendRecordsOptions | undefined): Promise<AppendResult> {
    const barrierTick = options?.barrierTick ?? 0n
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) {
        reject(refusal)
        return
      }
      try {
        if (records.length === 1 && !needsOwnFrame(options)) {
          this.#gather(records[0]!, barrierTick, signal, resolve, reject)
        } else {
          const plan = planBody(records, this.#settings.limits, options?.contexts)
          this.#admit(new BatchFrame(plan, barrierTick, options?.admit ?? null, resolve, reject), signal, reject)
        }
      } catch (error) {
        reject(refused(error))
      }
    })
  }

  appendBody(
    body: ReceivedBody,
    nodeSection: Buffer | null,
    options: AppendOptions | undefined,
  ): Promise<AppendResult> {
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) {
        reject(refusal)
        return
      }
      const { barrierTick = 0n, admit = null } = options ?? {}
      const frame = new ReceivedFrame(body, nodeSection, barrierTick, admit, resolve, reject)
      this.#admit(frame, signal, reject)
    })
  }

  /** A stored time tick, behind all that was given before. Settles with the tick. */
  appendTick(signal: AbortSignal | undefined): Promise<bigint> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) reject(refusal)
      else this.#admit(new TickFrame(resolve, reject), signal, reject)
    })
  }

  #gather(
    record: RecordInput,
    barrierTick: bigint,
    signal: AbortSignal | undefined,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    const bytes = record.payload == null ? 0 : record.payload.length
    const admit = () => {
      this.#queue.gather(record, bytes, barrierTick, resolve, reject)
      this.#schedule()
    }
    if (this.#queue.hasRoom(bytes)) {
      admit()
      return
    }
    // Checked before it waits, so that a wrong record is refused at once.
    planBody([record], this.#settings.limits)
    this.#queue.whenRoom(bytes, admit, reject, signal)
  }

  #admit(frame: PendingFrame, signal: AbortSignal | undefined, reject: (error: TidelogError) => void): void {
    const admit = () => {
      this.#queue.push(frame)
      this.#schedule()
    }
    if (this.#queue.hasRoom(frame.queuedBytes)) admit()
    else this.#queue.whenRoom(frame.queuedBytes, admit, reject, signal)
  }

  #refusal(signal: AbortSignal | undefined): TidelogError | null {
    if (this.#failure !== null) return notWritten(this.#failure)
    if (this.#closing !== null) return new TidelogError('CLOSED', 'the log is closed', { outcome: 'not-written' })
    return signal?.aborted ? aborted(signal) : null
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
    const oldest = this.#inFlight[0]
    return oldest !== undefined && this.#nowMs() - oldest.issuedAtMs > STALLED_MS
  }

  /** Nothing waits and nothing is under way. */
  get isQuiet(): boolean {
    return this.#inFlight.length === 0 && this.#queue.isEmpty && this.#moving.length === 0
  }

  statistics(): WriterStatistics {
    return {
      ...this.#counts,
      waitingBytes: this.#queue.waitingBytes,
      heldBytes: this.#queue.heldBytes,
      inFlight: this.#inFlight.length,
    }
  }

  /**
   * T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. `shared`
   * above 0: a tick that this log's oracle gave at any time before, in the place of a fresh one.
   */
  watermark(shared = 0n): bigint {
    const oldest = this.#moving[0]?.header ?? this.#inFlight[0]?.frames[0]?.header
    let tick: bigint | null
    if (oldest !== undefined) tick = oldest.baseTimeTick - 1n
    else if (this.#uncutTick !== null) tick = this.#uncutTick - 1n
    else if (this.#failure !== null || this.#closing !== null) tick = this.#segments.durable.lastTimeTick
    else tick = shared > 0n ? shared : this.#ticks.take(1, 0n)
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

  #pump(): void {
    while (!this.#busy && this.#failure === null) {
      if (this.#stuck) {
        this.#stuck = false
        this.#runBusy(this.#cutStuck())
        return
      }
      if (this.#noSpace && this.#queue.isEmpty) return
      if (this.#carryOver !== null) {
        this.#runBusy(this.#runCarryOver(this.#carryOver))
        return
      }
      if (this.#first === null && this.#moving.length === 0 && this.#queue.isEmpty) {
        if (this.#inFlight.length === 0) this.#onQuiet()
        return
      }
      const { depth } = this.#settings
      if (this.#writing >= depth || this.#inFlight.length >= WINDOW_DEPTHS * depth) return
      if (this.#inFlight.length > 0 && this.#queue.waitingBytes < OVERLAP_BYTES_MIN) return
      const { active } = this.#segments
      if (active === null) {
        this.#runBusy(this.#begin())
        return
      }
      const flush = this.#nextFlush(active)
      if (flush === null) return
      this.#issue(flush, active)
    }
  }

  /** Null: something has to happen first, and calls `#pump` again. */
  #nextFlush(active: BegunSegment): Flush | null {
    const { writer } = active
    if (this.#moving.length > 0) {
      const moving = this.#moving
      this.#moving = []
      return moveFrames(moving, writer, this.#nowMs())
    }
    const placements: Placement[] = []
    let bytes = 0
    while (true) {
      const pending = this.#first ?? this.#queue.peek()
      if (pending === undefined) break
      const length = frameBytes(pending)
      if (bytes > 0 && bytes + length > FLUSH_BYTES_MAX) break
      const fits = bytes + length <= writer.room && active.entry.building.vchannelCount < SEGMENT_VCHANNELS_MAX
      if (!fits) {
        if (placements.length > 0) break
        this.#runBusy(this.#roll(length))
        return null
      }
      const placement = this.#place(pending)
      if (placement === 'later') {
        if (placements.length > 0) break
        return null
      }
      if (this.#first !== null) this.#first = null
      else this.#queue.shift()
      if (placement instanceof TidelogError) {
        this.#settleFailed(pending, placement)
        continue
      }
      placements.push(placement)
      bytes += length
    }
    if (placements.length === 0) return null
    return buildFlush(placements, bytes, writer, this.#owner, this.#buffers, this.#nowMs())
  }

  /** Gives LSNs and ticks. `later`: a lease has to be extended first. An error: the frame is refused. */
  #place(pending: PendingFrame): Placement | 'later' | TidelogError {
    if (this.#lsnLease !== null && this.#nextLsn + pending.lsnCount > this.#lsnLease.bounds.lsnBound) {
      const lsnBound = this.#nextLsn + pending.lsnCount + LSN_LEASE
      this.#runBusy(this.#whenSpace(this.#lsnLease.write({ lsnBound })))
      return 'later'
    }
    if (!pending.isIntact()) return payloadChanged()
    let baseTimeTick = this.#lastTick + 1n
    const ticks = pending.kind === FrameKind.timeTick ? 1 : pending.recordCount
    if (ticks > 0) {
      let given: bigint | null
      try {
        const notBefore = pending.barrierTick > baseTimeTick ? pending.barrierTick : baseTimeTick
        given = this.#ticks.take(ticks, notBefore)
      } catch (error) {
        return error as TidelogError
      }
      if (given === null) {
        this.#runBusy(this.#whenSpace(this.#ticks.extended()))
        return 'later'
      }
      baseTimeTick = given
    }
    // The last question: whoever is admitted is placed.
    const refusal = pending.admit?.() ?? null
    if (refusal !== null) return refusal as TidelogError
    if (ticks > 0) this.#lastTick = baseTimeTick + BigInt(ticks - 1)
    const placement = { pending, baseLsn: this.#nextLsn, baseTimeTick }
    this.#nextLsn += pending.lsnCount
    return placement
  }

  #stir(): void {
    this.stirs++
    this.onStir?.()
  }

  #issue(flush: Flush, segment: BegunSegment): void {
    this.#inFlight.push(flush)
    this.#stir()
    this.#writing++
    if (this.#inFlight.length === 2) this.#setBusy(true)
    this.#watchDeadline()
    segment.writer.write(flush.bytes, flush.position).then(
      () => {
        if (this.#segments.active !== segment) return
        this.#writing--
        flush.done = true
        if (this.#inFlight[0] === flush) this.#complete()
        else this.#pump()
      },
      (error) => {
        if (this.#segments.active === segment && this.#failure === null) this.#onWriteFailed(flush, error, segment)
      },
    )
  }

  /** Acknowledges the flushes that are durable, in order. */
  #complete(): void {
    if (this.#failure !== null || this.#inFlight[0]?.done !== true) return
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
    const { entry, writer } = this.#segments.active!
    const finished: Flush[] = []
    while (this.#inFlight[0]?.done === true) finished.push(this.#inFlight.shift()!)
    const nowMs = this.#nowMs()
    for (const flush of finished) this.#enterDurable(flush, entry, writer, nowMs)
    const { position, nextLsn, lastTimeTick } = this.#segments.durable
    this.#state.setDurableEnd({ segment: entry, position, nextLsn, lastTimeTick }, nextLsn)
    this.#state.announce()
    for (const flush of finished) {
      for (const { pending, header } of flush.frames) {
        if (pending === null) continue
        pending.settle(header.baseLsn, header.baseTimeTick)
        this.#queue.release(pending.queuedBytes)
      }
    }
    // The gap that is owed is placed before everything else.
    if (this.#first === null) this.#lsnLease?.gapWritten()
    if (this.#inFlight.length === 0) this.#announceQuiet()
    this.#pump()
  }

  #enterDurable(flush: Flush, entry: BegunSegment['entry'], writer: SegmentWriter, nowMs: number): void {
    const last = flush.frames[flush.frames.length - 1]!
    const end = flush.position + flush.bytes.length
    writer.markDurable(end)
    this.#segments.advance({
      position: end,
      chain: last.header.checksum,
      nextLsn: last.nextLsn,
      lastTimeTick: lastTickOfFlush(flush, this.#segments.durable.lastTimeTick),
    })
    this.#provenByMarker = last.header.kind === FrameKind.durableMarker
    this.#counts.flushes++
    this.#counts.flushMs += nowMs - flush.issuedAtMs
    this.#counts.appendedBytes += flush.bytes.length
    const allocation = flush.bytes.buffer
    let isCached = false
    this.#entering = allocation
    for (const { header, vchannels, offset } of flush.frames) {
      if (header.kind === FrameKind.records) this.#counts.appendedFrames++
      this.#counts.appendedRecords += header.recordCount
      entry.building.addFrame({
        position: header.position,
        baseLsn: header.baseLsn,
        baseTimeTick: header.baseTimeTick,
        recordCount: header.recordCount,
        kind: header.kind,
        vchannels,
      })
      const bytes = flush.bytes.subarray(offset, offset + header.totalLength)
      if (this.#state.cache.add({ header, bytes, segment: entry })) isCached = true
    }
    this.#entering = null
    if (!isCached) this.#buffers.give(allocation)
  }

  // --- steps that no flush may overtake --------------------------------------------------------------------------

  async #runCarryOver(carryOver: CarryOver): Promise<void> {
    await this.#whenSpace(this.#segments.carryOver(carryOver))
    if (this.#segments.active === null) return
    this.#carryOver = null
    this.#uncutTick = null
    this.#provenByMarker = true
  }

  async #begin(): Promise<void> {
    const moving = this.#moving
    const baseLsn = moving[0]?.header.baseLsn ?? this.#nextLsn
    await this.#whenSpace(this.#segments.begin(baseLsn, this.#lengthOfFirst(), moving.length > 0))
    if (this.#segments.active !== null) this.#uncutTick = null
  }

  async #roll(frameLength: number): Promise<void> {
    const drained = async (): Promise<boolean> => {
      await this.#drained()
      return this.#failure === null && !this.#stuck
    }
    await this.#whenSpace(
      this.#segments.roll(this.#nextLsn, frameLength, drained).then((rolled) => {
        if (!rolled) return
        this.#counts.rolls++
        this.onRoll?.()
      }),
    )
  }

  #lengthOfFirst(): number {
    if (this.#moving.length > 0) return this.#moving.reduce((sum, frame) => sum + frame.bytes.length, 0)
    const pending = this.#first ?? this.#queue.peek()
    return pending === undefined ? 0 : frameBytes(pending)
  }

  /** A step that can be made again when there is room: a full disk refuses what waits, and is no failure. */
  async #whenSpace(step: Promise<void>): Promise<void> {
    try {
      await step
      this.#noSpace = false
    } catch (error) {
      const full = isDiskError(error, 'ENOSPC') || (error instanceof TidelogError && error.code === 'DISK_FULL')
      if (!full) throw error
      this.#refuseForSpace(error)
    }
  }

  /** Runs a step that no flush may overtake. What it throws is final for this writer. */
  #runBusy(step: Promise<void>): void {
    assert(!this.#busy, 'one step at a time')
    this.#busy = true
    const { environment, writeDeadlineMs, directory } = this.#settings
    const late = environment.clock.after(STEP_DEADLINES * writeDeadlineMs, () =>
      this.#fail(diskDoesNotAnswer(directory)),
    )
    step
      .catch((error) => this.#fail(asFailure(error, this.#settings.directory)))
      .finally(() => {
        late.cancel()
        this.#busy = false
        this.#announceQuiet()
        this.#pump()
      })
  }

  // --- failures --------------------------------------------------------------------------------------------------

  #onWriteFailed(flush: Flush, error: unknown, segment: BegunSegment): void {
    const { directory } = this.#settings
    if (isDiskError(error, 'ENOSPC')) this.#cutForSpace(flush, error.bytesWritten, error)
    else this.#fail(asFailure(error, directory, `${directory}/${segment.entry.name}`))
  }

  /** The disk is full: what is in flight is settled, the segment ends at its durable end, the next append tries anew. */
  #cutForSpace(flush: Flush, bytesWritten: number, cause: unknown): void {
    const clean = bytesWritten === 0 && this.#inFlight[0] === flush && this.#inFlight.length === 1
    const cut = this.#inFlight
    this.#inFlight = []
    this.#counts.cuts++
    this.#nextLsn = this.#segments.durable.nextLsn
    this.#leaveSegment()
    if (!clean) this.#uncutTick ??= cut[0]?.frames[0]?.header.baseTimeTick ?? null
    for (const { frames } of cut) {
      for (const { pending } of frames) {
        this.#keepGap(pending)
        this.#settleFailed(pending, noSpace(clean ? 'cut clean' : 'cut', this.#settings.directory, cause))
      }
    }
    this.#announceQuiet()
    this.#schedule()
  }

  /** A segment could not be begun, or a lease extended: nothing that waits can be written now. */
  #refuseForSpace(cause: unknown): void {
    const { directory } = this.#settings
    const moving = this.#moving
    this.#moving = []
    const first = moving[0]?.header
    if (first !== undefined) {
      this.#nextLsn = first.baseLsn
      this.#uncutTick ??= first.baseTimeTick
    }
    for (const { pending } of moving) {
      this.#keepGap(pending)
      this.#settleFailed(pending, noSpace('cannot be moved', directory, cause))
    }
    this.#noSpace = true
    this.#queue.rejectAll(() => noSpace('refused', directory, cause))
  }

  #watchDeadline(): void {
    if (this.#deadline !== null) return
    const { environment, writeDeadlineMs } = this.#settings
    this.#deadline = environment.clock.after(writeDeadlineMs, () => {
      this.#deadline = null
      const oldest = this.#inFlight[0]
      if (oldest === undefined || this.#failure !== null) return
      if (this.#nowMs() - oldest.issuedAtMs < writeDeadlineMs) {
        this.#watchDeadline()
      } else if (!this.#busy) {
        this.#runBusy(this.#cutStuck())
      } else if (this.#draining) {
        this.#stuck = true
        this.#announceQuiet()
      } else {
        this.#watchDeadline()
      }
    })
  }

  /**
   * A write does not return. The segment is cut at its durable end by the manifest, and what was under way is written
   * again, with the same LSNs and ticks, into a new one: what lands late in the old file lies beyond its end.
   */
  async #cutStuck(): Promise<void> {
    const stuck = this.#inFlight
    this.#inFlight = []
    this.#counts.cuts++
    for (const flush of stuck) {
      // The kernel may still read the buffer of the stuck write: the frames are copied from it, never changed in it.
      for (const { pending, header, vchannels, nextLsn, offset } of flush.frames) {
        const bytes = flush.bytes.subarray(offset, offset + header.totalLength)
        this.#moving.push({ pending, header, vchannels, nextLsn, bytes })
      }
    }
    this.#leaveSegment()
    await this.#begin()
  }

  /** What returns later of its writes is nobody's. */
  #leaveSegment(): void {
    this.#segments.leave()
    this.#writing = 0
  }

  /** A gap whose frame found no room is written first when there is: its LSNs are not given again. */
  #keepGap(pending: PendingFrame | null): void {
    if (pending !== null && pending.lsnCount > pending.recordCount) this.#first = pending
  }

  #settleFailed(pending: PendingFrame | null, error: TidelogError): void {
    if (pending === null) return
    this.#queue.release(pending.queuedBytes)
    pending.fail(error)
  }

  /** Why the own manifest is not the newest any more. */
  #overtaken(): TidelogError {
    const { environment, directory } = this.#settings
    return isGone(environment.disk, directory) ? directoryGone(directory) : fencedAway(directory)
  }

  #fail(error: TidelogError): void {
    if (this.#failure !== null) return
    this.#failure = error
    this.#stir()
    this.#failedMs = this.#settings.environment.clock.nowMs()
    this.#lsnLease?.doubt()
    this.#setBusy(false)
    this.#deadline?.cancel()
    this.#marker?.cancel()
    const inFlight = this.#inFlight
    const moving = this.#moving
    this.#inFlight = []
    this.#moving = []
    this.#state.end(error)
    for (const { frames } of inFlight) for (const { pending } of frames) pending?.fail(unknownOutcome(error))
    for (const { pending } of moving) pending?.fail(unknownOutcome(error))
    this.#queue.rejectAll(() => notWritten(error))
    this.#announceQuiet()
  }

  // --- idle, close -----------------------------------------------------------------------------------------------

  /** Two flushes in flight want the disk for themselves; preparing and tidying give way until all is quiet. */
  #setBusy(busy: boolean): void {
    this.#settings.pool.setBusy(this, busy)
    this.#segments.setBusy(busy)
    this.onBusy?.(busy)
  }

  #onQuiet(): void {
    this.#announceQuiet()
    const { durability, environment, alignment } = this.#settings
    this.#setBusy(false)
    if (this.#provenByMarker || this.#marker !== null || this.#closing !== null || durability === 'os') return
    this.#marker = environment.clock.after(MARKER_DELAY_MS, () => {
      this.#marker = null
      if (!this.isQuiet || this.#busy || this.#failure !== null || this.#closing !== null) return
      if (this.#provenByMarker || (this.#segments.active?.writer.room ?? 0) < alignment) return
      this.#queue.push(ControlFrame.durableMarker())
      this.#schedule()
    })
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
    this.#marker?.cancel()
    // `#closing` is set when this runs on: nothing is admitted any more.
    await Promise.resolve()
    while (this.#failure === null && (!this.isQuiet || this.#busy)) {
      this.#schedule()
      await this.#nextQuiet()
    }
    this.#deadline?.cancel()
    this.#setBusy(false)
    if (this.#failure === null) await this.#closeSegments()
    if (this.#failure !== null) this.#segments.leave()
    // What is stuck in the background keeps its file open, and nobody waiting.
    await this.#withinDeadline(this.#segments.settled()).catch(() => {})
    this.#state.end(new TidelogError('CLOSED', 'the log is closed'))
  }

  /** A step of the closing, as long as a step of the work may take; TIMEOUT when the disk does not answer. */
  async #withinDeadline(step: Promise<void>): Promise<void> {
    const { environment, writeDeadlineMs, directory } = this.#settings
    let late: Timer | undefined
    const deadline = new Promise<never>((_, reject) => {
      late = environment.clock.after(STEP_DEADLINES * writeDeadlineMs, () => reject(diskDoesNotAnswer(directory)))
    })
    try {
      await Promise.race([step, deadline])
    } finally {
      late?.cancel()
    }
  }

  async #closeSegments(): Promise<void> {
    try {
      await this.#withinDeadline(this.#segments.close(this.#nextLsn))
    } catch (error) {
      this.#fail(asFailure(error, this.#settings.directory))
      throw this.#failure
    }
    if (this.#first !== null) return
    await this.#lsnLease?.write({ lsnBound: this.#nextLsn }).catch((error: unknown) => {
      // Without room the old bound stays: numbering may go on with a gap.
      if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
    })
  }

  /** Settles when nothing is in flight, when everything has failed, or when a write is stuck. */
  async #drained(): Promise<void> {
    this.#draining = true
    while (this.#inFlight.length > 0 && this.#failure === null && !this.#stuck) await this.#nextQuiet()
    this.#draining = false
  }

  /** Settles when something of what the writer waits for may have happened. */
  #nextQuiet(): Promise<void> {
    return new Promise((resolve) => this.#quietWaiters.push(resolve))
  }

  #announceQuiet(): void {
    const waiters = this.#quietWaiters
    this.#quietWaiters = []
    for (const resolve of waiters) resolve()
  }

  #nowMs(): number {
    return this.#settings.environment.clock.monotonicMs()
  }
}

function needsOwnFrame(options: AppendRecordsOptions | undefined): boolean {
  return options?.ownFrame === true || options?.contexts !== undefined || options?.admit != null
}
