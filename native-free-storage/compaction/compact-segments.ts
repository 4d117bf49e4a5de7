/** The segments of a log, one after the other: looked at, counted, written anew where that saves enough, switched. */
import { TidelogError } from '../errors.ts'
import type { ManifestContent } from '../format/manifest.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import type { RewrittenSegment } from '../segment/rewrite-segment.ts'
import type { SegmentFiles, SegmentReference } from '../segment/segment-file.ts'
import type { CheckedThresholds } from './compaction-options.ts'
import { addCompacted, addHindered, addKept, type CompactionReport } from './compaction-report.ts'
import {
  type CompactionLog,
  countSegment,
  openSealed,
  type Pace,
  rewriteCompacted,
  type SealedSegment,
  savingAtMost,
} from './segment-compaction.ts'

export interface CompactionWork extends CheckedThresholds {
  readonly log: CompactionLog
  readonly files: SegmentFiles
  readonly report: CompactionReport
  /** False: a segment that cannot save enough, by its seal and index, is not read. */
  readonly exact: boolean
  readonly pace: Pace
  readonly owner: () => Pick<ManifestContent, 'ownerTerm' | 'incarnation'>
  /** Null: a dry run. Settles when the new file is part of the log; false: the old one is not in it any more. */
  readonly replace: ((old: SegmentReference, oldEnd: SegmentEnd, made: RewrittenSegment) => Promise<boolean>) | null
}

/**
 * Looks at one segment, and does what there is to do. Throws SEGMENT_MISSING (it or its successor is not there any
 * more), LOG_DAMAGED, IO_FAILED, DiskError, what `pace` throws, and what `replace` does.
 */
export async function compactOne(
  work: CompactionWork,
  segment: SegmentReference,
  successor: SegmentReference,
): Promise<void> {
  const { files, report } = work
  const sealed = await openSealed(files, segment, successor)
  if (typeof sealed === 'string') {
    addHindered(report, segment.name, 0, sealed)
    return
  }
  try {
    await compactOpened(work, sealed)
  } finally {
    await sealed.opened.release()
  }
}

async function compactOpened(work: CompactionWork, sealed: SealedSegment): Promise<void> {
  const { log, report, pace, replace, savedBytesMin, savedShareMin } = work
  const { opened, end } = sealed
  const { segment } = opened
  const bytes = end.position
  const wanted = Math.max(savedBytesMin, savedShareMin * bytes)
  if (!work.exact && !(await mayBeWorthIt(work, sealed, wanted))) {
    addKept(report, bytes, null)
    return
  }
  const count = await countSegment(sealed, pace)
  if (count === null) {
    addHindered(report, segment.name, bytes, 'damaged')
    return
  }
  if (count.savedBytes < wanted) {
    addKept(report, bytes, count)
    return
  }
  const counted = {
    file: segment.name,
    madeFile: null,
    bytesBefore: bytes,
    bytesAfter: bytes - count.savedBytes,
    tickFramesBefore: count.tickFrames,
    tickFramesAfter: count.keptTickFrames,
  }
  if (replace === null) {
    addCompacted(report, counted)
    return
  }
  const made = await rewriteCompacted(log, sealed, work.owner(), pace)
  if (made === null) addHindered(report, segment.name, bytes, 'damaged')
  else if (await replace(segment, end, made)) {
    addCompacted(report, { ...counted, madeFile: made.name, bytesAfter: made.end.position })
  }
}

/** One that was written anew is taken for compacted; with few frames besides those with records there is nothing to do. */
async function mayBeWorthIt({ log }: CompactionWork, sealed: SealedSegment, wanted: number): Promise<boolean> {
  const { header } = sealed.opened
  if (header.replaced !== null || sealed.frames * header.alignment < wanted) return false
  const most = await savingAtMost(log, sealed)
  return most !== null && most >= wanted
}

/** The abort of a caller, as what ends the work. Throws ABORTED. */
export function refuseAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TidelogError('ABORTED', 'the compaction was aborted', { cause: signal.reason })
}
