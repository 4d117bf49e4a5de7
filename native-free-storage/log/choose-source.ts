/** How the frames of a file are taken: in order, or where the index names few enough of them, just those. */
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { FrameStream } from '../segment/frame-stream.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import type { WantedFrames } from './frame-selection.ts'
import { type FrameSource, LinearSource } from './frame-source.ts'
import type { Place } from './read-place.ts'
import { SelectiveSource } from './selective-source.ts'

/** Less than this is read whole, whatever is wanted of it. */
const SELECTIVE_FROM_BYTES = 128 * 1024
const FIRST_CHUNK_BYTES = 64 * 1024

export interface FileStretch {
  place: Place
  /** A frame ends there; nothing behind it is read. */
  end: number
  /** The LSN behind the end. */
  endLsn: number
  wanted: WantedFrames
  /** Of one read once the source is under way. */
  chunkBytes: number
}

/** `postings`: positions of the frames that may hold what is wanted; null: nobody knows. Asked where it is worth it. */
export async function chooseSource(
  opened: OpenSegment,
  { place, end, endLsn, wanted, chunkBytes }: FileStretch,
  postings: () => Promise<Float64Array | null>,
): Promise<FrameSource> {
  const { position, lsn } = place
  const isAtStart = position === SEGMENT_HEADER_BYTES
  const chain = isAtStart ? opened.header.checksum : place.chain
  if (end - position >= SELECTIVE_FROM_BYTES) {
    const positions = await postings()
    if (positions !== null) {
      return new SelectiveSource(opened, { positions, position, lsn, chain, end, endLsn, wanted, chunkBytes })
    }
  }
  const firstChunkBytes = isAtStart ? chunkBytes : FIRST_CHUNK_BYTES
  const stream = new FrameStream(opened, { position, end, lsn, chain, endLsn, chunkBytes, firstChunkBytes })
  return new LinearSource(opened, stream, wanted, lsn)
}
