/**
 * Copies what followed the last proven point of a tail into a new segment of this owner, syncs it, and publishes the
 * manifest that cuts the old segment there and names the new one. Never writes into a tail that another process wrote.
 * A crash at any step leaves the old state or the new one; the next open does the same again.
 */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { clearPadding, openBodyHead, verifySection } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import { type FrameHeader, FrameKind } from '../format/frame-header.ts'
import { decodeNodeSection } from '../format/node-section.ts'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import { type Flush, lastTickOfFlush, type MovedFrame, moveFrames, type Ownership } from '../log/flush.ts'
import type { ManifestStore } from '../log/manifest-store.ts'
import {
  type BegunSegment,
  dropUnnamed,
  nameSegmentFile,
  randomSalt,
  randomSegmentId,
  type SegmentFileSettings,
  takeSegmentFile,
  writeSegmentHeader,
} from '../log/segment-files.ts'
import type { CarriedOver, DurablePoint } from '../log/writer-start.ts'
import { originOf } from '../segment/lineage.ts'
import type { FoundTail } from './find-tail.ts'
import { openSegmentFile, type TailFrame, type TailPoint } from './tail-scan.ts'

const FLUSH_BYTES = 4 * 1024 * 1024

/** The frames of the suffix whose bodies are right; the first that is not ends it (it was never durable as a whole). */
export async function verifiedSuffix(
  environment: Environment,
  directory: string,
  tail: FoundTail,
): Promise<TailFrame[]> {
  const file = await openSegmentFile(environment.disk, directory, tail.entry.name, tail.entry.baseLsn)
  const verified: TailFrame[] = []
  try {
    for (const frame of tail.unproven) {
      const bytes = Buffer.allocUnsafeSlow(frame.header.totalLength)
      const read = await file.read(bytes, 0, bytes.length, frame.header.position)
      if (read < bytes.length || vchannelsOf(frame.header, bytes) === null) break
      verified.push(frame)
    }
  } finally {
    await file.close()
  }
  // Markers prove what is before them, and that is proven.
  while (verified.at(-1)?.header.kind === FrameKind.durableMarker) verified.pop()
  return verified
}

export async function carryOver(
  settings: SegmentFileSettings & { alignment: number; segmentBytes: number },
  manifests: ManifestStore,
  owner: Ownership,
  tail: FoundTail,
  suffix: readonly TailFrame[],
): Promise<CarriedOver> {
  const { environment, directory, alignment } = settings
  const { proven } = tail
  // It holds no LSN that is proven, durable markers at most: the new one, with the same base LSN, takes its place.
  const empty = proven.nextLsn === tail.entry.baseLsn
  const header: SegmentHeader = {
    logId: manifests.content.logId,
    segmentId: tail.nextSegmentId ?? randomSegmentId(environment),
    baseLsn: proven.nextLsn,
    baseTimeTick: proven.lastTimeTick === 0n ? 0n : proven.lastTimeTick + 1n,
    ownerTerm: owner.ownerTerm,
    incarnation: owner.incarnation,
    salt: randomSalt(environment),
    alignment,
    previous: empty ? tail.header.previous : { id: tail.entry.id, end: proven.position, chain: proven.chain },
    replaced: null,
    oldestOpenTransaction: null,
    ...originOf(manifests.content),
    createdMs: environment.clock.nowMs(),
    preparedBytes: 0,
  }
  const length = suffix.reduce((sum, frame) => sum + frame.header.totalLength + alignment, 0)
  const bytes = Math.max(1024 * 1024, Math.ceil((SEGMENT_HEADER_BYTES + length + 3 * alignment) / 4096) * 4096)
  const unnamed = await takeSegmentFile(settings, bytes)
  let segment: BegunSegment | null = null
  let durable: DurablePoint
  try {
    const checksum = await writeSegmentHeader(settings, unnamed, header)
    if (!(await manifests.confirmNewest())) {
      throw new TidelogError('FENCED', 'a newer owner has opened the log', { outcome: 'not-written' })
    }
    segment = await nameSegmentFile(settings, unnamed, header, checksum)
    durable = await copyFrames(settings, tail, suffix, segment, proven)
    const { entry } = segment
    await manifests.publish((content) => ({
      ...content,
      firstSegment:
        content.firstSegment === null || (empty && content.firstSegment.id === tail.entry.id)
          ? { id: entry.id, baseLsn: entry.baseLsn }
          : content.firstSegment,
      tail: {
        id: entry.id,
        baseLsn: entry.baseLsn,
        syncedPosition: durable.position,
        chain: durable.chain,
        closed: false,
      },
      nextLsn: durable.nextLsn,
      lastTimeTick: durable.lastTimeTick,
      retired: empty ? [...content.retired, { id: tail.entry.id, baseLsn: tail.entry.baseLsn }] : content.retired,
    }))
  } catch (error) {
    await dropUnnamed(settings, unnamed)
    // Not published: it is not part of the log. When that is not certain the next open decides.
    if (segment !== null && !manifests.isDoubtful)
      await environment.disk.unlink(`${directory}/${segment.entry.name}`).catch(() => {})
    throw error
  }
  return { segment, durable }
}

