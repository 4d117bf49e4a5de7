/**
 * Reading a log: from its files with large reads, near the end from the write-ahead cache, back to the files when the
 * cache has moved on. A reader waits for `LogView.changed()` and for nothing else.
 *
 * A reader stands at a place: segment, position, and the LSN that comes next there. Everything that it delivers moves
 * the place; where the next frame comes from is decided anew at each place.
 */
import type { FrameCache } from '../cache/frame-cache.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { frameFailure, type OpenSegment } from '../segment/segment-file.ts'
import { chooseSource } from './choose-source.ts'
import { placeOf, selectCached, type WantedFrames } from './frame-selection.ts'
import { type FrameSource, LinearSource } from './frame-source.ts'
import { IndexLookup } from './index-lookup.ts'
import { type LogFiles, logFilesOf, type ReadableLog } from './log-files.ts'
import type { DurableEnd, SegmentEnd, SegmentEntry } from './log-view.ts'
import { ReadEnd } from './read-end.ts'
import { type CheckedReadOptions, checkReadOptions, type ReadOptions } from './read-options.ts'
import { type Place, startOf, truncatedAway } from './read-place.ts'
import { findStart, lsnToLookUp } from './read-start.ts'
import type { RecordFrame } from './record-frame.ts'
import { SegmentPath } from './segment-path.ts'
import { SelectiveSource } from './selective-source.ts'

/**
 * Starts a read. Throws INVALID_ARGUMENT at once; what is iterated may throw
 *
 * - POSITION_TRUNCATED: the next record (`lsn`) was truncated away, at the start or meanwhile; `lsnFrom` is the first
 *   that can be read;
 * - FRAME_DAMAGED, SEGMENT_MISSING, LOG_DAMAGED: with file, position and LSNs;
 * - ABORTED, with the signal's reason as its cause;
 * - whatever ended the log, when the reader follows it and has read all that is durable; CLOSED ends it quietly.
 *
 * Ending the iteration, also while a `next()` waits, releases everything.
 */
export function readLog(view: ReadableLog, options: ReadOptions = {}): AsyncIterableIterator<RecordFrame> {
  return new LogReader(view, checkReadOptions(options))
}

class LogReader implements AsyncIterableIterator<RecordFrame> {
  readonly #view: ReadableLog
  readonly #files: LogFiles
  readonly #options: CheckedReadOptions
  readonly #path: SegmentPath
  readonly #index: IndexLookup
  readonly #end: ReadEnd
  readonly #frames: AsyncGenerator<RecordFrame, void, undefined>
  #wanted: WantedFrames
  #place: Place | undefined
  #opened: OpenSegment | undefined
  #source: FrameSource | undefined
  /** Number of the next frame in the cache, while the reader is served from there; -1: it is not. */
  #cacheNumber = -1
  /** A segment whose index led astray: it is read in order. */
  #readInOrder: SegmentEntry | undefined
  /** Of a read that starts at a time tick, until its first frame: the first LSN that there was. */
  #tickFloorLsn = 0
  /** Of the last frame that was delivered. */
  #lastTick = 0n
  #stopped = false
  #resume: (() => void) | undefined
  readonly #onAbort = (): void => this.#resume?.()

  constructor(view: ReadableLog, options: CheckedReadOptions) {
    this.#view = view
    this.#files = logFilesOf(view)
    this.#path = new SegmentPath(view, this.#files)
    this.#index = new IndexLookup(view, this.#files, this.#path, (segment) => this.#open(segment))
    this.#options = options
    this.#end = new ReadEnd(view.durableEnd, options)
    const { vchannels, types, gaps, ticks, from } = options
    let fromLsn = 0
    if (from === 'latest') fromLsn = view.durableEnd?.nextLsn ?? view.firstLsn
    else if (from === 'earliest') fromLsn = view.firstLsn
    else if ('lsn' in from) fromLsn = from.lsn
    const fromTick = typeof from === 'object' && 'timeTick' in from ? from.timeTick : 0n
    this.#wanted = { vchannels, types, fromLsn, fromTick, allGaps: gaps, ticks }
    this.#frames = this.#run()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<RecordFrame, void>> {
    return this.#frames.next()
  }

