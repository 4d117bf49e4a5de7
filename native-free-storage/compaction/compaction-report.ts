/** What a compaction did, or would do. */
import type { CompactionCount } from './compaction-count.ts'
import type { Hindrance } from './segment-compaction.ts'

export interface CompactedSegment {
  /** The file that was there. */
  file: string
  /** The file that took its place; null: nothing was done, it was only counted. */
  madeFile: string | null
  /** Of the data, without the seal; after a dry run an upper bound. */
  bytesBefore: number
  bytesAfter: number
  tickFramesBefore: number
  tickFramesAfter: number
}

export interface CompactionReport {
  path: string
  dryRun: boolean
  /** Finished segments that were looked at: all but the last one. */
  segments: number
  /** Those that saved enough. */
  compacted: CompactedSegment[]
  /** Those that stay as they are although they might save something, and why. */
  hindered: { file: string; why: Hindrance }[]
  /** Of all that were looked at, without their seals. */
  bytesBefore: number
  bytesAfter: number
  tickFramesBefore: number
  tickFramesAfter: number
}

export function emptyReport(path: string, dryRun: boolean): CompactionReport {
  return {
    path,
    dryRun,
    segments: 0,
    compacted: [],
    hindered: [],
    bytesBefore: 0,
    bytesAfter: 0,
    tickFramesBefore: 0,
    tickFramesAfter: 0,
  }
}

/** A segment that stays as it is. `count`: null where it was not read. */
export function addKept(report: CompactionReport, bytes: number, count: CompactionCount | null): void {
  report.segments++
  report.bytesBefore += bytes
  report.bytesAfter += bytes
  report.tickFramesBefore += count?.tickFrames ?? 0
  report.tickFramesAfter += count?.tickFrames ?? 0
}

export function addHindered(report: CompactionReport, file: string, bytes: number, why: Hindrance): void {
  report.hindered.push({ file, why })
  addKept(report, bytes, null)
}

export function addCompacted(report: CompactionReport, segment: CompactedSegment): void {
  report.compacted.push(segment)
  report.segments++
  report.bytesBefore += segment.bytesBefore
  report.bytesAfter += segment.bytesAfter
  report.tickFramesBefore += segment.tickFramesBefore
  report.tickFramesAfter += segment.tickFramesAfter
}