/** Writes the frames into a segment, durably. Throws IO_FAILED when they read differently than before. */
export async function copyFrames(
  settings: Pick<SegmentFileSettings, 'environment' | 'directory'>,
  tail: FoundTail,
  suffix: readonly TailFrame[],
  segment: Pick<BegunSegment, 'writer'> & { entry: Pick<BegunSegment['entry'], 'building'> },
  proven: TailPoint,
): Promise<DurablePoint> {
  const { entry, writer } = segment
  const file = await openSegmentFile(settings.environment.disk, settings.directory, tail.entry.name, tail.entry.baseLsn)
  let durable: DurablePoint = { ...proven, position: SEGMENT_HEADER_BYTES, chain: writer.chain }
  let batch: MovedFrame[] = []
  let batchBytes = 0
  const write = async (): Promise<void> => {
    if (batch.length === 0) return
    const flush = moveFrames(batch, writer, 0)
    await writer.write(flush.bytes, flush.position)
    await writer.syncWritten()
    writer.markDurable(flush.position + flush.bytes.length)
    durable = behind(flush, durable.lastTimeTick)
    for (const { header, vchannels } of flush.frames) entry.building.addFrame({ ...header, vchannels })
    batch = []
    batchBytes = 0
  }
  try {
    for (const { header, nextLsn } of suffix) {
      const bytes = Buffer.allocUnsafeSlow(header.totalLength)
      const read = await file.read(bytes, 0, bytes.length, header.position)
      const vchannels = read < bytes.length ? null : vchannelsOf(header, bytes)
      if (vchannels === null) {
        throw new TidelogError(
          'IO_FAILED',
          `${tail.entry.name} reads differently than a moment ago at position ${header.position}`,
          {
            file: tail.entry.name,
            position: header.position,
          },
        )
      }
      batch.push({ pending: null, header, vchannels, nextLsn, bytes })
      batchBytes += bytes.length
      if (batchBytes >= FLUSH_BYTES) await write()
    }
    await write()
  } finally {
    await file.close()
  }
  return durable
}

function behind(flush: Flush, lastTimeTick: bigint): DurablePoint {
  const last = flush.frames[flush.frames.length - 1]!
  return {
    position: flush.position + flush.bytes.length,
    chain: last.header.checksum,
    nextLsn: last.nextLsn,
    lastTimeTick: lastTickOfFlush(flush, lastTimeTick),
  }
}

/** The names in a frame all of whose bytes are right (none for a frame without records); null when they are not. */
function vchannelsOf(header: FrameHeader, bytes: Buffer): readonly string[] | null {
  const bodyEnd = header.headerLength + header.bodyLength
  const body = bytes.subarray(header.headerLength, bodyEnd)
  const node = bytes.subarray(bodyEnd, bodyEnd + header.nodeSectionLength)
  if (node.length > 0 && hash64(node) !== header.nodeHash) return null
  if (header.kind !== FrameKind.records) return body.length === 0 || hash64(body) === header.bodyHash ? [] : null
  try {
    const head = openBodyHead(body, header.bodyLength, header.recordCount, header.bodyHash)
    for (let index = 0; index < head.vchannelCount; index++) {
      const start = head.sectionOffset(index)
      if (!verifySection(head, index, body.subarray(start, start + head.sectionLength(index)))) return null
    }
    if (node.length > 0) decodeNodeSection(node, header.recordCount)
    // No hash covers it, and a torn write can have left anything there: the copy is as its writer meant it.
    clearPadding(head, body)
    return head.vchannels
  } catch (error) {
    if (error instanceof FormatError && error.code === 'DAMAGED') return null
    throw error
  }
}