  return(): Promise<IteratorResult<RecordFrame, void>> {
    this.#stopped = true
    this.#resume?.()
    return this.#frames.return()
  }

  async *#run(): AsyncGenerator<RecordFrame, void, undefined> {
    const { signal } = this.#options
    signal?.addEventListener('abort', this.#onAbort)
    try {
      await loadChecksum()
      for (;;) {
        if (this.#stopped) return
        if (signal?.aborted) throw new TidelogError('ABORTED', 'the read was aborted', { cause: signal.reason })
        const frame = this.#take()
        if (frame !== null) {
          if (frame.kind !== 'gap') this.#lastTick = frame.lastTimeTick
          yield frame
        } else if (!(await this.#advance())) return
      }
    } finally {
      signal?.removeEventListener('abort', this.#onAbort)
      await this.#release()
    }
  }

  /** The next wanted frame that is in memory. */
  #take(): RecordFrame | null {
    const place = this.#place
    if (place === undefined) return null
    this.#checkTruncated(place)
    if (this.#source !== undefined) return this.#takeFromSource(place, this.#source)
    return this.#cacheNumber < 0 ? null : this.#takeFromCache(place)
  }

  #takeFromSource(place: Place, source: FrameSource): RecordFrame | null {
    let frame: RecordFrame | null
    try {
      frame = source.take()
    } catch (error) {
      this.#distrustIndex(source, error)
      return null
    }
    place.position = source.position
    place.lsn = source.lsn
    place.chain = source.chain
    if (frame !== null && this.#end.excludes(frame)) {
      this.#stopped = true
      return null
    }
    return this.#withinRead(frame)
  }

  #takeFromCache(place: Place): RecordFrame | null {
    const { cache } = this.#view
    while (!this.#end.isReached(place)) {
      const cached = cache.at(this.#cacheNumber)
      const follows =
        cached !== undefined && cached.segment === place.segment && cached.header.position === place.position
      if (!follows || !this.#isDurable(place.segment, place.position + cached.header.totalLength)) break
      this.#cacheNumber++
      let frame: RecordFrame | null
      try {
        frame = selectCached(cached, this.#wanted)
      } catch (error) {
        throw frameFailure(place.segment, error, placeOf(cached.header))
      }
      place.position += cached.header.totalLength
      place.lsn = cached.nextLsn
      place.chain = cached.header.checksum
      if (frame !== null) return this.#withinRead(frame)
    }
    this.#cacheNumber = -1
    return null
  }

  /** A read by time tick must not pass over records that would have been the first and are truncated away. */
  #withinRead(frame: RecordFrame | null): RecordFrame | null {
    if (frame === null || this.#tickFloorLsn === 0) return frame
    const floor = this.#tickFloorLsn
    if (frame.baseLsn < floor && frame.kind === 'records') {
      const below = frame.baseTimeTick + BigInt(floor - frame.baseLsn - 1)
      if (below >= this.#wanted.fromTick) throw truncatedAway(floor - 1, this.#view.firstLsn)
    }
    this.#tickFloorLsn = 0
    return frame
  }

  /**
   * Goes on to where the next frame may be. False: the read has ended. A file that was replaced or truncated away between
   * the look at the list and the look at the file is looked for once more in the list as it is now.
   */
  async #advance(): Promise<boolean> {
    const { segments } = this.#view
    try {
      return await this.#step()
    } catch (error) {
      const isMissing = error instanceof TidelogError && error.code === 'SEGMENT_MISSING'
      if (!isMissing || this.#view.segments === segments) throw error
      return true
    }
  }

  async #step(): Promise<boolean> {
    const source = this.#source
    if (source !== undefined) {
      const inOrder = this.#readInOrder === this.#place!.segment
      if (source instanceof SelectiveSource ? !inOrder && !source.ended : !source.ended) await this.#fill(source)
      else {
        await this.#closeSource()
        // Every frame was good: it was the index that was wrong.
        if (inOrder && source instanceof LinearSource) await this.#files.dropIndex(this.#place!.segment)
      }
      return true
    }
    const end = this.#view.durableEnd
    if (end === null || (this.#place === undefined && this.#end.isEmpty)) return await this.#waitAtEnd()
    if (this.#place === undefined) {
      await this.#start(end)
      return true
    }
    const place = this.#place
    if (this.#end.isReached(place)) return false
    if (place.segment === end.segment && place.position >= end.position) return await this.#waitAtEnd()
    if (place.segment !== end.segment) {
      const { position, nextLsn, chain } = await this.#path.endOf(place)
      if (place.position >= position) {
        await this.#goToSuccessor(place, { position, nextLsn, chain })
        return true
      }
    }
    if (this.#findInCache(place)) return true
    if (place.segment.replacedBy !== undefined) this.#place = await this.#placeInReplacement(place)
    else await this.#openSource(place)
    return true
  }

  async #start(end: DurableEnd): Promise<void> {
    const log = { view: this.#view, files: this.#files, index: this.#index }
    const { from, ticks } = this.#options
    const { place, fromLsn, tickFloorLsn } = await findStart(log, end, { from, fromLsn: this.#wanted.fromLsn, ticks })
    this.#wanted = { ...this.#wanted, fromLsn }
    this.#tickFloorLsn = tickFloorLsn
    this.#place = place
  }

  /** The same place in the file that stands in its stead now: the records are the same, ticks may be fewer. */
  async #placeInReplacement({ segment: from, lsn }: Place): Promise<Place> {
    let segment = from
    while (segment.replacedBy !== undefined) segment = segment.replacedBy
    const { fromLsn, fromTick } = this.#wanted
    const tick = this.#lastTick + 1n
    this.#wanted = { ...this.#wanted, fromLsn: Math.max(fromLsn, lsn), fromTick: fromTick > tick ? fromTick : tick }
    if (lsn <= segment.baseLsn) return startOf(segment)
    return await this.#index.placeOfLsn(segment, lsnToLookUp(lsn, this.#options.ticks))
  }

  async #fill(source: FrameSource): Promise<void> {
    try {
      await source.fill()
    } catch (error) {
      this.#distrustIndex(source, error)
    }
  }

  /** What the index pointed at is no good frame: the index may be wrong. Reading in order shows whether it was. */
  #distrustIndex(source: FrameSource, error: unknown): void {
    const damaged = error instanceof TidelogError && error.code === 'FRAME_DAMAGED'
    if (!damaged || !(source instanceof SelectiveSource)) throw error
    this.#readInOrder = this.#place!.segment
  }

  #isDurable(segment: SegmentEntry, position: number): boolean {
    const end = this.#view.durableEnd!
    return segment !== end.segment || position <= end.position
  }

  async #waitAtEnd(): Promise<boolean> {
    if (!this.#options.follow) return false
    const { ended } = this.#view
    if (ended !== null) {
      if (ended.code === 'CLOSED') return false
      throw ended
    }
    // Taken before anything is awaited, so that no change is missed.
    const changed = this.#view.changed()
    await this.#closeOpened()
    if (this.#stopped || this.#options.signal?.aborted) return true
    await new Promise<void>((resolve) => {
      this.#resume = resolve
      changed.then(resolve, resolve)
    })
    this.#resume = undefined
    return true
  }

  #findInCache(place: Place): boolean {
    this.#cacheNumber = this.#view.cache.numberAt(place.segment, place.position, place.lsn)
    return this.#cacheNumber >= 0
  }

  async #goToSuccessor(place: Place, end: SegmentEnd): Promise<void> {
    const { segment } = place
    const successor = this.#path.successorOf(segment)
    if (successor === undefined) throw this.#path.nothingBehind(place)
    const next: Place = { ...startOf(successor), lsn: end.nextLsn }
    const inCache = this.#view.cache.numberAt(successor, next.position, next.lsn) >= 0
    const inLog = this.#view.segments.includes(segment)
    // What is in the cache was written by this process; between files, the link is looked at.
    if (inLog && !inCache) await this.#checkedLink(place, next)
    if (successor.baseLsn !== end.nextLsn) {
      this.#checkTruncated(next)
      throw this.#path.nothingBehind(place)
    }
    await this.#closeOpened()
    this.#place = next
  }

  async #checkedLink(place: Place, next: Place): Promise<void> {
    try {
      await this.#path.checkLink(place.segment, next.segment)
    } catch (error) {
      // Truncated away between the look at the list and the look at the file.
      if (error instanceof TidelogError && error.code === 'SEGMENT_MISSING') this.#checkTruncated(next)
      throw error
    }
  }

  // ---- files

  async #openSource(place: Place): Promise<void> {
    const { position: end, nextLsn: endLsn } = await this.#readableEnd(place)
    const opened = await this.#open(place.segment)
    const { chunkBytes } = this.#options
    const stretch = { place, end, endLsn, wanted: this.#wanted, chunkBytes }
    this.#source = await chooseSource(opened, stretch, () => this.#postings(place))
  }

  /** As far as the file is to be read from `place`: to its end, to the durable end, or to what the cache has. */
  async #readableEnd(place: Place): Promise<{ position: number; nextLsn: number }> {
    const { durableEnd, cache } = this.#view
    const { segment } = place
    const durable = segment === durableEnd!.segment ? durableEnd : null
    const end = this.#end.within(segment) ?? durable ?? (await this.#path.endOf(place))
    const oldest = oldestIn(cache, segment)
    const isCached = oldest !== undefined && oldest.position > place.position && oldest.position < end.position
    return isCached ? oldest : end
  }

  async #postings({ segment, position }: Place): Promise<Float64Array | null> {
    const { vchannels, ticks } = this.#options
    if (vchannels === null || ticks || this.#readInOrder === segment) return null
    return await this.#index.postings(segment, [...vchannels], position)
  }

  async #open(segment: SegmentEntry): Promise<OpenSegment> {
    if (this.#opened !== undefined && this.#opened.segment !== segment) await this.#closeOpened()
    try {
      this.#opened ??= await this.#files.segments.open(segment)
    } catch (error) {
      // Truncated away between the look at the list and the look at the file.
      if (error instanceof TidelogError && error.code === 'SEGMENT_MISSING' && this.#place !== undefined) {
        this.#checkTruncated(this.#place)
      }
      throw error
    }
    return this.#opened
  }

  async #closeSource(): Promise<void> {
    const source = this.#source
    this.#source = undefined
    await source?.close()
  }

  async #closeOpened(): Promise<void> {
    const opened = this.#opened
    this.#opened = undefined
    await opened?.release()
  }

  async #release(): Promise<void> {
    await this.#closeSource()
    await this.#closeOpened()
    this.#place = undefined
    this.#cacheNumber = -1
  }

  #checkTruncated(place: Place): void {
    const lsn = Math.max(place.lsn, this.#wanted.fromLsn, this.#tickFloorLsn)
    if (lsn < this.#view.firstLsn) throw truncatedAway(lsn, this.#view.firstLsn)
  }
}

/** The place of the oldest cached frame, if it is in `segment`. */
function oldestIn(cache: FrameCache, segment: SegmentEntry): { position: number; nextLsn: number } | undefined {
  const oldest = cache.at(cache.firstNumber)
  if (oldest === undefined || oldest.segment !== segment) return undefined
  return { position: oldest.header.position, nextLsn: oldest.header.baseLsn }
}
