/** The end of a segment's life as the active one: its seal, then what may follow at leisure (trim, index). */

import { isDiskError } from '../disk/disk.ts'
import { hash64 } from '../format/checksum.ts'
import { encodeFrameHeader, FRAME_HEADER_BYTES, FrameKind } from '../format/frame-header.ts'
import { encodeSeal, SEAL_BODY_BYTES } from '../format/seal.ts'
import { type IndexedEnd, indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import type { SegmentWriter } from '../segment/segment-writer.ts'
import type { Ownership } from './flush.ts'
import { type LeaseFile, syncOfAcknowledged } from './lease-file.ts'
import type { LogState } from './log-state.ts'
import type { SegmentEnd, SegmentEntry } from './log-view.ts'

export const finishSegment = {
  /** Everything written is made durable, then the seal. Afterwards nothing is written to the file. */
  async seal(
    writer: SegmentWriter,
    owner: Ownership,
    nextLsn: number,
    nextSegmentId: string | null,
    lsnLease: LeaseFile | null = null,
  ): Promise<void> {
    await syncOfAcknowledged(lsnLease, () => writer.syncAll())
    const { header, position, chain, tally } = writer
    const bytes = Buffer.alloc(header.alignment)
    const body = encodeSeal({
      end: position,
      frames: tally.frames,
      records: tally.records,
      firstLsn: header.baseLsn,
      nextLsn,
      firstTimeTick: tally.firstTimeTick,
      lastTimeTick: tally.lastTimeTick,
      salt: header.salt,
      nextSegmentId,
      chain,
    })
    body.copy(bytes, FRAME_HEADER_BYTES)
    encodeFrameHeader(
      bytes,
      0,
      {
        kind: FrameKind.seal,
        flags: 0,
        totalLength: bytes.length,
        bodyLength: SEAL_BODY_BYTES,
        nodeSectionLength: 0,
        recordCount: 0,
        ownerTerm: owner.ownerTerm,
        incarnation: owner.incarnation,
        baseLsn: nextLsn,
        // Not below that of a gap or a marker before it, which is 1 where no tick was given yet.
        baseTimeTick:
          tally.lastTimeTick > 0n ? tally.lastTimeTick + 1n : header.baseTimeTick > 0n ? header.baseTimeTick : 1n,
        position,
        durablePosition: position,
        chain,
        bodyHash: hash64(body),
        nodeHash: 0n,
      },
      header.salt,
    )
    try {
      await writer.writeSeal(bytes)
    } catch (error) {
      if (isDiskError(error, 'ENOSPC')) await removePart(writer, position)
      throw error
    }
  },

  /**
   * Writes the index and trims the file to its end, in this order: a trimmed segment has had its index. False: there is
   * no index yet; to be tried again. Nothing depends on either, so it never rejects. `isOwner`: a close that was given up
   * and goes on late finds that the next owner has cut the segment elsewhere, and leaves his index alone.
   */
  async tidy(
    state: LogState,
    entry: SegmentEntry,
    writer: SegmentWriter,
    end: SegmentEnd,
    isOwner: () => boolean,
  ): Promise<boolean> {
    // The last tick given in this file, as in its seal: none when it holds a durable marker alone.
    const { lastTimeTick } = writer.tally
    const isDone = !isOwner() || (await writeIndex(state, entry, { ...end, lastTimeTick }, isOwner))
    if (isDone && isOwner()) await trim(state, entry, writer, end.position + writer.header.alignment)
    await writer.file.close().catch(() => {})
    return isDone
  },
}

/** The zeros behind the seal cost space only. A file that an earlier attempt has closed is opened again. */
async function trim(state: LogState, { name }: SegmentEntry, writer: SegmentWriter, length: number): Promise<void> {
  try {
    await writer.file.truncate(length)
  } catch (error) {
    if (!isDiskError(error, 'EBADF')) return
    const file = await state.environment.disk.open(`${state.directory}/${name}`, 'write').catch(() => null)
    await file?.truncate(length).catch(() => {})
    await file?.close().catch(() => {})
  }
}

/** A part of a seal is none: without room for all of it the next manifest alone says where the segment ends. */
async function removePart({ file }: SegmentWriter, position: number): Promise<void> {
  try {
    await file.truncate(position)
    await file.sync()
  } catch {
    // `verify` tells of it as of a seal that is damaged; nothing rests on it.
  }
}

/** Whether it is there, or not needed any more. */
async function writeIndex(
  state: LogState,
  entry: SegmentEntry,
  end: IndexedEnd,
  isOwner: () => boolean,
): Promise<boolean> {
  const { building } = entry
  const isGone = (): boolean => !state.segments.includes(entry) || !isOwner()
  if (building === undefined || isGone()) return true
  if (!(await writeIndexFile(state, entry, building, end, isOwner))) return isGone()
  entry.building = undefined
  // Truncated away meanwhile: nobody else removes an index that came after.
  if (!state.segments.includes(entry))
    await state.environment.disk.unlink(`${state.directory}/${indexNameOf(entry.name)}`).catch(() => {})
  return true
}
