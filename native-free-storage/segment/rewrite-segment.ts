/**
 * Writes a finished segment anew, frame by frame, under a new id: what a repair makes of a damaged one, and what makes
 * up for one that is missing. LSNs, time ticks, bodies and node sections stay; positions, chain and header checksums are
 * those of the new file. Its header says which segment it replaces (FORMAT 2), so that its successor stays as it is.
 *
 * The file is sealed and durable when `finish` settles, and still has a temporary name: it is part of nothing.
 */
import type { DiskFile } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { assert } from '../errors.ts'
import { clearPadding, openBodyHead } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { segmentFileName } from '../format/file-names.ts'
import { FRAME_HEADER_BYTES, type FrameHeader, FrameKind, nextTickFloor } from '../format/frame-header.ts'
import { encodeGap, GAP_BODY_BYTES, type GapReason } from '../format/gap.ts'
import { encodeSegmentHeader, type SegmentHeader } from '../format/segment-header.ts'
import { type MovedFrame, moveFrames } from '../log/flush.ts'
import type { SegmentEnd } from '../log/log-view.ts'
import { finishSegment } from '../log/segment-finish.ts'
import { writeIndexFile } from './index-file.ts'
import { SegmentWriter } from './segment-writer.ts'
import { SegmentIndexBuilder } from './sparse-index.ts'

const BATCH_BYTES = 4 * 1024 * 1024

export interface RewrittenSegment {
  id: string
  baseLsn: number
  /** The name that it is to get. */
  name: string
  /** The name that it has. */
  temporaryName: string
  end: SegmentEnd
  /** 0n: none was given in the file. */
  lastTimeTick: bigint
}

export class SegmentRewriter {
  readonly name: string
  readonly #environment: Environment
  readonly #directory: string
  readonly #header: SegmentHeader
  readonly #writer: SegmentWriter
  readonly #index: SegmentIndexBuilder
  #batch: MovedFrame[] = []
  #batchBytes = 0
  #nextLsn: number
  #tickFloor: bigint

  private constructor(environment: Environment, directory: string, header: SegmentHeader, file: DiskFile, sum: bigint) {
    this.#environment = environment
    this.#directory = directory
    this.#header = header
    this.name = segmentFileName(header.baseLsn, header.segmentId)
    this.#nextLsn = header.baseLsn
    this.#tickFloor = header.baseTimeTick
    this.#index = new SegmentIndexBuilder(header.salt)
    const capacity = Number.MAX_SAFE_INTEGER
    this.#writer = new SegmentWriter({
      header,
      headerChecksum: sum,
      file,
      capacity,
      durability: 'disk',
      // Neither each write is synced nor the file opened so: all of it is, once, before it gets its name.
      mode: 'dsync',
    })
  }

  /** Creates the file in `directory`. A left-over of the same temporary name is replaced. */
  static async begin(environment: Environment, directory: string, header: SegmentHeader): Promise<SegmentRewriter> {
    const { disk } = environment
    const path = `${directory}/${temporaryNameOf(segmentFileName(header.baseLsn, header.segmentId))}`
    await disk.unlink(path).catch(() => undefined)
    const file = await disk.create(path, 'none')
    try {
      const { bytes, checksum } = encodeSegmentHeader(header)
      await file.write(bytes, 0)
      return new SegmentRewriter(environment, directory, header, file, checksum)
    } catch (error) {
      await file.close().catch(() => undefined)
      await disk.unlink(path).catch(() => undefined)
      throw error
    }
  }

  /** The LSN that has to come next. */
  get nextLsn(): number {
    return this.#nextLsn
  }

  /** A frame with right hashes; its LSN is the next one. Its padding is made zero. `bytes` may be written to. */
  async frame(header: FrameHeader, bytes: Buffer, nextLsn: number): Promise<void> {
    assert(header.baseLsn === this.#nextLsn, 'frames of a rewritten segment follow one another')
    let vchannels: readonly string[] = []
    if (header.kind === FrameKind.records) {
      const body = bytes.subarray(header.headerLength, header.headerLength + header.bodyLength)
      const head = openBodyHead(body, header.bodyLength, header.recordCount, header.bodyHash)
      clearPadding(head, body)
      vchannels = head.vchannels
    }
    await this.#add({ pending: null, header, bytes, nextLsn, vchannels })
  }

  /** A gap of `count` LSNs, 1 or more. */
  async gap(count: number, reason: GapReason): Promise<void> {
    const body = encodeGap({ count, reason })
    const bytes = Buffer.alloc(FRAME_HEADER_BYTES + GAP_BODY_BYTES)
    body.copy(bytes, FRAME_HEADER_BYTES)
    const header: FrameHeader = {
      headerLength: FRAME_HEADER_BYTES,
      checksum: 0n,
      kind: FrameKind.gap,
      flags: 0,
      totalLength: bytes.length,
      bodyLength: body.length,
      nodeSectionLength: 0,
      recordCount: 0,
      ownerTerm: this.#header.ownerTerm,
      incarnation: this.#header.incarnation,
      baseLsn: this.#nextLsn,
      baseTimeTick: this.#tickFloor,
      position: 0,
      durablePosition: 0,
      chain: 0n,
      bodyHash: hash64(body),
      nodeHash: 0n,
    }
    await this.#add({ pending: null, header, bytes, nextLsn: this.#nextLsn + count, vchannels: [] })
  }

  /** Seals the file, makes it durable and writes its index. Its name is still the temporary one. */
  async finish(): Promise<RewrittenSegment> {
    await this.#write()
    const { file, position, chain, tally } = this.#writer
    const { ownerTerm, incarnation, segmentId: id, baseLsn } = this.#header
    await finishSegment.seal(this.#writer, { ownerTerm, incarnation }, this.#nextLsn, null)
    await file.sync()
    await file.close()
    const end = { position, chain, nextLsn: this.#nextLsn }
    const { lastTimeTick } = tally
    await writeIndexFile(
      { environment: this.#environment, directory: this.#directory },
      { id, name: this.name },
      this.#index,
      {
        ...end,
        lastTimeTick,
      },
    )
    return { id, baseLsn, name: this.name, temporaryName: temporaryNameOf(this.name), end, lastTimeTick }
  }

  /** Closes the file and removes it. */
  async abandon(): Promise<void> {
    await this.#writer.file.close().catch(() => undefined)
    await this.#environment.disk.unlink(`${this.#directory}/${temporaryNameOf(this.name)}`).catch(() => undefined)
  }

  async #add(frame: MovedFrame): Promise<void> {
    this.#batch.push(frame)
    this.#batchBytes += frame.header.totalLength
    this.#nextLsn = frame.nextLsn
    const floor = nextTickFloor(frame.header)
    assert(frame.header.baseTimeTick >= this.#tickFloor, 'time ticks of a rewritten segment grow')
    this.#tickFloor = floor
    if (this.#batchBytes >= BATCH_BYTES) await this.#write()
  }

  async #write(): Promise<void> {
    if (this.#batch.length === 0) return
    const flush = moveFrames(this.#batch, this.#writer, 0)
    await this.#writer.write(flush.bytes, flush.position)
    for (const { header, vchannels } of flush.frames) this.#index.addFrame({ ...header, vchannels })
    this.#batch = []
    this.#batchBytes = 0
  }
}

/** What an open of the log removes. */
export function temporaryNameOf(name: string): string {
  return `${name}.tmp`
}
