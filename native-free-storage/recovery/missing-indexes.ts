/**
 * A crash between the seals of segments and their indexes leaves the newest sealed segments without. They are made when
 * the log is opened next, so that a missing index says that somebody removed it.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { decodeFrameHeader, FrameKind } from '../format/frame-header.ts'
import { logFilesOf } from '../log/log-files.ts'
import type { LogView, SegmentEnd } from '../log/log-view.ts'
import { UNINDEXED_SEGMENTS_MAX } from '../log/segment-tidying.ts'
import { indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'

/** With the tail, and one that a recovery which crashed has begun. */
const LOOKED_AT = UNINDEXED_SEGMENTS_MAX + 2

/** `tailEnd`: of the last segment, when it is finished. An index never prevents an open: what fails is left for later. */
export async function writeMissingIndexes(
  view: LogView,
  names: readonly string[],
  tailEnd: SegmentEnd | undefined,
): Promise<void> {
  const present = new Set(names)
  const { segments } = view
  const files = logFilesOf(view)
  for (let index = Math.max(0, segments.length - LOOKED_AT); index < segments.length; index++) {
    const segment = segments[index]!
    if (present.has(indexNameOf(segment.name))) continue
    const successor = segments[index + 1]
    try {
      const end = successor === undefined ? tailEnd : await files.endOf(segment, successor)
      if (end === undefined) continue
      const opened = await files.segments.open(segment)
      try {
        if (!(await isSealedAt(opened, end.position))) continue
        const { builder, summary } = await rebuildIndex(opened, end)
        await writeIndexFile(view, segment, builder, summary)
      } finally {
        await opened.release()
      }
    } catch (error) {
      if (!(error instanceof TidelogError) && !isDiskError(error)) throw error
    }
  }
}

/** A segment that was cut has no seal, and needs no index. */
export async function isSealedAt({ file, segment, header }: OpenSegment, position: number): Promise<boolean> {
  const bytes = Buffer.alloc(header.alignment)
  const read = await readAt(file, segment, bytes, 0, bytes.length, position)
  return decodeFrameHeader(bytes, 0, read, header.salt, position)?.kind === FrameKind.seal
}
