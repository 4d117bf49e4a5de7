/** What a reader asks the index of a segment: where to begin, and which frames may hold what it wants. */
import { IndexDamage } from '../segment/index-file.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import type { IndexPoint, SegmentIndex } from '../segment/sparse-index.ts'
import type { LogFiles, ReadableLog } from './log-files.ts'
import type { SegmentEntry } from './log-view.ts'
import { type Place, startOf } from './read-place.ts'
import type { SegmentPath } from './segment-path.ts'

export class IndexLookup {
  readonly #view: ReadableLog
  readonly #files: LogFiles
  readonly #path: SegmentPath
  readonly #open: (segment: SegmentEntry) => Promise<OpenSegment>

  /** `open`: what it gives is the reader's to release. */
  constructor(
    view: ReadableLog,
    files: LogFiles,
    path: SegmentPath,
    open: (segment: SegmentEntry) => Promise<OpenSegment>,
  ) {
    this.#view = view
    this.#files = files
    this.#path = path
    this.#open = open
  }

  /** The last frame that begins at or before `lsn`. The log has a durable end. */
  async placeOfLsn(segment: SegmentEntry, lsn: number): Promise<Place> {
    return await this.#place(segment, (index) => index.frameAtOrBefore(lsn))
  }

  /** The log has a durable end. */
  async placeOfTick(segment: SegmentEntry, tick: bigint): Promise<Place> {
    return await this.#place(segment, (index) => index.frameForTick(tick))
  }

  /** Positions of the frames from `position` on that may hold records of `vchannels`, ascending; null: nobody knows. */
  async postings(segment: SegmentEntry, vchannels: readonly string[], position: number): Promise<Float64Array | null> {
    return await this.#ask(segment, (index) => index.postings(vchannels, position))
  }

  /** The place that the index of `segment` names, or its start where there is no index. */
  async #place(
    segment: SegmentEntry,
    lookUp: (index: SegmentIndex) => IndexPoint | null | Promise<IndexPoint | null>,
  ): Promise<Place> {
    const point = await this.#ask(segment, lookUp)
    const end = this.#view.durableEnd!
    const usable = point !== null && (segment !== end.segment || point.position < end.position)
    if (!usable) return startOf(segment)
    return { segment, position: point.position, lsn: point.baseLsn, chain: undefined }
  }

  /** Null when there is no index. One that is damaged is made anew once. */
  async #ask<T>(segment: SegmentEntry, question: (index: SegmentIndex) => T | Promise<T>): Promise<T | null> {
    const opened = await this.#open(segment)
    for (let attempt = 0; attempt < 2; attempt++) {
      const index = await this.#files.indexOf(opened, segment, await this.#path.endIfFollowed(segment))
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
}
