/**
 * Group commit, driven by events: idle means write now; while writes are under way frames gather, and the next write
 * leaves as soon as a slot is free and what waits is worth one. Several synced writes may be in flight; they are
 * acknowledged strictly in order, and only after no newer owner was seen.
 *
 * One owner of all that moves: the queue, the flushes in flight, the active segment and its succession (roll, cut).
 */

import { DiskError, isDiskError } from '../disk/disk.ts'
import type { Timer } from '../environment.ts'
import { assert, TidelogError } from '../errors.ts'
import { type BodyLimits, type BodyPlan, planBody, type RecordInput } from '../format/body-plan.ts'
import { FormatError } from '../format/format-error.ts'
import { FrameKind } from '../format/frame-header.ts'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import type { FilePool } from '../segment/file-pool.ts'
import { nextSegmentBytes } from '../segment/segment-size.ts'
import type { SegmentWriter, WriteMode } from '../segment/segment-writer.ts'
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
import type { LogDurability } from './log-options.ts'
import type { LogState } from './log-state.ts'
import type { SegmentEntry } from './log-view.ts'
import type { ManifestStore } from './manifest-store.ts'
import {
  type AppendResult,
  BatchFrame,
  ControlFrame,
  type PendingFrame,
  type ReceivedBody,
  ReceivedFrame,
} from './pending-frame.ts'
import {
  type BegunSegment,
  dropUnnamed,
  nameSegmentFile,
  randomSalt,
  randomSegmentId,
  type SegmentFileSettings,
  takeSegmentFile,
  type UnnamedSegmentFile,
  writeSegmentHeader,
} from './segment-files.ts'
import { finishSegment } from './segment-finish.ts'
import type { TickOracle } from './tick-oracle.ts'

/** One write takes at most this, unless a single frame is larger. */
const FLUSH_BYTES_MAX = 1024 * 1024
/** While writes are in flight, a further one leaves only with this much: small ones gather better than they overlap. */
const OVERLAP_BYTES_MIN = 128 * 1024
/** Idle this long, what was acknowledged last is made provable by a durable marker. */
const MARKER_DELAY_MS = 100
/** A write that takes longer makes the log `stalled` in the eyes of health checks. */
const STALLED_MS = 1_000
/** LSNs that a lease takes in advance at durability `os`. */
const LSN_LEASE = 1_000_000
/** More names than this in the index of the active segment: a new one is begun. */
const SEGMENT_VCHANNELS_MAX = 131_072

export interface AppendOptions {
  /** The first tick of the append is not below it. */
  barrierTick?: bigint | undefined
  /** Ends a wait for room in the queue. What is in the queue is written. */
  signal?: AbortSignal | undefined
}

export interface WriterSettings extends SegmentFileSettings {
  pool: FilePool
  durability: LogDurability
  mode: WriteMode
  depth: number
  segmentBytes: number
  writeDeadlineMs: number
  queueBytes: number
  whenFull: 'wait' | 'reject'
  limits: BodyLimits
  alignment: number
}

/** The end of what is durable and acknowledged. */
export interface DurablePoint {
  position: number
  chain: bigint
  nextLsn: number
  lastTimeTick: bigint
}

/** A segment that nothing is written to any more, and which the next one follows. */
export interface Predecessor {
  entry: SegmentEntry
  /** The header's own predecessor: what the next one names instead when this one holds no frame. */
  header: Pick<SegmentHeader, 'previous'>
  end: number
  chain: bigint
  /** The id that its seal names for the next one. */
  nextSegmentId: string | null
  /** From here on the file is zeros and may be trimmed; undefined: leave it as it is. */
  zeroFrom: number | undefined
}

export interface WriterStart {
  nextLsn: number
  lastTimeTick: bigint
  predecessor: Predecessor | null
  /** Copies what was not proven into a new segment, before anything else is written; null: there is nothing to copy. */
  carryOver: (() => Promise<{ segment: BegunSegment; durable: DurablePoint }>) | null
  /** Of what `carryOver` is going to copy; null: there is nothing. */
  firstUnprovenTick: bigint | null
  /** Written before anything else: LSNs that may have been given and are not in the log. */
  gapCount: number
}

export interface WriterStatistics {
  appendedRecords: number
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
  readonly #queue: AppendQueue
  readonly #buffers = new FlushBuffers()
  /** The buffer whose frames are entering the cache: not used again before all of them have. */
  #entering: ArrayBufferLike | null = null

  #active: BegunSegment | null = null
  #predecessor: Predecessor | null
  #durable: DurablePoint
  #inFlight: Flush[] = []
  /** Frames of a stuck segment that go first into the next one. */
  #moving: MovedFrame[] = []
  #first: PendingFrame | null
  #carryOver: WriterStart['carryOver']
  #nextLsn: number
  #lastTick: bigint
  #lastSegmentBytes = 0
  #provenByMarker = true

