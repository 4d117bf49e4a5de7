/**
 * What compaction would take out of a sealed segment. A run is what stands between two frames that take LSNs or say
 * something else: time ticks, and the durable markers among them. Of a run its last time tick stays: it says all that
 * the others said, and more, since no record stands between them. Markers go: the seal proves all that is before it.
 */
import { type FrameHeader, FrameKind } from '../format/frame-header.ts'

/** Collects runs, one frame after the other. */
export class CompactionCount {
  frames = 0
  tickFrames = 0
  markers = 0
  /** Time ticks that stay. */
  keptTickFrames = 0
  /** Bytes of the frames that go, with their padding. */
  savedBytes = 0
  /** Of the last tick of the run at hand. */
  #tickBytes = 0

  /** Frames in the order of the file. */
  add(header: Pick<FrameHeader, 'kind' | 'totalLength'>): void {
    this.frames++
    if (header.kind === FrameKind.timeTick) {
      this.tickFrames++
      if (this.#tickBytes === 0) this.keptTickFrames++
      this.savedBytes += this.#tickBytes
      this.#tickBytes = header.totalLength
    } else if (header.kind === FrameKind.durableMarker) {
      this.markers++
      this.savedBytes += header.totalLength
    } else this.#tickBytes = 0
  }
}

/** Whether a frame of this kind may go; what stands between two that may not is a run. */
export function isPassing(kind: FrameKind): boolean {
  return kind === FrameKind.timeTick || kind === FrameKind.durableMarker
}
