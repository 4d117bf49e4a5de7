/**
 * One segment of a backup, with its index. Linked only when nobody writes to the file any more: it is sealed, and was
 * trimmed to its seal. A segment that was cut, whose zeros an opening may still trim, and one that a late write may
 * still reach, is copied up to its end.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import type { SegmentEnd, SegmentEntry } from '../log/log-view.ts'
import { isSealedAt } from '../recovery/missing-indexes.ts'
import type { TailPoint } from '../recovery/tail-scan.ts'
import { encodeIndex, indexNameOf } from '../segment/index-file.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { endBeforeSuccessor, readSealedEnd } from '../segment/segment-end.ts'
import type { OpenSegment, SegmentFiles } from '../segment/segment-file.ts'
import type { BackupFiles } from './backup-files.ts'

/**
 * `successor`: the segment behind it, which says where it ends; null: it is the last one, and ends at `tailEnd`.
 * Throws SEGMENT_MISSING (it is not there any more), LOG_DAMAGED, FORMAT_UNKNOWN, IO_FAILED, DiskError.
 */
export async function placeSegment(
  source: SegmentFiles,
  files: BackupFiles,
  entry: SegmentEntry,
  successor: SegmentEntry | null,
  tailEnd: TailPoint | undefined,
): Promise<void> {
  const opened = await source.open(entry)
  try {
    const end = successor === null ? tailEnd! : await endBeforeSuccessor(opened, await source.header(successor))
    const trimmed = await readSealedEnd(opened)
    if (trimmed !== null && trimmed.position === end.position && trimmed.chain === end.chain) {
      await linkSegment(files, entry)
      await placeIndex(files, opened, end)
      return
    }
    const sealed = await isSealedAt(opened, end.position)
    await files.copy(entry.name, opened.file, end.position + (sealed ? opened.header.alignment : 0))
    if (sealed) await placeIndex(files, opened, end)
  } finally {
    await opened.release()
  }
}

async function linkSegment(files: BackupFiles, { name, baseLsn }: SegmentEntry): Promise<void> {
  try {
    await files.link(name)
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
    throw new TidelogError('SEGMENT_MISSING', `${name} is not there any more`, {
      file: name,
      lsnFrom: baseLsn,
      cause: error,
    })
  }
}

/** The index as it is; where the writer has not made it yet, from the segment. One that is damaged stays so: `verify` says it. */
async function placeIndex(files: BackupFiles, opened: OpenSegment, end: SegmentEnd): Promise<void> {
  const { id, name } = opened.segment
  const index = indexNameOf(name)
  try {
    await files.link(index)
    return
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
  }
  try {
    const { builder, summary } = await rebuildIndex(opened, end)
    await files.create(index, encodeIndex(builder, id, summary))
  } catch (error) {
    if (!(error instanceof TidelogError && error.code === 'FRAME_DAMAGED')) throw error
  }
}
