/**
 * Where a reader takes the frames of one segment from: all of them in order (`LinearSource`), or those that the index
 * names (`SelectiveSource` in selective-source.ts).
 */
import type { FrameStream } from '../segment/frame-stream.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { selectWhole, type WantedFrames } from './frame-selection.ts'
import type { RecordFrame } from './record-frame.ts'

export interface FrameSource {
  /** The next wanted frame that is in memory, or null. Throws FRAME_DAMAGED. */
  take(): RecordFrame | null
  /** Brings more into memory. Only when `take` gave null and `ended` is false. */
  fill(): Promise<void>
  readonly ended: boolean
  /** Everything before this place has been taken or was not wanted. */
  readonly position: number
  readonly lsn: number
  readonly chain: bigint | undefined
  close(): Promise<void>
}

export class LinearSource implements FrameSource {
  readonly #opened: OpenSegment
  readonly #stream: FrameStream
  readonly #wanted: WantedFrames
  #lsn: number

  /** `lsn`: at or below that of the first frame. */
  constructor(opened: OpenSegment, stream: FrameStream, wanted: WantedFrames, lsn: number) {
    this.#opened = opened
    this.#stream = stream
    this.#wanted = wanted
    this.#lsn = lsn
  }

  get ended(): boolean {
    return this.#stream.ended
  }

  get position(): number {
    return this.#stream.position
  }

  get lsn(): number {
    return this.#lsn
  }

  get chain(): bigint | undefined {
    return this.#stream.chain
  }

  take(): RecordFrame | null {
    for (;;) {
      const raw = this.#stream.take()
      if (raw === null) return null
      this.#lsn = raw.nextLsn
      const frame = selectWhole(this.#opened.segment, raw, this.#wanted)
      if (frame !== null) return frame
    }
  }

  fill(): Promise<void> {
    return this.#stream.fill()
  }

  close(): Promise<void> {
    return this.#stream.close()
  }
}
