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
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { FrameStream } from '../segment/frame-stream.ts'
import { IndexDamage } from '../segment/index-file.ts'
import { frameFailure, type OpenSegment } from '../segment/segment-file.ts'
import type { IndexPoint, SegmentIndex } from '../segment/sparse-index.ts'
import { placeOf, selectCached, type WantedFrames } from './frame-selection.ts'
import { type FrameSource, LinearSource } from './frame-source.ts'
import { type LogFiles, logFilesOf, type ReadableLog } from './log-files.ts'
import type { DurableEnd, SegmentEnd, SegmentEntry } from './log-view.ts'
import { type CheckedReadOptions, checkReadOptions, type ReadOptions } from './read-options.ts'
import type { RecordFrame } from './record-frame.ts'
import { SelectiveSource } from './selective-source.ts'

/** Less than this is read whole, whatever is wanted of it. */
const SELECTIVE_FROM_BYTES = 128 * 1024
const FIRST_CHUNK_BYTES = 64 * 1024

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

interface Place {
  segment: SegmentEntry
  position: number
  lsn: number
  /** Undefined: not known here. */
  chain: bigint | undefined
}

class LogReader implements AsyncIterableIterator<RecordFrame> {
  readonly #view: ReadableLog
  readonly #files: LogFiles
  readonly #options: CheckedReadOptions
  /** What was durable when the read was started; null: nothing. */
  readonly #startEnd: DurableEnd | null
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
    this.#options = options
    this.#startEnd = view.durableEnd
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
    if (frame !== null && this.#isBehindEnd(frame)) {
      this.#stopped = true
      return null
    }
    return this.#withinRead(frame)
  }

  #takeFromCache(place: Place): RecordFrame | null {
    const { cache } = this.#view
    while (!this.#isDone(place)) {
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
      if (below >= this.#wanted.fromTick) throw this.#truncated(floor - 1)
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
    if (end === null || (this.#place === undefined && !this.#options.follow && this.#startEnd === null)) {
      return await this.#waitAtEnd()
    }
    if (this.#place === undefined) {
      this.#place = await this.#start(end)
      return true
    }
    const place = this.#place
    if (this.#isDone(place)) return false
    if (place.segment === end.segment && place.position >= end.position) return await this.#waitAtEnd()
    if (place.segment !== end.segment) {
      const { position, nextLsn, chain } = await this.#endOf(place)
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

  /** The same place in the file that stands in its stead now: the records are the same, ticks may be fewer. */
  async #placeInReplacement({ segment: from, lsn }: Place): Promise<Place> {
    let segment = from
    while (segment.replacedBy !== undefined) segment = segment.replacedBy
    const { fromLsn, fromTick } = this.#wanted
    const tick = this.#lastTick + 1n
    this.#wanted = { ...this.#wanted, fromLsn: Math.max(fromLsn, lsn), fromTick: fromTick > tick ? fromTick : tick }
    if (lsn <= segment.baseLsn) return startOf(segment)
    return await this.#placeByIndex(segment, (index) => index.frameAtOrBefore(this.#indexedLsn(lsn)))
  }

  /** Several frames have the LSN of the record behind stored ticks: who wants the ticks begins before them. */
  #indexedLsn(lsn: number): number {
    return this.#options.ticks ? Math.max(0, lsn - 1) : lsn
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

  #isDone(place: Place): boolean {
    if (this.#options.follow) return false
    const end = this.#startEnd
    if (end === null || place.lsn > end.nextLsn) return true
    if (place.lsn < end.nextLsn) return false
    if (place.segment === end.segment) return place.position >= end.position
    // Ticks may follow, in a segment that holds no record yet, or in the file that took the place of the one of the end.
    return !(this.#options.ticks && place.segment.baseLsn <= end.segment.baseLsn)
  }

  /** A file that was replaced since the read began does not say where it was to end; the LSN does. */
  #isBehindEnd({ kind, baseLsn }: RecordFrame): boolean {
    const end = this.#startEnd
    if (this.#options.follow || end === null) return false
    return kind === 'tick' ? baseLsn > end.nextLsn : baseLsn >= end.nextLsn
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

  // ---- where to begin

  async #start(end: DurableEnd): Promise<Place> {
    const { from } = this.#options
    const first = this.#view.segments[0]
    if (first === undefined) throw new Error('invariant broken: a log with a durable end has no segment')
    if (typeof from === 'object' && 'timeTick' in from) return await this.#startAtTick(end, first, from.timeTick)
    const { fromLsn } = this.#wanted
    if (fromLsn < this.#view.firstLsn) throw this.#truncated(fromLsn)
    if (fromLsn >= end.nextLsn) return placeAt(end)
    // A stored tick has the LSN of the record behind it: the cache might begin between the two.
    const number = this.#options.ticks ? -1 : this.#view.cache.numberOf(fromLsn)
    const cached = number < 0 ? undefined : this.#view.cache.at(number)
    if (cached !== undefined && cached.header.baseLsn <= fromLsn) {
      const segment = this.#view.segments.find((candidate) => candidate === cached.segment)
      if (segment !== undefined) {
        return { segment, position: cached.header.position, lsn: cached.header.baseLsn, chain: cached.header.chain }
      }
    }
    const segment = this.#view.segments.findLast((candidate) => candidate.baseLsn <= fromLsn) ?? first
    if (fromLsn <= segment.baseLsn) return startOf(segment)
    return await this.#placeByIndex(segment, (index) => index.frameAtOrBefore(this.#indexedLsn(fromLsn)))
  }

  async #startAtTick(end: DurableEnd, first: SegmentEntry, tick: bigint): Promise<Place> {
    if (tick > end.lastTimeTick) {
      // What is durable has smaller ticks; it need not be read.
      this.#wanted = { ...this.#wanted, fromLsn: Math.max(this.#view.firstLsn, end.nextLsn) }
      return placeAt(end)
    }
    const { segments, firstLsn } = this.#view
    let low = 0
    let high = segments.length - 1
    // The last segment whose base tick is at or below the tick: all records in it have that tick or more.
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      const header = await this.#files.segments.header(segments[middle]!)
      if (header.baseTimeTick <= tick) low = middle
      else high = middle - 1
    }
    if (low === 0 && firstLsn > 0) {
      const header = await this.#files.segments.header(first)
      if (tick < header.baseTimeTick && header.previous !== null) throw this.#truncated(firstLsn - 1)
    }
    this.#wanted = { ...this.#wanted, fromLsn: 0 }
    this.#tickFloorLsn = firstLsn
    const segment = segments[low]!
    return await this.#placeByIndex(segment, (index) => index.frameForTick(tick))
  }

  /** The place that the index of `segment` names, or its start where there is no index. */
  async #placeByIndex(
    segment: SegmentEntry,
    lookUp: (index: SegmentIndex) => IndexPoint | null | Promise<IndexPoint | null>,
  ): Promise<Place> {
    const point = await this.#askIndex(segment, lookUp)
    const end = this.#view.durableEnd!
    const usable = point !== null && (segment !== end.segment || point.position < end.position)
    if (!usable) return startOf(segment)
    return { segment, position: point.position, lsn: point.baseLsn, chain: undefined }
  }

  /** Null when there is no index. One that is damaged is made anew once. */
  async #askIndex<T>(segment: SegmentEntry, question: (index: SegmentIndex) => T | Promise<T>): Promise<T | null> {
    const opened = await this.#open(segment)
    for (let attempt = 0; attempt < 2; attempt++) {
      const index = await this.#files.indexOf(opened, segment, await this.#indexedEnd(segment))
      if (index === null) return null
      try {
        return await question(index)
      } catch (error) {
        if (!(error instanceof IndexDamage)) throw error
        await this.#files.dropIndex(segment)
      }
    }
    return null
  }

  async #indexedEnd(segment: SegmentEntry): Promise<SegmentEnd | undefined> {
    const known = this.#files.knownEnd(segment)
    if (known !== undefined) return known
    const successor = this.#successorOf(segment)
    return successor === undefined ? undefined : await this.#files.endOf(segment, successor)
  }

  // ---- from segment to segment

  #successorOf(segment: SegmentEntry): SegmentEntry | undefined {
    const { segments } = this.#view
    const index = segments.indexOf(segment)
    if (index >= 0) return segments[index + 1]
    // It has left the log while it was read: truncated away, or replaced by a file with the same records.
    const end = this.#files.knownEnd(segment)
    if (end === undefined) return segments.find((candidate) => candidate.baseLsn > segment.baseLsn)
    return segments.find((candidate) => candidate.baseLsn >= end.nextLsn && candidate.baseLsn >= segment.baseLsn)
  }

  async #endOf(place: Place): Promise<SegmentEnd> {
    const known = this.#files.knownEnd(place.segment)
    if (known !== undefined) return known
    const successor = this.#successorOf(place.segment)
    if (successor === undefined) throw this.#nothingBehind(place)
    return await this.#files.endOf(place.segment, successor)
  }

  async #goToSuccessor(place: Place, end: SegmentEnd): Promise<void> {
    const { segment } = place
    const successor = this.#successorOf(segment)
    if (successor === undefined) throw this.#nothingBehind(place)
    const next: Place = { segment: successor, position: SEGMENT_HEADER_BYTES, lsn: end.nextLsn, chain: undefined }
    const inCache = this.#view.cache.numberAt(successor, SEGMENT_HEADER_BYTES, end.nextLsn) >= 0
    const inLog = this.#view.segments.includes(segment)
    // What is in the cache was written by this process; between files, the link is looked at.
    if (inLog && !inCache) await this.#checkedLink(place, next)
    if (successor.baseLsn !== end.nextLsn) {
      this.#checkTruncated(next)
      throw this.#nothingBehind(place)
    }
    await this.#closeOpened()
    this.#place = next
  }

  async #checkedLink(place: Place, next: Place): Promise<void> {
    try {
      await this.#files.endOf(place.segment, next.segment)
    } catch (error) {
      // Truncated away between the look at the list and the look at the file.
      if (error instanceof TidelogError && error.code === 'SEGMENT_MISSING') this.#checkTruncated(next)
      throw error
    }
  }

  #nothingBehind(place: Place): TidelogError {
    const { name } = place.segment
    const message = `no segment continues ${name} with LSN ${place.lsn}`
    return new TidelogError('SEGMENT_MISSING', message, { file: name, lsnFrom: place.lsn })
  }

  // ---- files

  async #openSource(place: Place): Promise<void> {
    const { segment } = place
    const { end, endLsn } = await this.#readableEnd(place)
    const opened = await this.#open(segment)
    const { chunkBytes } = this.#options
    const { position, lsn } = place
    const chain = position === SEGMENT_HEADER_BYTES ? opened.header.checksum : place.chain
    if (end - position >= SELECTIVE_FROM_BYTES) {
      const positions = await this.#postings(segment, position)
      if (positions !== null) {
        const wanted = this.#wanted
        this.#source = new SelectiveSource(opened, { positions, position, lsn, chain, end, endLsn, wanted, chunkBytes })
        return
      }
    }
    const stream = new FrameStream(opened, {
      position,
      end,
      lsn,
      chain,
      endLsn,
      chunkBytes,
      firstChunkBytes: position === SEGMENT_HEADER_BYTES ? chunkBytes : FIRST_CHUNK_BYTES,
    })
    this.#source = new LinearSource(opened, stream, this.#wanted, lsn)
  }

  /** As far as the file is to be read from `place`: to its end, to the durable end, or to what the cache has. */
  async #readableEnd(place: Place): Promise<{ end: number; endLsn: number }> {
    const { durableEnd, cache } = this.#view
    const { segment } = place
    let end: number
    let endLsn: number
    if (!this.#options.follow && this.#startEnd?.segment === segment) {
      end = this.#startEnd.position
      endLsn = this.#startEnd.nextLsn
    } else if (segment === durableEnd!.segment) {
      end = durableEnd!.position
      endLsn = durableEnd!.nextLsn
    } else {
      const segmentEnd = await this.#endOf(place)
      end = segmentEnd.position
      endLsn = segmentEnd.nextLsn
    }
    const oldest = oldestIn(cache, segment)
    if (oldest !== undefined && oldest.position > place.position && oldest.position < end) {
      end = oldest.position
      endLsn = oldest.lsn
    }
    return { end, endLsn }
  }

  async #postings(segment: SegmentEntry, position: number): Promise<Float64Array | null> {
    const { vchannels, ticks } = this.#options
    if (vchannels === null || ticks || this.#readInOrder === segment) return null
    const names = [...vchannels]
    return await this.#askIndex(segment, (index) => index.postings(names, position))
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
    if (lsn < this.#view.firstLsn) throw this.#truncated(lsn)
  }

  #truncated(lsn: number): TidelogError {
    const { firstLsn } = this.#view
    const message = `LSN ${lsn} was truncated away; the log begins with LSN ${firstLsn}`
    return new TidelogError('POSITION_TRUNCATED', message, { lsn, lsnFrom: firstLsn })
  }
}

function placeAt(end: DurableEnd): Place {
  return { segment: end.segment, position: end.position, lsn: end.nextLsn, chain: undefined }
}

function startOf(segment: SegmentEntry): Place {
  return { segment, position: SEGMENT_HEADER_BYTES, lsn: segment.baseLsn, chain: undefined }
}

/** The place of the oldest cached frame, if it is in `segment`. */
function oldestIn(cache: FrameCache, segment: SegmentEntry): { position: number; lsn: number } | undefined {
  const oldest = cache.at(cache.firstNumber)
  if (oldest === undefined || oldest.segment !== segment) return undefined
  return { position: oldest.header.position, lsn: oldest.header.baseLsn }
}
