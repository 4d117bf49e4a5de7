/** What the frames of a segment add up to: for its seal, its index and its successor to be compared with. */
import { type FrameHeader, FrameKind, lastTickOf } from '../format/frame-header.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { TailPoint } from '../recovery/tail-scan.ts'
import { SegmentIndexBuilder } from '../segment/sparse-index.ts'
import type { WalkedFrame } from './segment-walk.ts'

export class SegmentSum {
  readonly builder: SegmentIndexBuilder
  frames = 0
  records = 0
  firstTimeTick = 0n
  lastTimeTick = 0n
  chain: bigint
  /** Undefined: behind damage. */
  nextLsn: number | undefined
  /** No frame had a fault. */
  clean = true
  readonly #boundary: Pick<TailPoint, 'position' | 'chain'> | null
  #boundaryMet = false

  /** `boundary`: a point between two frames that is looked for. */
  constructor(
    header: { salt: bigint; baseLsn: number; checksum: bigint },
    boundary: Pick<TailPoint, 'position' | 'chain'> | null,
  ) {
    this.builder = new SegmentIndexBuilder(header.salt)
    this.chain = header.checksum
    this.nextLsn = header.baseLsn
    this.#boundary = boundary
    this.#meet(SEGMENT_HEADER_BYTES, header.checksum)
  }

  /** Whether a frame ends at the boundary, with its chain. */
  get boundaryMet(): boolean {
    return this.#boundaryMet
  }

  add(frame: WalkedFrame): void {
    const { header } = frame
    if (header === null || frame.faults.length > 0) {
      this.clean = false
      this.nextLsn = undefined
      return
    }
    this.frames++
    this.records += header.recordCount
    this.chain = header.checksum
    this.nextLsn = frame.nextLsn
    this.#meet(frame.nextPosition, header.checksum)
    this.#count(header)
    const { position, baseLsn, baseTimeTick, recordCount, kind } = header
    const vchannels = frame.head?.vchannels ?? []
    this.builder.addFrame({ position, baseLsn, baseTimeTick, recordCount, kind, vchannels })
  }

  #count(header: FrameHeader): void {
    if (header.kind === FrameKind.records && this.firstTimeTick === 0n) this.firstTimeTick = header.baseTimeTick
    if (header.kind === FrameKind.records || header.kind === FrameKind.timeTick) this.lastTimeTick = lastTickOf(header)
  }

  #meet(position: number, chain: bigint): void {
    if (this.#boundary?.position === position && this.#boundary.chain === chain) this.#boundaryMet = true
  }
}
