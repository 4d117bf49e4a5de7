/**
 * A crash between the seals of segments and their indexes leaves the newest sealed segments without. They are made when
 * the log is opened next, so that a missing index says that somebody removed it.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { decodeFrameHeader, FrameKind } from '../format/frame-header.ts'
import { logFilesOf } from '../log/log-files.ts'
import type { LogView, SegmentEnd, SegmentEntry } from '../log/log-view.ts'
import { type Tidy, UNINDEXED_SEGMENTS_MAX } from '../log/segment-tidying.ts'
import { indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'

/**
 * With the tail, and one that a recovery which crashed has begun; and again as many, which a full disk may have left
 * behind. The newest of those that have none: the work does not grow with the log.
 */
const REBUILT_MAX = 2 * (UNINDEXED_SEGMENTS_MAX + 2)

/**
 * `tailEnd`: of the last segment, when it is finished. An index never prevents an open: what fails is given back, to be
 * tried again.
 */
export async function writeMissingIndexes(
  view: LogView,
  names: readonly string[],
  tailEnd: SegmentEnd | undefined,
): Promise<Tidy[]> {
  const present = new Set(names)
  const { segments } = view
  const late: Tidy[] = []
  let left = REBUILT_MAX
  for (let index = segments.length - 1; index >= 0 && left > 0; index--) {
    const segment = segments[index]!
    if (present.has(indexNameOf(segment.name))) continue
    left--
    if (await rebuildMissing(view, segment, tailEnd)) continue
    late.push(() => rebuildMissing(view, segment, undefined).catch(() => true))
  }
  return late
}

/** False: there is none, and there could be one, now or when the end of the segment is known. */
async function rebuildMissing(view: LogView, segment: SegmentEntry, tailEnd: SegmentEnd | undefined): Promise<boolean> {
  const at = view.segments.indexOf(segment)
  if (at < 0) return true
  try {
    const files = logFilesOf(view)
    const successor = view.segments[at + 1]
    const end = successor === undefined ? tailEnd : await files.endOf(segment, successor)
    // The tail that a crash left: sealed maybe, with nothing behind it.
    if (end === undefined) return false
    const opened = await files.segments.open(segment)
    try {
      if (!(await isSealedAt(opened, end.position))) return true
      const { builder, summary } = await rebuildIndex(opened, end)
      return await writeIndexFile(view, segment, builder, summary)
    } finally {
      await opened.release()
    }
  } catch (error) {
    if (!(error instanceof TidelogError) && !isDiskError(error)) throw error
    // What is damaged does not become whole by another look.
    return true
  }
}

/** A segment that was cut has no seal, and needs no index. */
export async function isSealedAt({ file, segment, header }: OpenSegment, position: number): Promise<boolean> {
  const bytes = Buffer.alloc(header.alignment)
  const read = await readAt(file, segment, bytes, 0, bytes.length, position)
  return decodeFrameHeader(bytes, 0, read, header.salt, position)?.kind === FrameKind.seal
}
