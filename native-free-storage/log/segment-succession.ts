/**
 * One segment after the other: how the first is begun, how a full one is finished and followed (roll), how one is left
 * at its durable end and followed by a manifest (cut), how the last one is closed. Knows the active segment and the end
 * of what is durable; knows nothing of who waits for what.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import { originOf } from '../segment/lineage.ts'
import { nextSegmentBytes } from '../segment/segment-size.ts'
import { type SegmentWriter, syncOnce } from '../segment/segment-writer.ts'
import type { Ownership } from './flush.ts'
import { type LeaseFile, syncOfAcknowledged } from './lease-file.ts'
import type { LogState } from './log-state.ts'
import type { SegmentEnd, SegmentEntry } from './log-view.ts'
import type { ManifestStore } from './manifest-store.ts'
import {
  type BegunSegment,
  dropUnnamed,
  nameSegmentFile,
  randomSalt,
  randomSegmentId,
  takeSegmentFile,
  type UnnamedSegmentFile,
  writeSegmentHeader,
} from './segment-files.ts'
import { finishSegment } from './segment-finish.ts'
import { SegmentTidying } from './segment-tidying.ts'
import type { CarryOver, DurablePoint, Predecessor, WriterSettings, WriterStart } from './writer-start.ts'

export class SegmentSuccession {
  readonly #settings: WriterSettings
  readonly #state: LogState
  readonly #manifests: ManifestStore
  readonly #owner: Ownership
  /** Null at level `disk`. */
  readonly #lsnLease: LeaseFile | null
  /** A change of the manifest in the background has failed: the log has. */
  readonly #onFailure: (error: unknown) => void

  #active: BegunSegment | null = null
  #predecessor: Predecessor | null
  /** The predecessor is a segment of this writer that was left without a seal. */
  #leftOpen = false
  #durable: DurablePoint
  #lastSegmentBytes = 0
  readonly #tidying: SegmentTidying
  #publishing = false
  #publishAgain = false
  readonly #background = new Set<Promise<unknown>>()

  constructor(
    settings: WriterSettings,
    state: LogState,
    manifests: ManifestStore,
    lsnLease: LeaseFile | null,
    owner: Ownership,
    start: Pick<WriterStart, 'predecessor' | 'nextLsn' | 'lastTimeTick' | 'lateIndexes'>,
    onFailure: (error: unknown) => void,
  ) {
    this.#settings = settings
    this.#state = state
    this.#manifests = manifests
    this.#lsnLease = lsnLease
    this.#owner = owner
    this.#predecessor = start.predecessor
    this.#tidying = new SegmentTidying(start.lateIndexes)
    this.#durable = { position: 0, chain: 0n, nextLsn: start.nextLsn, lastTimeTick: start.lastTimeTick }
    this.#onFailure = onFailure
  }

  /** Null: a segment has to be begun before anything is written. */
  get active(): BegunSegment | null {
    return this.#active
  }

  get durable(): Readonly<DurablePoint> {
    return this.#durable
  }

  /** A flush of the active segment is durable, in its turn. */
  advance(point: DurablePoint): void {
    this.#durable = point
  }

  /** What the recovery left to do. */
  async carryOver(carryOver: CarryOver): Promise<void> {
    const { segment, durable } = await this.#withReserve(carryOver)
    const { entry } = segment
    const predecessor = this.#predecessor!
    const empty = isEmpty(predecessor, entry.baseLsn)
    predecessor.entry.end = endOf(predecessor, entry.baseLsn)
    if (empty) predecessor.entry.replacedBy = entry
    this.#install(
      segment,
      empty ? this.#state.segments.filter((known) => known !== predecessor.entry) : this.#state.segments,
    )
    this.#durable = durable
    this.#showDurable(entry)
    this.#inBackground(empty ? this.#dropRetired(predecessor.entry) : this.#trim(predecessor))
  }

  /**
   * Begins a segment behind one that is not written to any more, and publishes it before the first frame.
   * `frameBytes`: what it has to hold at least. `mayTakeReserve`: the frames have their LSNs already.
   */
  async begin(baseLsn: number, frameBytes: number, mayTakeReserve: boolean): Promise<void> {
    const begin = () => this.#begin(baseLsn, frameBytes)
    await (mayTakeReserve ? this.#withReserve(begin) : begin())
  }

  async #begin(baseLsn: number, frameBytes: number): Promise<void> {
    const predecessor = this.#predecessor
    const empty = predecessor !== null && isEmpty(predecessor, baseLsn) ? predecessor : null
    const previous = predecessor === null ? null : empty === null ? nameOf(predecessor) : empty.header.previous
    const id = predecessor?.nextSegmentId ?? randomSegmentId(this.#settings.environment)
    const header = this.#nextHeader(id, baseLsn, previous)
    let unnamed: UnnamedSegmentFile | null = null
    let begun: BegunSegment | null = null
    try {
      if (predecessor !== null && empty === null && this.#leftOpen) await this.#syncLeftOpen(predecessor)
      unnamed = await this.#takeFile(frameBytes)
      await this.#tidying.room()
      header.preparedBytes = unnamed.prepared ? unnamed.bytes : 0
      const checksum = await writeSegmentHeader(this.#settings, unnamed, header)
      if (!(await this.#manifests.confirmNewest())) throw fenced()
      begun = await nameSegmentFile(this.#settings, unnamed, header, checksum)
      await this.#publishBegun(begun.entry, checksum, empty)
    } catch (error) {
      if (unnamed !== null) {
        await dropUnnamed(this.#settings, unnamed)
        // Not published: nothing can be in it. When that is not certain the next open decides.
        if (begun !== null && !this.#manifests.isDoubtful) {
          const path = `${this.#settings.directory}/${begun.entry.name}`
          await this.#settings.environment.disk.unlink(path).catch(() => {})
        }
      }
      throw error
    }
    if (predecessor !== null) predecessor.entry.end = endOf(predecessor, baseLsn)
    if (empty !== null) empty.entry.replacedBy = begun.entry
    this.#install(
      begun,
      this.#state.segments.filter((segment) => segment !== empty?.entry),
    )
    if (empty !== null) this.#inBackground(this.#dropRetired(empty.entry))
    else if (predecessor !== null) this.#inBackground(this.#trim(predecessor))
  }

  /**
   * Finishes the active segment and goes on in the next one, which its seal names. `drained` settles when nothing of the
   * active segment is in flight; false: it was left meanwhile. Returns whether the roll was made.
   */
  async roll(nextLsn: number, frameBytes: number, drained: () => Promise<boolean>): Promise<boolean> {
    const { entry, writer } = this.#active!
    // It holds markers and time ticks at most. No two segments of a log begin with the same LSN.
    if (nextLsn === entry.baseLsn) return await this.#replace(nextLsn, frameBytes, drained)
    const nextId = randomSegmentId(this.#settings.environment)
    const taking = this.#takeFile(frameBytes)
    taking.catch(() => {})
    if (!(await drained()) || this.#active?.writer !== writer) {
      await taking.then((file) => dropUnnamed(this.#settings, file)).catch(() => {})
      return false
    }
    const end = { position: writer.position, chain: writer.chain, nextLsn }
    let unnamed: UnnamedSegmentFile | null = null
    let sealing: Promise<void> | null = null
    let isSealed = false
    try {
      unnamed = await taking
      await this.#tidying.room()
      const header = this.#nextHeader(nextId, nextLsn, { id: entry.id, end: end.position, chain: end.chain })
      header.preparedBytes = unnamed.prepared ? unnamed.bytes : 0
      sealing = finishSegment.seal(writer, this.#owner, nextLsn, nextId, this.#lsnLease).then(() => {
        isSealed = true
      })
      const [checksum] = await Promise.all([writeSegmentHeader(this.#settings, unnamed, header), sealing])
      if (!(await this.#manifests.confirmNewest())) throw fenced()
      const begun = await nameSegmentFile(this.#settings, unnamed, header, checksum)
      unnamed = null
      entry.end = end
      this.#tidying.add(() => this.#tidy(entry, writer, end))
      this.#install(begun, this.#state.segments)
      this.#publishTail()
      return true
    } catch (error) {
      // Its file is needed as long as the seal, or the removal of a part of it, is under way.
      await sealing?.catch(() => {})
      if (unnamed !== null) await dropUnnamed(this.#settings, unnamed)
      // The seal may be there or not: what follows it is told by the next manifest.
      this.leave(isDiskError(error, 'ENOSPC') ? nextId : null)
      // With a seal it is like any other that is finished, also when there was no room for the next one.
      this.#tidying.addLate(async () => !isSealed || (await this.#tidy(entry, writer, end)))
      throw error
    }
  }

  async #replace(nextLsn: number, frameBytes: number, drained: () => Promise<boolean>): Promise<boolean> {
    const { writer } = this.#active!
    if (!(await drained()) || this.#active?.writer !== writer) return false
    this.leave()
    await this.#begin(nextLsn, frameBytes)
    return true
  }

  /** The active segment is written to no more; what is durable of it stays. `nextSegmentId`: what its seal may name. */
  leave(nextSegmentId: string | null = null): void {
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

  #tidy(entry: SegmentEntry, writer: SegmentWriter, end: SegmentEnd): Promise<boolean> {
    return finishSegment.tidy(this.#state, entry, writer, end, () => {
      try {
        return this.#manifests.isNewest() !== false
      } catch {
        return false
      }
    })
  }

  /** Seals the active segment, when there is room for a seal, and publishes where the log ends. */
  async close(nextLsn: number): Promise<void> {
    const active = this.#active
    if (active === null) {
      await this.#tidying.finishAll()
      if (this.#leftOpen && this.#predecessor !== null) await this.#closePredecessor(this.#predecessor)
      return
    }
    const { entry, writer } = active
    const end = { position: writer.position, chain: writer.chain, nextLsn }
    try {
      if (writer.tally.frames > 0) {
        await finishSegment.seal(writer, this.#owner, nextLsn, null, this.#lsnLease).catch((error: unknown) => {
          // Without room for a seal the manifest alone says where the segment ends.
          if (!isDiskError(error, 'ENOSPC')) throw error
        })
      }
      while (this.#publishing) await this.settled()
      // The indexes and their names before the manifest: a log that was closed has all of them.
      this.#tidying.add(() => this.#tidy(entry, writer, end))
      await this.#tidying.finishAll()
      await this.#state.environment.disk.syncDirectory(this.#state.directory)
      await this.#publishClosed(entry, end.position, end.chain, nextLsn)
    } catch (error) {
      await writer.file.close().catch(() => {})
      throw error
    }
    entry.end = end
    this.#active = null
  }

  /** Whether flushes need the disk for themselves: what can wait waits. */
  setBusy(busy: boolean): void {
    this.#tidying.setBusy(busy)
  }

  /** Settles when nothing goes on in the background. */
  async settled(): Promise<void> {
    await this.#tidying.finish()
    while (this.#background.size > 0) await Promise.allSettled([...this.#background])
  }

  /** A segment was cut and the next one could not be begun: the manifest alone says where the log ends. */
  async #closePredecessor(predecessor: Predecessor): Promise<void> {
    const { entry, end, chain } = predecessor
    try {
      await this.#syncLeftOpen(predecessor)
      await this.#publishClosed(entry, end, chain, this.#durable.nextLsn)
    } catch (error) {
      // The next open finds the same end by itself, as after a crash.
      if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
    }
  }

  async #publishClosed(entry: SegmentEntry, end: number, chain: bigint, nextLsn: number): Promise<void> {
    const { lastTimeTick } = this.#durable
    await this.#manifests.publish((content) => ({
      ...content,
      firstSegment: content.firstSegment ?? { id: entry.id, baseLsn: entry.baseLsn },
      tail: { id: entry.id, baseLsn: entry.baseLsn, syncedPosition: end, chain, closed: true },
      nextLsn,
      lastTimeTick,
    }))
  }

  async #publishBegun(entry: SegmentEntry, checksum: bigint, empty: Predecessor | null): Promise<void> {
    const segment = { id: entry.id, baseLsn: entry.baseLsn }
    const gone = empty === null ? [] : [{ id: empty.entry.id, baseLsn: empty.entry.baseLsn }]
    const { lastTimeTick } = this.#durable
    await this.#manifests.publish((content) => ({
      ...content,
      firstSegment:
        content.firstSegment === null || content.firstSegment.id === gone[0]?.id ? segment : content.firstSegment,
      tail: { ...segment, syncedPosition: SEGMENT_HEADER_BYTES, chain: checksum, closed: false },
      nextLsn: entry.baseLsn,
      lastTimeTick,
      retired: [...content.retired, ...gone],
    }))
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
          const segment = { id: active.entry.id, baseLsn: active.entry.baseLsn }
          const { position, chain, nextLsn, lastTimeTick } = this.#provenPoint(active)
          return {
            ...content,
            firstSegment: content.firstSegment ?? segment,
            tail: { ...segment, syncedPosition: position, chain, closed: false },
            nextLsn,
            lastTimeTick,
          }
        })
        .catch((error: unknown) => {
          // A full disk only delays it.
          if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) this.#onFailure(error)
        })
        .finally(() => {
          this.#publishing = false
          if (!this.#publishAgain) return
          this.#publishAgain = false
          this.#publishTail()
        }),
    )
  }

  /** What a manifest may say of the active segment: at level `os` what was written is not yet synced. */
  #provenPoint({ entry, writer }: BegunSegment): DurablePoint {
    if (this.#settings.durability === 'disk') return this.#durable
    const { baseTimeTick } = writer.header
    return {
      position: SEGMENT_HEADER_BYTES,
      chain: writer.headerChecksum,
      nextLsn: entry.baseLsn,
      // All four are of the same place: the recovery takes a frame with a lower tick for none of the file's.
      lastTimeTick: baseTimeTick === 0n ? 0n : baseTimeTick - 1n,
    }
  }

  #install(begun: BegunSegment, before: readonly SegmentEntry[]): void {
    this.#active = begun
    this.#leftOpen = false
    this.#predecessor = null
    const { entry, writer } = begun
    this.#durable = { ...this.#durable, position: SEGMENT_HEADER_BYTES, chain: writer.chain, nextLsn: entry.baseLsn }
    this.#lastSegmentBytes = Math.min(writer.capacity, this.#settings.segmentBytes)
    this.#state.setSegments([...before, entry])
    this.#showDurable(entry)
    this.#wantFiles()
  }

  #showDurable(segment: SegmentEntry): void {
    const { position, nextLsn, lastTimeTick } = this.#durable
    this.#state.setDurableEnd({ segment, position, nextLsn, lastTimeTick }, nextLsn)
    this.#state.announce()
  }

  #nextHeader(segmentId: string, baseLsn: number, previous: SegmentHeader['previous']): SegmentHeader {
    const { environment, alignment } = this.#settings
    const { lastTimeTick } = this.#durable
    return {
      logId: this.#state.logId,
      segmentId,
      baseLsn,
      baseTimeTick: lastTimeTick === 0n ? 0n : lastTimeTick + 1n,
      ownerTerm: this.#owner.ownerTerm,
      incarnation: this.#owner.incarnation,
      salt: randomSalt(environment),
      alignment,
      previous,
      replaced: null,
      oldestOpenTransaction: null,
      ...originOf(this.#state),
      createdMs: environment.clock.nowMs(),
      preparedBytes: 0,
    }
  }

  async #takeFile(frameBytes: number): Promise<UnnamedSegmentFile> {
    const { alignment, segmentBytes } = this.#settings
    const usual = nextSegmentBytes(this.#lastSegmentBytes, segmentBytes)
    const needed = SEGMENT_HEADER_BYTES + frameBytes + 3 * alignment
    // A frame that is larger than a file gets one of its own size.
    const bytes = needed <= usual ? usual : needed <= segmentBytes ? segmentBytes : Math.ceil(needed / 4096) * 4096
    return await takeSegmentFile(this.#settings, bytes)
  }

  #wantFiles(): void {
    const { pool, segmentBytes } = this.#settings
    const next = nextSegmentBytes(this.#lastSegmentBytes, segmentBytes)
    if (this.#lastSegmentBytes < segmentBytes) pool.unwant(this.#lastSegmentBytes)
    pool.want(next, next < segmentBytes ? 1 : 4)
  }

  /** Tries again with what the reserve frees, as long as that frees anything. */
  async #withReserve<T>(step: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await step()
      } catch (error) {
        if (!isDiskError(error, 'ENOSPC') || !(await this.#settings.pool.releaseReserve())) throw error
      }
    }
  }

  /** At level `os` nothing has synced what was written to a segment that is left without a seal: what follows it says so. */
  async #syncLeftOpen({ entry }: Predecessor): Promise<void> {
    const { environment, directory, durability } = this.#settings
    if (durability !== 'os') return
    const file = await environment.disk.open(`${directory}/${entry.name}`, 'write')
    try {
      await syncOfAcknowledged(this.#lsnLease, () => syncOnce(file))
    } finally {
      await file.close()
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

  /** What cannot be removed stays retired: the next open would take it for the first of the segments at its LSN. */
  async #dropRetired(entry: SegmentEntry): Promise<void> {
    const { disk } = this.#settings.environment
    try {
      await disk.unlink(`${this.#settings.directory}/${entry.name}`)
    } catch (error) {
      if (!isDiskError(error, 'ENOENT')) return
    }
    await disk.syncDirectory(this.#settings.directory)
    await this.#manifests.publish((content) => ({
      ...content,
      retired: content.retired.filter(({ id }) => id !== entry.id),
    }))
  }

  #inBackground(task: Promise<unknown>): void {
    const settled = task.catch(() => {}).finally(() => this.#background.delete(settled))
    this.#background.add(settled)
  }
}

/**
 * It holds no LSN, durable markers and time ticks at most: the next one, which begins with `baseLsn` too, takes its place.
 * Its ticks are lost with it; the first frame of the next one has a greater tick, and its header says so already.
 */
function isEmpty({ entry }: Predecessor, baseLsn: number): boolean {
  return entry.baseLsn === baseLsn
}

function endOf({ end, chain }: Predecessor, nextLsn: number): { position: number; chain: bigint; nextLsn: number } {
  return { position: end, chain, nextLsn }
}

function nameOf({ entry, end, chain }: Predecessor): SegmentHeader['previous'] {
  return { id: entry.id, end, chain }
}

function fenced(): TidelogError {
  return new TidelogError('FENCED', 'a newer owner has opened the log', { outcome: 'not-written' })
}
