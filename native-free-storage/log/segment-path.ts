/**
 * The way of a reader from segment to segment: by the list as it is now, and by what is known of files that have left it
 * while they were read.
 */
import { TidelogError } from '../errors.ts'
import type { LogFiles, ReadableLog } from './log-files.ts'
import type { SegmentEnd, SegmentEntry } from './log-view.ts'
import type { Place } from './read-place.ts'

export class SegmentPath {
  readonly #view: ReadableLog
  readonly #files: LogFiles

  constructor(view: ReadableLog, files: LogFiles) {
    this.#view = view
    this.#files = files
  }

  /** Undefined: none does, or none does any more. */
  successorOf(segment: SegmentEntry): SegmentEntry | undefined {
    const { segments } = this.#view
    const index = segments.indexOf(segment)
    if (index >= 0) return segments[index + 1]
    // It has left the log while it was read: truncated away, or replaced by a file with the same records.
    const end = this.#files.knownEnd(segment)
    if (end === undefined) return segments.find((candidate) => candidate.baseLsn > segment.baseLsn)
    return segments.find((candidate) => candidate.baseLsn >= end.nextLsn && candidate.baseLsn >= segment.baseLsn)
  }

  /** Of one that something follows. Throws SEGMENT_MISSING, LOG_DAMAGED. */
  async endOf(place: Place): Promise<SegmentEnd> {
    const end = await this.endIfFollowed(place.segment)
    if (end === undefined) throw this.nothingBehind(place)
    return end
  }

  /** Undefined: it is the last one, and its end not known. Throws SEGMENT_MISSING, LOG_DAMAGED. */
  async endIfFollowed(segment: SegmentEntry): Promise<SegmentEnd | undefined> {
    const known = this.#files.knownEnd(segment)
    if (known !== undefined) return known
    const successor = this.successorOf(segment)
    return successor === undefined ? undefined : await this.#files.endOf(segment, successor)
  }

  /** Compares the link of `successor` with the end of `segment`, once. Throws SEGMENT_MISSING, LOG_DAMAGED. */
  async checkLink(segment: SegmentEntry, successor: SegmentEntry): Promise<void> {
    await this.#files.endOf(segment, successor)
  }

  nothingBehind(place: Place): TidelogError {
    const { name } = place.segment
    const message = `no segment continues ${name} with LSN ${place.lsn}`
    return new TidelogError('SEGMENT_MISSING', message, { file: name, lsnFrom: place.lsn })
  }
}
