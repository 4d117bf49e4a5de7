/**
 * A crash between the seal of a segment and its index leaves the newest sealed segment without one. It is made when the
 * log is opened next, so that a missing index says that somebody removed it.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import { decodeFrameHeader, FrameKind } from '../format/frame-header.ts'
import { logFilesOf } from '../log/log-files.ts'
import type { LogView, SegmentEnd } from '../log/log-view.ts'
import { indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'

/** The newest ones: a roll waits for the index of the segment before, so a crash leaves at most one without. */
const LOOKED_AT = 3

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