  /** A step that no flush may overtake: lease, roll, cut. */
  #busy = false
  #pumpScheduled = false
  /** A write has passed its deadline while another step was waiting for it. */
  #stuck = false
  #draining = false
  /** The last segment could not be begun for want of space: the next append tries again. */
  #noSpace = false
  #failure: TidelogError | null = null
  #closing: Promise<void> | null = null
  #quietWaiters: (() => void)[] = []
  readonly #background = new Set<Promise<unknown>>()
  /** Trim and index of the segment before. */
  #tidying: Promise<void> = Promise.resolve()
  #publishing = false
  #publishAgain = false
  #deadline: Timer | null = null
  #marker: Timer | null = null
  #lastWatermark = 0n
  /** The predecessor is a segment of this writer that was left without a seal. */
  #leftOpen = false
  /** First tick of frames that a crash may bring to light, until the manifest has cut them off; no watermark passes it. */
  #uncutTick: bigint | null
  readonly #counts = {
    appendedRecords: 0,
    appendedFrames: 0,
    appendedBytes: 0,
    flushes: 0,
    rolls: 0,
    cuts: 0,
    flushMs: 0,
  }
  /** Called after each segment that was finished: retention looks at the log. */
  onRoll: (() => void) | null = null

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
    this.#queue = new AppendQueue(settings.limits, settings.queueBytes, settings.whenFull)
    this.#nextLsn = start.nextLsn
    this.#lastTick = start.lastTimeTick
    this.#predecessor = start.predecessor
    this.#first = start.gapCount > 0 ? ControlFrame.gap({ count: start.gapCount, reason: 'leased' }) : null
    this.#durable = { position: 0, chain: 0n, nextLsn: start.nextLsn, lastTimeTick: start.lastTimeTick }
    this.#carryOver = start.carryOver
    state.cache.onUnused = (allocation) => {
      if (allocation !== this.#entering) this.#buffers.give(allocation)
    }
    this.#uncutTick = start.firstUnprovenTick
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
      await new Promise<void>((resolve) => this.#quietWaiters.push(resolve))
    }
    if (this.#failure !== null) throw this.#failure
  }

  // --- appending -------------------------------------------------------------------------------------------------

  /** A batch is a frame of its own; a single record may share one with other callers'. Must not change until it settles. */
  append(records: readonly RecordInput[], options: AppendOptions | undefined): Promise<AppendResult> {
    const barrierTick = options?.barrierTick ?? 0n
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) {
        reject(refusal)
        return
      }
      try {
        if (records.length === 1) this.#appendSingle(records[0]!, barrierTick, signal, resolve, reject)
        else this.#appendBatch(planBody(records, this.#settings.limits), barrierTick, signal, resolve, reject)
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
      const frame = new ReceivedFrame(body, nodeSection, options?.barrierTick ?? 0n, resolve, reject)
      this.#admit(frame, signal, reject)
    })
  }

  #appendSingle(
    record: RecordInput,
    barrierTick: bigint,
    signal: AbortSignal | undefined,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    const bytes = record.payload == null ? 0 : record.payload.length
    if (this.#queue.hasRoom(bytes)) {
      this.#queue.gather(record, bytes, barrierTick, resolve, reject)
      this.#schedule()
      return
    }
    // Checked before it waits, so that a wrong record is refused at once.
    planBody([record], this.#settings.limits)
    const admit = () => {
      this.#queue.gather(record, bytes, barrierTick, resolve, reject)
      this.#schedule()
    }
    this.#queue.whenRoom(bytes, admit, reject, signal)
  }

  #appendBatch(
    plan: BodyPlan,
    barrierTick: bigint,
    signal: AbortSignal | undefined,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    this.#admit(new BatchFrame(plan, barrierTick, resolve, reject), signal, reject)
  }

  #admit(frame: PendingFrame, signal: AbortSignal | undefined, reject: (error: TidelogError) => void): void {
    if (this.#queue.hasRoom(frame.queuedBytes)) {
      this.#queue.push(frame)
      this.#schedule()
      return
    }
    const admit = () => {
      this.#queue.push(frame)
      this.#schedule()
    }
    this.#queue.whenRoom(frame.queuedBytes, admit, reject, signal)
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

  get lastTimeTick(): bigint {
    return this.#lastTick
  }

  get durable(): Readonly<DurablePoint> {
    return this.#durable
  }

  get activeBytes(): number {
    return this.#active === null ? 0 : this.#active.writer.position
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

  /** T: every record with a tick at or below T is durable and readable, and none will come. Never goes back. */
  watermark(): bigint {
    const oldest = this.#moving[0]?.header ?? this.#inFlight[0]?.frames[0]?.header
    let tick: bigint | null
    if (oldest !== undefined) tick = oldest.baseTimeTick - 1n
    else if (this.#uncutTick !== null) tick = this.#uncutTick - 1n
    else if (this.#failure !== null || this.#closing !== null) tick = this.#durable.lastTimeTick
    else tick = this.#ticks.take(1, 0n)
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
      if (this.#inFlight.length >= this.#settings.depth) return
      if (this.#inFlight.length > 0 && this.#queue.waitingBytes < OVERLAP_BYTES_MIN) return
      if (this.#active === null) {
        this.#runBusy(this.#begin())
        return
      }
      const flush = this.#nextFlush(this.#active)
      if (flush === null) return
      this.#issue(flush, this.#active)
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
      if (placement === 'refused') continue
      placements.push(placement)
      bytes += length
    }
    if (placements.length === 0) return null
    return buildFlush(placements, bytes, writer, this.#owner, this.#buffers, this.#nowMs())
  }

  /** Gives LSNs and ticks: `later` when a lease has to be extended first. */
  #place(pending: PendingFrame): Placement | 'later' | 'refused' {
    if (this.#lsnLease !== null && this.#nextLsn + pending.lsnCount > this.#lsnLease.bounds.lsnBound) {
      this.#runBusy(this.#orNoSpace(this.#extendLsnLease(this.#lsnLease, this.#nextLsn + pending.lsnCount)))
      return 'later'
    }
    if (!pending.isIntact()) {
      this.#queue.release(pending.queuedBytes)
      pending.fail(
        new TidelogError(
          'INVALID_ARGUMENT',
          'a payload was changed in length (or its buffer was given away) before its append settled',
          {
            outcome: 'not-written',
          },
        ),
      )
      return 'refused'
    }
    let baseTimeTick = this.#lastTick + 1n
    if (pending.recordCount > 0) {
      let given: bigint | null
      try {
        const notBefore = pending.barrierTick > baseTimeTick ? pending.barrierTick : baseTimeTick
        given = this.#ticks.take(pending.recordCount, notBefore)
      } catch (error) {
        this.#queue.release(pending.queuedBytes)
        pending.fail(error as TidelogError)
        return 'refused'
      }
      if (given === null) {
        this.#runBusy(this.#orNoSpace(this.#ticks.extended()))
        return 'later'
      }
      baseTimeTick = given
      this.#lastTick = given + BigInt(pending.recordCount - 1)
    }
    const placement = { pending, baseLsn: this.#nextLsn, baseTimeTick }
    this.#nextLsn += pending.lsnCount
    return placement
  }

  #issue(flush: Flush, segment: BegunSegment): void {
    this.#inFlight.push(flush)
    if (this.#inFlight.length === 2) this.#settings.pool.setBusy(this, true)
    this.#watchDeadline()
    segment.writer.write(flush.bytes, flush.position).then(
      () => {
        if (this.#active !== segment) return
        flush.done = true
        this.#complete()
      },
      (error) => {
        if (this.#active === segment && this.#failure === null) this.#onWriteFailed(flush, error)
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
      this.#fail(asFailure(error))
      return
    }
    if (newest === undefined) {
      void this.#manifests.linked().then(() => this.#complete())
      return
    }
    if (!newest) {
      this.#fail(
        new TidelogError('FENCED', 'a newer owner has opened the log; nothing is acknowledged any more', {
          outcome: 'unknown',
        }),
      )
      return
    }
    const { entry, writer } = this.#active!
    const finished: Flush[] = []
    while (this.#inFlight[0]?.done === true) finished.push(this.#inFlight.shift()!)
    const nowMs = this.#nowMs()
    for (const flush of finished) this.#enterDurable(flush, entry, writer, nowMs)
    this.#state.setDurableEnd(
      {
        segment: entry,
        position: this.#durable.position,
        nextLsn: this.#durable.nextLsn,
        lastTimeTick: this.#durable.lastTimeTick,
      },
      this.#durable.nextLsn,
    )
    this.#state.announce()
    for (const flush of finished) {
      for (const { pending, header } of flush.frames) {
        if (pending === null) continue
        pending.settle(header.baseLsn, header.baseTimeTick)
        this.#queue.release(pending.queuedBytes)
      }
    }
    if (this.#inFlight.length === 0) this.#announceQuiet()
    this.#pump()
  }

  #enterDurable(flush: Flush, entry: BegunSegment['entry'], writer: SegmentWriter, nowMs: number): void {
    const last = flush.frames[flush.frames.length - 1]!
    const end = flush.position + flush.bytes.length
    writer.markDurable(end)
    this.#durable = {
      position: end,
      chain: last.header.checksum,
      nextLsn: last.nextLsn,
      lastTimeTick: lastTickOfFlush(flush, this.#durable.lastTimeTick),
    }
    this.#provenByMarker = last.header.kind === FrameKind.durableMarker
    this.#counts.flushes++
    this.#counts.flushMs += nowMs - flush.issuedAtMs
    this.#counts.appendedBytes += flush.bytes.length
    const allocation = flush.bytes.buffer
    let isCached = false
    this.#entering = allocation
    for (const { header, vchannels, offset } of flush.frames) {
      this.#counts.appendedFrames++
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

  // --- succession: the first segment, roll, cut ------------------------------------------------------------------

  async #runCarryOver(carryOver: NonNullable<WriterStart['carryOver']>): Promise<void> {
    try {
      const { segment, durable } = await carryOver()
      const { entry } = segment
      const predecessor = this.#predecessor!
      const empty = predecessor.end <= SEGMENT_HEADER_BYTES
      if (!empty)
        predecessor.entry.end = { position: predecessor.end, chain: predecessor.chain, nextLsn: entry.baseLsn }
      this.#carryOver = null
      this.#install(
        segment,
        empty ? this.#state.segments.filter((known) => known !== predecessor.entry) : this.#state.segments,
      )
      this.#durable = durable
      this.#provenByMarker = true
      this.#state.setDurableEnd(
        { segment: entry, position: durable.position, nextLsn: durable.nextLsn, lastTimeTick: durable.lastTimeTick },
        durable.nextLsn,
      )
      this.#state.announce()
      if (empty) this.#inBackground(this.#dropRetired(predecessor.entry))
      else this.#inBackground(this.#trim(predecessor))
    } catch (error) {
      if (isDiskError(error, 'ENOSPC') && (await this.#settings.pool.releaseReserve())) {
        await this.#runCarryOver(carryOver)
        return
      }
      this.#onBeginFailed(error)
    }
  }

  /** The zero end of a tail that an earlier process left. Other bytes behind its end stay. */
  async #trim({ entry, zeroFrom }: Predecessor): Promise<void> {
    if (zeroFrom === undefined) return
    const file = await this.#settings.environment.disk.open(`${this.#settings.directory}/${entry.name}`, 'write')
    try {
      await file.truncate(zeroFrom)
    } finally {
      await file.close()
    }
  }

  /** Begins a segment behind one that is not written to any more, and publishes it before the first frame. */
  async #begin(): Promise<void> {
    const predecessor = this.#predecessor
    const empty = predecessor !== null && predecessor.end <= SEGMENT_HEADER_BYTES ? predecessor : null
    const previous =
      predecessor === null ? null : (empty?.header.previous ?? (empty === null ? nameOf(predecessor) : null))
    const header = this.#nextHeader(predecessor?.nextSegmentId ?? randomSegmentId(this.#settings.environment), previous)
    let unnamed: UnnamedSegmentFile | null = null
    let begun: BegunSegment | null = null
    try {
      if (predecessor !== null && empty === null && this.#leftOpen) await this.#syncLeftOpen(predecessor)
      unnamed = await this.#takeFile(this.#lengthOfFirst())
      header.preparedBytes = unnamed.prepared ? unnamed.bytes : 0
      const checksum = await writeSegmentHeader(this.#settings, unnamed, header)
      if (!(await this.#manifests.confirmNewest())) throw fenced()
      begun = await nameSegmentFile(this.#settings, unnamed, header, checksum)
      const { entry } = begun
      await this.#manifests.publish((content) => ({
        ...content,
        firstSegment:
          content.firstSegment === null || content.firstSegment.id === empty?.entry.id
            ? { id: entry.id, baseLsn: entry.baseLsn }
            : content.firstSegment,
        tail: {
          id: entry.id,
          baseLsn: entry.baseLsn,
          syncedPosition: SEGMENT_HEADER_BYTES,
          chain: checksum,
          closed: false,
        },
        nextLsn: header.baseLsn,
        lastTimeTick: this.#durable.lastTimeTick,
        retired:
          empty === null ? content.retired : [...content.retired, { id: empty.entry.id, baseLsn: empty.entry.baseLsn }],
      }))
    } catch (error) {
      if (unnamed !== null) {
        await dropUnnamed(this.#settings, unnamed)
        // Not published: nothing can be in it. When that is not certain the next open decides.
        if (begun !== null && !this.#manifests.isDoubtful)
          await this.#settings.environment.disk
            .unlink(`${this.#settings.directory}/${begun.entry.name}`)
            .catch(() => {})
      }
      // The reserve is for what has its LSNs already; new appends are refused.
      const needed = this.#moving.length > 0 && isDiskError(error, 'ENOSPC')
      if (needed && (await this.#settings.pool.releaseReserve())) {
        await this.#begin()
        return
      }
      this.#onBeginFailed(error)
      return
    }
    if (predecessor !== null && empty === null) {
      predecessor.entry.end = { position: predecessor.end, chain: predecessor.chain, nextLsn: header.baseLsn }
    }
    const kept = this.#state.segments.filter((segment) => segment !== empty?.entry)
    this.#install(begun, kept)
    if (empty !== null) this.#inBackground(this.#dropRetired(empty.entry))
    else if (predecessor !== null) this.#inBackground(this.#trim(predecessor))
  }

  /** Finishes the active segment and goes on in the next one, which its seal names. */
  async #roll(frameLength: number): Promise<void> {
    const { entry, writer } = this.#active!
    const nextId = randomSegmentId(this.#settings.environment)
    const taking = this.#takeFile(frameLength)
    taking.catch(() => {})
    await this.#drained()
    if (this.#failure !== null || this.#stuck || this.#active?.writer !== writer) {
      await taking.then((file) => dropUnnamed(this.#settings, file)).catch(() => {})
      return
    }
    let unnamed: UnnamedSegmentFile | null = null
    try {
      unnamed = await taking
      // A crash leaves at most one sealed segment without its index.
      await this.#tidying
      const end = { position: writer.position, chain: writer.chain, nextLsn: this.#nextLsn }
      const header = this.#nextHeader(nextId, { id: entry.id, end: end.position, chain: end.chain })
      header.preparedBytes = unnamed.prepared ? unnamed.bytes : 0
      const [checksum] = await Promise.all([
        writeSegmentHeader(this.#settings, unnamed, header),
        finishSegment.seal(writer, this.#owner, this.#nextLsn, nextId),
      ])
      if (!(await this.#manifests.confirmNewest())) throw fenced()
      const begun = await nameSegmentFile(this.#settings, unnamed, header, checksum)
      unnamed = null
      entry.end = end
      this.#counts.rolls++
      this.#tidying = finishSegment.tidy(this.#state, entry, writer, end).catch(() => {})
      this.#inBackground(this.#tidying)
      this.#install(begun, this.#state.segments)
      this.#publishTail()
      this.onRoll?.()
    } catch (error) {
      if (unnamed !== null) await dropUnnamed(this.#settings, unnamed)
      // The seal may be there or not: what follows it is told by the next manifest.
      this.#leaveActive(isDiskError(error, 'ENOSPC') ? nextId : null)
      this.#onBeginFailed(error)
    }
  }

  #install(begun: BegunSegment, before: readonly SegmentEntry[]): void {
    this.#active = begun
    this.#noSpace = false
    this.#uncutTick = null
    this.#leftOpen = false
    this.#predecessor = null
    const { entry, writer } = begun
    this.#durable = { ...this.#durable, position: SEGMENT_HEADER_BYTES, chain: writer.chain, nextLsn: entry.baseLsn }
    this.#lastSegmentBytes = Math.min(writer.capacity, this.#settings.segmentBytes)
    this.#state.setSegments([...before, entry])
    this.#state.setDurableEnd(
      {
        segment: entry,
        position: SEGMENT_HEADER_BYTES,
        nextLsn: entry.baseLsn,
        lastTimeTick: this.#durable.lastTimeTick,
      },
      entry.baseLsn,
    )
    this.#state.announce()
    this.#wantFiles()
  }

  #nextHeader(segmentId: string, previous: SegmentHeader['previous']): SegmentHeader {
    const { environment, alignment } = this.#settings
    return {
      logId: this.#state.logId,
      segmentId,
      baseLsn: this.#moving[0]?.header.baseLsn ?? this.#nextLsn,
      baseTimeTick: this.#durable.lastTimeTick === 0n ? 0n : this.#durable.lastTimeTick + 1n,
      ownerTerm: this.#owner.ownerTerm,
      incarnation: this.#owner.incarnation,
      salt: randomSalt(environment),
      alignment,
      previous,
      replaced: null,
      oldestOpenTransaction: null,
      originLogId: null,
      forkLsn: 0,
      createdMs: environment.clock.nowMs(),
      preparedBytes: 0,
    }
  }

  async #takeFile(frameLength: number): Promise<UnnamedSegmentFile> {
    const { alignment, segmentBytes } = this.#settings
    const usual = nextSegmentBytes(this.#lastSegmentBytes, segmentBytes)
    const needed = SEGMENT_HEADER_BYTES + frameLength + 3 * alignment
    // A frame that is larger than a file gets one of its own size.
    const bytes = needed <= usual ? usual : needed <= segmentBytes ? segmentBytes : Math.ceil(needed / 4096) * 4096
    return await takeSegmentFile(this.#settings, bytes)
  }

  #lengthOfFirst(): number {
    if (this.#moving.length > 0) return this.#moving.reduce((sum, frame) => sum + frame.bytes.length, 0)
    const pending = this.#first ?? this.#queue.peek()
    return pending === undefined ? 0 : frameBytes(pending)
  }

  #wantFiles(): void {
    const { pool, segmentBytes } = this.#settings
    const next = nextSegmentBytes(this.#lastSegmentBytes, segmentBytes)
    if (this.#lastSegmentBytes < segmentBytes) pool.unwant(this.#lastSegmentBytes)
    pool.want(next, next < segmentBytes ? 1 : 4)
  }

  /** The active segment is written to no more; what is durable of it stays. */
  #leaveActive(nextSegmentId: string | null): void {
    if (this.#active === null) return
    const { entry, writer } = this.#active
    this.#predecessor = {
      entry,
      header: writer.header,
      end: this.#durable.position,
      chain: this.#durable.chain,
      nextSegmentId,
      zeroFrom: undefined,
    }
    this.#active = null
    this.#leftOpen = true
    // Not waited for: a write that never returns keeps its file open.
    void writer.file.close().catch(() => {})
  }

  #onBeginFailed(error: unknown): void {
    if (isDiskError(error, 'ENOSPC') || (error instanceof TidelogError && error.code === 'DISK_FULL')) {
      const cause = error
      const refuse = () =>
        new TidelogError(
          'DISK_FULL',
          `no space for the log in ${this.#settings.directory}. Nothing was written; make room and send again.`,
          {
            outcome: 'not-written',
            retriable: true,
            cause,
          },
        )
      for (const { pending } of this.#moving) {
        if (pending === null) continue
        this.#queue.release(pending.queuedBytes)
        pending.fail(
          new TidelogError(
            'DISK_FULL',
            `a write did not return, and there is no space to write it again in ${this.#settings.directory}; make room and look whether the records are there`,
            { outcome: 'unknown', retriable: true, cause },
          ),
        )
      }
      if (this.#moving.length > 0) {
        const { header } = this.#moving[0]!
        this.#nextLsn = header.baseLsn
        this.#uncutTick ??= header.baseTimeTick
        this.#moving = []
      }
      this.#noSpace = true
      this.#queue.rejectAll(refuse)
      return
    }
    this.#fail(asFailure(error))
  }

  // --- failures --------------------------------------------------------------------------------------------------

  #onWriteFailed(flush: Flush, error: unknown): void {
    if (!isDiskError(error, 'ENOSPC')) {
      this.#fail(asFailure(error))
      return
    }
    this.#cutForSpace(flush, error.bytesWritten)
  }

  /** The disk is full: what is in flight is settled, the segment ends at its durable end, the next append tries anew. */
  #cutForSpace(flush: Flush, bytesWritten: number): void {
    const clean = bytesWritten === 0 && this.#inFlight[0] === flush && this.#inFlight.length === 1
    const refused = this.#inFlight
    this.#inFlight = []
    this.#counts.cuts++
    this.#nextLsn = this.#durable.nextLsn
    this.#leaveActive(null)
    if (!clean) this.#uncutTick ??= refused[0]?.frames[0]?.header.baseTimeTick ?? null
    for (const { frames } of refused) {
      for (const { pending } of frames) {
        if (pending === null) continue
        this.#queue.release(pending.queuedBytes)
        pending.fail(
          new TidelogError(
            'DISK_FULL',
            `no space in ${this.#settings.directory}; make room and ${clean ? 'send again' : 'look whether the records are there'}`,
            {
              outcome: clean ? 'not-written' : 'unknown',
              retriable: true,
            },
          ),
        )
      }
    }
    this.#announceQuiet()
    this.#schedule()
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
      for (const frame of flush.frames) {
        const bytes = flush.bytes.subarray(frame.offset, frame.offset + frame.header.totalLength)
        this.#moving.push({
          pending: frame.pending,
          header: frame.header,
          vchannels: frame.vchannels,
          nextLsn: frame.nextLsn,
          bytes,
        })
      }
    }
    this.#leaveActive(null)
    await this.#begin()
  }

  #fail(error: TidelogError): void {
    if (this.#failure !== null) return
    this.#failure = error
    this.#lsnLease?.doubt()
    this.#settings.pool.setBusy(this, false)
    this.#deadline?.cancel()
    this.#marker?.cancel()
    const inFlight = this.#inFlight
    const moving = this.#moving
    this.#inFlight = []
    this.#moving = []
    this.#state.end(error)
    const unknown = () =>
      new TidelogError(error.code, `${error.message} It is not known whether this append is durable.`, {
        outcome: 'unknown',
        cause: error,
      })
    for (const { frames } of inFlight) for (const { pending } of frames) pending?.fail(unknown())
    for (const { pending } of moving) pending?.fail(unknown())
    this.#queue.rejectAll(() => notWritten(error))
    this.#announceQuiet()
  }

  // --- idle, close -----------------------------------------------------------------------------------------------

  #onQuiet(): void {
    this.#announceQuiet()
    this.#settings.pool.setBusy(this, false)
    if (this.#provenByMarker || this.#marker !== null || this.#closing !== null || this.#settings.durability === 'os')
      return
    this.#marker = this.#settings.environment.clock.after(MARKER_DELAY_MS, () => {
      this.#marker = null
      const room = this.#active?.writer.room ?? 0
      if (!this.isQuiet || this.#busy || this.#failure !== null || this.#closing !== null) return
      if (this.#provenByMarker || room < this.#settings.alignment) return
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
    this.#marker?.cancel()
    // `#closing` is set when this runs on: nothing is admitted any more.
    await Promise.resolve()
    while (this.#failure === null && (!this.isQuiet || this.#busy)) {
      this.#schedule()
      await new Promise<void>((resolve) => this.#quietWaiters.push(resolve))
    }
    this.#deadline?.cancel()
    this.#settings.pool.setBusy(this, false)
    if (this.#failure === null) await this.#sealForGood()
    if (this.#failure === null && this.#first === null) {
      await this.#lsnLease?.write({ lsnBound: this.#nextLsn }).catch((error: unknown) => {
        // Without room the old bound stays: numbering may go on with a gap.
        if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
      })
    } else if (this.#active !== null) this.#leaveActive(null)
    while (this.#background.size > 0) await Promise.allSettled([...this.#background])
    this.#state.end(new TidelogError('CLOSED', 'the log is closed'))
  }

  async #sealForGood(): Promise<void> {
    const active = this.#active
    if (active === null) {
      if (this.#leftOpen && this.#predecessor !== null) await this.#closePredecessor(this.#predecessor)
      return
    }
    const { entry, writer } = active
    const end = { position: writer.position, chain: writer.chain, nextLsn: this.#nextLsn }
    try {
      if (writer.tally.frames > 0) {
        try {
          await finishSegment.seal(writer, this.#owner, this.#nextLsn, null)
        } catch (error) {
          // Without room for a seal the manifest alone says where the segment ends.
          if (!isDiskError(error, 'ENOSPC')) throw error
        }
      }
      while (this.#publishing) await Promise.allSettled([...this.#background])
      await this.#manifests.publish((content) => ({
        ...content,
        tail: { id: entry.id, baseLsn: entry.baseLsn, syncedPosition: end.position, chain: end.chain, closed: true },
        nextLsn: end.nextLsn,
        lastTimeTick: this.#durable.lastTimeTick,
      }))
    } catch (error) {
      await writer.file.close().catch(() => {})
      this.#fail(asFailure(error))
      throw this.#failure
    }
    entry.end = end
    this.#active = null
    await finishSegment.tidy(this.#state, entry, writer, end)
  }

  /** At level `os` nothing has synced what was written to a segment that is left without a seal: what follows it says so. */
  async #syncLeftOpen({ entry }: Predecessor): Promise<void> {
    const { environment, directory, durability } = this.#settings
    if (durability !== 'os') return
    const file = await environment.disk.open(`${directory}/${entry.name}`, 'write')
    try {
      await file.sync()
    } catch (cause) {
      // Never a mere want of room: a sync is not tried again.
      throw new DiskError('EIO', 'sync', file.path, { cause })
    } finally {
      await file.close()
    }
  }

  /** A segment was cut and the next one could not be begun: the manifest alone says where the log ends. */
  async #closePredecessor(predecessor: Predecessor): Promise<void> {
    const { entry, end, chain } = predecessor
    const { nextLsn, lastTimeTick } = this.#durable
    try {
      await this.#syncLeftOpen(predecessor)
      await this.#manifests.publish((content) => ({
        ...content,
        firstSegment: content.firstSegment ?? { id: entry.id, baseLsn: entry.baseLsn },
        tail: { id: entry.id, baseLsn: entry.baseLsn, syncedPosition: end, chain, closed: true },
        nextLsn,
        lastTimeTick,
      }))
    } catch (error) {
      // The next open finds the same end by itself, as after a crash.
      if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
    }
  }

  /** The manifest follows a roll in the background: until then the walk from the seal finds the new tail. */
  #publishTail(): void {
    if (this.#publishing) {
      this.#publishAgain = true
      return
    }
    this.#publishing = true
    this.#inBackground(
      this.#manifests
        .publish((content) => {
          const active = this.#active
          if (active === null) return content
          const { entry } = active
          const { position, chain, nextLsn, lastTimeTick } = this.#durable
          return {
            ...content,
            firstSegment: content.firstSegment ?? { id: entry.id, baseLsn: entry.baseLsn },
            tail: {
              id: entry.id,
              baseLsn: entry.baseLsn,
              // At level `os` what was written is not yet synced.
              syncedPosition: this.#settings.durability === 'disk' ? position : SEGMENT_HEADER_BYTES,
              chain: this.#settings.durability === 'disk' ? chain : active.writer.headerChecksum,
              closed: false,
            },
            nextLsn: this.#settings.durability === 'disk' ? nextLsn : entry.baseLsn,
            // All four are of the same place: the recovery takes a frame with a lower tick for none of the file's.
            lastTimeTick: this.#settings.durability === 'disk' ? lastTimeTick : lastTickBefore(active.writer.header),
          }
        })
        .catch((error) => {
          // A full disk only delays it.
          if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) this.#fail(asFailure(error))
        })
        .finally(() => {
          this.#publishing = false
          if (!this.#publishAgain || this.#failure !== null) return
          this.#publishAgain = false
          this.#publishTail()
        }),
    )
  }

  async #dropRetired(entry: SegmentEntry): Promise<void> {
    const { disk } = this.#settings.environment
    await disk.unlink(`${this.#settings.directory}/${entry.name}`).catch(() => {})
    await disk.syncDirectory(this.#settings.directory)
    await this.#manifests.publish((content) => ({
      ...content,
      retired: content.retired.filter(({ id }) => id !== entry.id),
    }))
  }

  /** A step without which nothing can be written now, and which can be tried again when there is room. */
  async #orNoSpace(step: Promise<void>): Promise<void> {
    try {
      await step
      this.#noSpace = false
    } catch (error) {
      this.#onBeginFailed(error)
    }
  }

  async #extendLsnLease(lease: LeaseFile, needed: number): Promise<void> {
    await lease.write({ lsnBound: needed + LSN_LEASE })
  }

  /** Runs a step that no flush may overtake. What it throws is final for this writer. */
  #runBusy(step: Promise<void>): void {
    assert(!this.#busy, 'one step at a time')
    this.#busy = true
    const { clock } = this.#settings.environment
    const late = clock.after(3 * this.#settings.writeDeadlineMs, () => {
      this.#fail(
        new TidelogError('TIMEOUT', `the disk under ${this.#settings.directory} does not answer`, {
          outcome: 'unknown',
        }),
      )
    })
    step
      .catch((error) => this.#fail(asFailure(error)))
      .finally(() => {
        late.cancel()
        this.#busy = false
        this.#announceQuiet()
        this.#pump()
      })
  }

  #inBackground(task: Promise<unknown>): void {
    const settled = task.catch(() => {}).finally(() => this.#background.delete(settled))
    this.#background.add(settled)
  }

  /** Settles when nothing is in flight (or everything has failed). */
  async #drained(): Promise<void> {
    this.#draining = true
    while (this.#inFlight.length > 0 && this.#failure === null && !this.#stuck) {
      await new Promise<void>((resolve) => this.#quietWaiters.push(resolve))
    }
    this.#draining = false
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

/** The last tick given before the segment. */
function lastTickBefore({ baseTimeTick }: SegmentHeader): bigint {
  return baseTimeTick === 0n ? 0n : baseTimeTick - 1n
}

function nameOf(predecessor: Predecessor): SegmentHeader['previous'] {
  return { id: predecessor.entry.id, end: predecessor.end, chain: predecessor.chain }
}

function fenced(): TidelogError {
  return new TidelogError('FENCED', 'a newer owner has opened the log', { outcome: 'not-written' })
}

function notWritten(error: TidelogError): TidelogError {
  return new TidelogError(error.code, error.message, {
    outcome: 'not-written',
    retriable: error.retriable,
    cause: error,
  })
}

/** What `planBody` refuses, in the terms of the engine's border. */
function refused(error: unknown): TidelogError {
  if (error instanceof TidelogError) return error
  if (error instanceof FormatError && (error.code === 'INVALID_ARGUMENT' || error.code === 'LIMIT_EXCEEDED')) {
    return new TidelogError(error.code, error.message, { outcome: 'not-written', cause: error })
  }
  return new TidelogError('INVALID_ARGUMENT', String(error), { outcome: 'not-written', cause: error })
}

function asFailure(error: unknown): TidelogError {
  if (error instanceof TidelogError) return error
  const path = isDiskError(error) ? error.path : undefined
  return new TidelogError(
    'POISONED',
    `A write or sync failed (${error instanceof Error ? error.message : String(error)}). What was acknowledged before is safe; close the log and open it again.`,
    { file: path, cause: error },
  )
}
