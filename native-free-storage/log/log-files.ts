/**
 * What the readers of one log share: its open files, where its sealed segments end, and their indexes.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { type IndexKey, indexNameOf, SegmentIndexFile, writeIndexFile } from '../segment/index-file.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { checkSuccessor, endBeforeSuccessor } from '../segment/segment-end.ts'
import { type OpenSegment, SegmentFiles } from '../segment/segment-file.ts'
import type { SegmentIndex } from '../segment/sparse-index.ts'
import type { LogView, SegmentEnd, SegmentEntry } from './log-view.ts'

/** A view whose files must not be written to: not even a missing index. */
export type ReadableLog = LogView & { readonly readOnly?: boolean }

const filesOfLogs = new WeakMap<LogView, LogFiles>()

/** One object a log, for as long as the log is there. */
export function logFilesOf(view: ReadableLog): LogFiles {
  let files = filesOfLogs.get(view)
  if (files === undefined) {
    files = new LogFiles(view)
    filesOfLogs.set(view, files)
  }
  return files
}

export class LogFiles {
  readonly segments: SegmentFiles
  readonly #view: ReadableLog
  readonly #ends = new WeakMap<SegmentEntry, SegmentEnd>()
  readonly #checkedLinks = new WeakMap<SegmentEntry, SegmentEntry>()
  readonly #indexes = new WeakMap<SegmentEntry, Promise<SegmentIndex | null>>()

  constructor(view: ReadableLog) {
    this.#view = view
    this.segments = new SegmentFiles(view.environment, view.directory, view)
  }

  /**
   * Where the data of `segment` ends, `successor` being the one behind it. Throws SEGMENT_MISSING or LOG_DAMAGED when
   * the successor does not continue it.
   */
  async endOf(segment: SegmentEntry, successor: SegmentEntry): Promise<SegmentEnd> {
    const known = segment.end ?? this.#ends.get(segment)
    if (known !== undefined && this.#checkedLinks.get(segment) === successor) return known
    const after = await this.segments.header(successor)
    const opened = await this.segments.open(segment)
    try {
      if (known !== undefined) checkSuccessor(opened, known, after)
      const end = known ?? (await endBeforeSuccessor(opened, after))
      this.#ends.set(segment, end)
      this.#checkedLinks.set(segment, successor)
      return end
    } finally {
      await opened.release()
    }
  }

  /** The end, where nobody has to be asked for it. */
  knownEnd(segment: SegmentEntry): SegmentEnd | undefined {
    return segment.end ?? this.#ends.get(segment)
  }

  /**
   * The index of a segment: in memory while it is written, else from its file, else rebuilt. Null: there is none and
   * it cannot be rebuilt because the segment is damaged, or it is the tail of a log that another process writes.
   */
  async indexOf(opened: OpenSegment, segment: SegmentEntry, end: SegmentEnd | undefined): Promise<SegmentIndex | null> {
    if (segment.building !== undefined) return segment.building
    if (end === undefined) return null
    let index = this.#indexes.get(segment)
    if (index === undefined) {
      index = this.#openIndex(opened, segment, end)
      this.#indexes.set(segment, index)
      // A failure of the disk is not remembered.
      index.catch(() => this.#indexes.delete(segment))
    }
    return await index
  }

  /** The index led to where no frame is: it is made anew when somebody asks for it again. */
  async dropIndex(segment: SegmentEntry): Promise<void> {
    this.#indexes.delete(segment)
    if (this.#view.readOnly) return
    const { disk } = this.#view.environment
    try {
      await disk.unlink(`${this.#view.directory}/${indexNameOf(segment.name)}`)
    } catch (error) {
      if (!isDiskError(error)) throw error
    }
  }

  async #openIndex(opened: OpenSegment, segment: SegmentEntry, end: SegmentEnd): Promise<SegmentIndex | null> {
    const { environment, directory } = this.#view
    const key: IndexKey = { segmentId: segment.id, end: end.position, chain: end.chain, salt: opened.header.salt }
    const path = `${directory}/${indexNameOf(segment.name)}`
    const fallback = (): Promise<SegmentIndex | null> => this.#rebuild(opened, segment, end)
    const file = await SegmentIndexFile.open(environment, path, key)
    if (file === null) return await fallback()
    return file
  }

  async #rebuild(opened: OpenSegment, segment: SegmentEntry, end: SegmentEnd): Promise<SegmentIndex | null> {
    try {
      const { builder, summary } = await rebuildIndex(opened, end)
      // Of one that has left the log nobody would remove it.
      if (!this.#view.readOnly && this.#view.segments.includes(segment)) {
        await writeIndexFile(this.#view, segment, builder, summary)
      }
      return builder
    } catch (error) {
      if (error instanceof TidelogError && error.code === 'FRAME_DAMAGED') return null
      throw error
    }
  }
}
