/**
 * One sealed segment: what compaction would take out of it, and the file that takes its place. LSNs, ticks, bodies and
 * node sections stay; nothing is written to the segment itself. docs/FORMAT.md sections 2 and 3.2.
 */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { FRAME_HEADER_BYTES, FrameKind } from '../format/frame-header.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { type DecodedSegmentHeader, SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import { randomSalt, randomSegmentId } from '../log/segment-files.ts'
import { type WalkedFrame, walkSegment } from '../maintenance/segment-walk.ts'
import { readSeal } from '../maintenance/verify-seal.ts'
import { FrameStream } from '../segment/frame-stream.ts'
import { indexNameOf, SegmentIndexFile } from '../segment/index-file.ts'
import { type RewrittenSegment, SegmentRewriter } from '../segment/rewrite-segment.ts'
import { endBeforeSuccessor } from '../segment/segment-end.ts'
import type { OpenSegment, SegmentFiles, SegmentReference } from '../segment/segment-file.ts'
import { CompactionCount, isPassing } from './compaction-count.ts'

/** Called between bounded pieces of work: settles when there may be more. Rejects to end the work. */
export type Pace = () => Promise<void>

/** So much is read between two calls of `Pace`. */
const PACE_BYTES = 1024 * 1024

export interface CompactionLog {
  readonly environment: Environment
  readonly directory: string
}

/** A segment that may be compacted: sealed, with a successor that says where it ends. */
export interface SealedSegment {
  readonly opened: OpenSegment
  readonly end: SegmentEnd
  /** Frames before the seal, as it says. */
  readonly frames: number
  /** What the header of the successor names: this segment, or the one that it replaces. */
  readonly named: NonNullable<SegmentHeader['replaced']>
}

/** Why a segment stays as it is, besides that it would save too little. */
export type Hindrance = 'not-sealed' | 'damaged' | 'later-version'

/**
 * The segment, if it may be compacted. The caller releases what was opened. Throws SEGMENT_MISSING, LOG_DAMAGED (also of
 * the link to the successor), FORMAT_UNKNOWN, IO_FAILED.
 */
export async function openSealed(
  files: SegmentFiles,
  segment: SegmentReference,
  successor: SegmentReference,
): Promise<SealedSegment | Hindrance> {
  const after = await files.header(successor)
  const opened = await files.open(segment)
  let isWanted = false
  try {
    const end = await endBeforeSuccessor(opened, after)
    if (!isKnown(opened.header)) return 'later-version'
    const seal = await readSeal(opened, end.position)
    if (seal === null) return 'not-sealed'
    const { replaced } = opened.header
    const isNamed = after.previous?.id === segment.id
    const named = isNamed || replaced === null ? { id: segment.id, end: end.position, chain: end.chain } : replaced
    isWanted = true
    return { opened, end, frames: seal.frames, named }
  } finally {
    if (!isWanted) await opened.release()
  }
}

/** A feature that this version may ignore would be lost when the file is written anew. */
function isKnown({ compatibleFeatures, readOnlyFeatures, formatVersion }: DecodedSegmentHeader): boolean {
  return compatibleFeatures === 0 && readOnlyFeatures === 0 && formatVersion === 1
}

/**
 * An upper bound of what compaction saves, from seal and index alone: every frame with records or a gap stands in the
 * postings, so that the others can be counted. Null: there is no index that can be believed.
 */
export async function savingAtMost(log: CompactionLog, sealed: SealedSegment): Promise<number | null> {
  const { opened, end, frames } = sealed
  const { alignment, salt } = opened.header
  const path = `${log.directory}/${indexNameOf(opened.segment.name)}`
  const key = { segmentId: opened.segment.id, end: end.position, chain: end.chain, salt }
  const index = await SegmentIndexFile.open(log.environment, path, key)
  if (index === null) return null
  try {
    return Math.max(0, frames - (await index.countFrames())) * alignment
  } catch {
    return null
  }
}

/** Reads all headers. Null: a frame is damaged, or of a later version. Throws IO_FAILED, and what `pace` does. */
export async function countSegment(sealed: SealedSegment, pace: Pace): Promise<CompactionCount | null> {
  const { opened, end } = sealed
  const { header } = opened
  const stream = new FrameStream(opened, {
    position: SEGMENT_HEADER_BYTES,
    end: end.position,
    lsn: header.baseLsn,
    chain: header.checksum,
    endLsn: end.nextLsn,
  })
  const count = new CompactionCount()
  let pacedAt = SEGMENT_HEADER_BYTES
  try {
    for (;;) {
      if (stream.position - pacedAt >= PACE_BYTES) {
        pacedAt = stream.position
        await pace()
      }
      const frame = await stream.next()
      if (frame === null) return count
      if (!isPlain(frame.header)) return null
      count.add(frame.header)
    }
  } catch (error) {
    const code = error instanceof TidelogError ? error.code : ''
    if (code === 'FRAME_DAMAGED' || code === 'FORMAT_UNKNOWN') return null
    throw error
  } finally {
    await stream.close()
  }
}

/** What this version writes: a longer header, or a flag that may be ignored, would be lost in the copy. */
function isPlain({ headerLength, flags }: { headerLength: number; flags: number }): boolean {
  return headerLength === FRAME_HEADER_BYTES && flags === 0
}

/**
 * Writes the file that takes the segment's place: sealed, durable, with its index, under a temporary name. Every hash is
 * looked at on the way. Null: a frame is damaged, nothing was made. Throws what the disk and `pace` throw.
 */
export async function rewriteCompacted(
  log: CompactionLog,
  sealed: SealedSegment,
  owner: Pick<ManifestContent, 'ownerTerm' | 'incarnation'>,
  pace: Pace,
): Promise<RewrittenSegment | null> {
  const { environment, directory } = log
  const { opened, end, named } = sealed
  const { header } = opened
  const made = await SegmentRewriter.begin(environment, directory, {
    ...header,
    segmentId: randomSegmentId(environment),
    ownerTerm: owner.ownerTerm,
    incarnation: owner.incarnation,
    salt: randomSalt(environment),
    replaced: named,
    createdMs: environment.clock.nowMs(),
    preparedBytes: 0,
  })
  try {
    const from = SEGMENT_HEADER_BYTES
    const { baseLsn: lsn, checksum: chain } = header
    let pacedAt = from
    /** Of the run at hand: its last tick. */
    let tick: WalkedFrame | null = null
    for await (const frame of walkSegment(opened, { from, end: end.position, lsn, chain, content: true })) {
      if (frame.header === null || frame.faults.length > 0 || !isPlain(frame.header)) return await nothing(made)
      if (isPassing(frame.header.kind)) {
        if (frame.header.kind === FrameKind.timeTick) tick = frame
      } else {
        if (tick !== null) await put(made, tick)
        tick = null
        await put(made, frame)
      }
      if (frame.nextPosition - pacedAt < PACE_BYTES) continue
      pacedAt = frame.nextPosition
      await pace()
    }
    if (tick !== null) await put(made, tick)
    if (made.nextLsn !== end.nextLsn) return await nothing(made)
    return await made.finish()
  } catch (error) {
    await made.abandon()
    throw error
  }
}

async function nothing(made: SegmentRewriter): Promise<null> {
  await made.abandon()
  return null
}

/** A copy: where little stays of much, each frame would keep the whole of what was read with it in memory. */
async function put(made: SegmentRewriter, { header, bytes, nextLsn }: WalkedFrame): Promise<void> {
  await made.frame(header!, Buffer.from(bytes), nextLsn!)
}
