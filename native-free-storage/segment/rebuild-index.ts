/** The index of a segment from the segment itself: the headers of its frames, and the heads of those with records. */
import { openBodyHead } from '../format/body-head.ts'
import { FrameKind, lastTickOf } from '../format/frame-header.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import { FrameStream } from './frame-stream.ts'
import type { IndexedEnd } from './index-file.ts'
import { frameFailure, type OpenSegment } from './segment-file.ts'
import { SegmentIndexBuilder } from './sparse-index.ts'

const NO_NAMES: readonly string[] = []

/** Throws FRAME_DAMAGED when a header or a head before `end` is not what it has to be. */
export async function rebuildIndex(
  opened: OpenSegment,
  end: SegmentEnd,
): Promise<{ builder: SegmentIndexBuilder; summary: IndexedEnd }> {
  const { header, segment } = opened
  const builder = new SegmentIndexBuilder(header.salt)
  const stream = new FrameStream(opened, {
    position: SEGMENT_HEADER_BYTES,
    end: end.position,
    lsn: header.baseLsn,
    chain: header.checksum,
    endLsn: end.nextLsn,
  })
  let lastTimeTick = 0n
  try {
    for (;;) {
      const raw = await stream.next()
      if (raw === null) break
      const frame = raw.header
      let vchannels = NO_NAMES
      if (frame.kind === FrameKind.records) {
        const { headerLength, bodyLength, recordCount, bodyHash, baseLsn, position } = frame
        const body = raw.bytes.subarray(headerLength, headerLength + bodyLength)
        try {
          vchannels = openBodyHead(body, bodyLength, recordCount, bodyHash).vchannels
        } catch (error) {
          throw frameFailure(segment, error, { position, lsnFrom: baseLsn, lsnTo: baseLsn + recordCount - 1 })
        }
      }
      if (frame.kind === FrameKind.records || frame.kind === FrameKind.timeTick) lastTimeTick = lastTickOf(frame)
      builder.addFrame({
        position: frame.position,
        baseLsn: frame.baseLsn,
        baseTimeTick: frame.baseTimeTick,
        recordCount: frame.recordCount,
        kind: frame.kind,
        vchannels,
      })
    }
  } finally {
    await stream.close()
  }
  return { builder, summary: { position: end.position, chain: end.chain, nextLsn: end.nextLsn, lastTimeTick } }
}
