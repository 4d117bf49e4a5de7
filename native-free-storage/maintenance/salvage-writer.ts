/**
 * Writes what was salvaged as a log of its own: frames with their LSNs, ticks, bodies and node sections as they were, gap
 * frames for what is missing. The manifest comes last; before that the directory holds no log.
 */
import type { Environment } from '../environment.ts'
import { assert } from '../errors.ts'
import { clearPadding } from '../format/body-head.ts'
import { hash64 } from '../format/checksum.ts'
import { segmentFileName } from '../format/file-names.ts'
import { FRAME_HEADER_BYTES, type FrameHeader, FrameKind, nextTickFloor } from '../format/frame-header.ts'
import { encodeGap, GAP_BODY_BYTES, type GapReason } from '../format/gap.ts'
import type { Durability, ManifestContent } from '../format/manifest.ts'
import {
  encodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentEnd,
  type SegmentHeader,
} from '../format/segment-header.ts'
import { type MovedFrame, moveFrames, type Ownership } from '../log/flush.ts'
import { ManifestStore } from '../log/manifest-store.ts'
import { randomSalt, randomSegmentId } from '../log/segment-files.ts'
import { finishSegment } from '../log/segment-finish.ts'
import { writeIndexFile } from '../segment/index-file.ts'
import { alignUp } from '../segment/segment-size.ts'
import { SegmentWriter } from '../segment/segment-writer.ts'
import { SegmentIndexBuilder } from '../segment/sparse-index.ts'
import { writeLease } from './salvage-lease.ts'
import type { FrameIdentity } from './salvage-snapshots.ts'
import type { WalkedFrame } from './segment-walk.ts'

const ALIGNMENT = 512
const FLUSH_BYTES = 4 * 1024 * 1024

export interface SalvageWriterSettings {
  environment: Environment
  directory: string
  logId: string
  /** The newest that was met: the next one is above it. */
  owner: Ownership
  durability: Durability
  segmentBytes: number
}

interface ActiveSegment {
  id: string
  name: string
  writer: SegmentWriter
  builder: SegmentIndexBuilder
}

export class SalvageWriter {
  readonly #settings: SalvageWriterSettings
  #active: ActiveSegment | null = null
  #first: { id: string; baseLsn: number } | null = null
  #previous: SegmentEnd | null = null
  #batch: MovedFrame[] = []
  #batchBytes = 0
  #nextLsn: number
  #tickFloor = 0n
  #lastTimeTick = 0n
  #frames = 0
  #lastFrame: FrameIdentity = { baseTimeTick: 0n, bodyHash: 0n }

  /** `nextLsn`: the first LSN of the log. */
  constructor(settings: SalvageWriterSettings, nextLsn: number) {
    this.#settings = settings
    this.#nextLsn = nextLsn
  }

  /** Which LSN comes next. */
  get nextLsn(): number {
    return this.#nextLsn
  }

  /** The smallest base time tick that the next frame may have. */
  get tickFloor(): bigint {
    return this.#tickFloor
  }

  get lastTimeTick(): bigint {
    return this.#lastTimeTick
  }

  /** The one that was added last, as it is in the new log. */
  get lastFrame(): FrameIdentity {
    return this.#lastFrame
  }

  /** Of records, gaps and ticks. */
  get frames(): number {
    return this.#frames
  }

  /** Before the first frame: the log begins with a frame that begins below it. */
  beginAt(lsn: number): void {
    assert(this.#frames === 0, 'a log begins once')
    this.#nextLsn = lsn
  }

  /** A frame whose LSN is the next one, and whose tick is not below the floor. The bytes are not needed afterwards. */
  async add({ header, bytes, head, nextLsn }: WalkedFrame): Promise<void> {
    assert(header !== null && nextLsn !== undefined, 'a frame that is added is intact')
    const { headerLength, bodyLength, nodeSectionLength } = header
    // Views would keep all that was read with them, and padding is not to be copied.
    const copy = Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + bodyLength + nodeSectionLength)
    bytes.copy(copy, FRAME_HEADER_BYTES, headerLength, headerLength + bodyLength + nodeSectionLength)
    if (head !== null) clearPadding(head, copy.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + bodyLength))
    const vchannels = head?.vchannels ?? []
    await this.#place({
      pending: null,
      header: { ...header, headerLength: FRAME_HEADER_BYTES },
      vchannels,
      nextLsn,
      bytes: copy,
    })
  }

  /** LSNs up to `behind` are not there. */
  async gap(behind: number, reason: GapReason): Promise<void> {
    const count = behind - this.#nextLsn
    assert(count > 0, 'a gap skips an LSN')
    const body = encodeGap({ count, reason })
    const bytes = Buffer.alloc(FRAME_HEADER_BYTES + GAP_BODY_BYTES)
    body.copy(bytes, FRAME_HEADER_BYTES)
    const header: FrameHeader = {
      ...this.#settings.owner,
      headerLength: FRAME_HEADER_BYTES,
      kind: FrameKind.gap,
      flags: 0,
      totalLength: bytes.length,
      bodyLength: GAP_BODY_BYTES,
      nodeSectionLength: 0,
      recordCount: 0,
      baseLsn: this.#nextLsn,
      baseTimeTick: this.#tickFloor,
      position: 0,
      durablePosition: 0,
      chain: 0n,
      bodyHash: hash64(body),
      nodeHash: 0n,
      checksum: 0n,
    }
    await this.#place({ pending: null, header, vchannels: [], nextLsn: behind, bytes })
  }

  /** Seals the last segment, and publishes. `lease`: bounds of what was given before; null: they stand elsewhere. */
  async finish(firstLsn: number, lease: { tickBound: bigint; lsnBound: number } | null): Promise<void> {
    const { environment, directory, durability, owner, logId } = this.#settings
    const active = this.#active
    await this.#seal(null)
    if (lease !== null) {
      let { tickBound } = lease
      if (this.#tickFloor > tickBound) tickBound = this.#tickFloor
      await writeLease(environment, directory, tickBound, lease.lsnBound)
    }
    await environment.disk.syncDirectory(directory)
    const tail = active === null ? null : { id: active.id, baseLsn: active.writer.header.baseLsn }
    const content: ManifestContent = {
      generation: 1,
      logId,
      ...owner,
      durability,
      firstLsn: Math.min(firstLsn, this.#nextLsn),
      firstSegment: this.#first,
      tail: tail && { ...tail, syncedPosition: this.#previous!.end, chain: this.#previous!.chain, closed: true },
      nextLsn: this.#nextLsn,
      lastTimeTick: this.#lastTimeTick,
      bootId: new Uint8Array(16),
      retired: [],
      origins: [],
    }
    await ManifestStore.create(environment, directory, content, async () => false)
  }

  /** What is open is closed: the salvage has failed. */
  async abandon(): Promise<void> {
    await this.#active?.writer.file.close().catch(() => {})
  }

  async #place(moved: MovedFrame): Promise<void> {
    const { bytes, header } = moved
    const needed = alignUp(this.#batchBytes + bytes.length, ALIGNMENT)
    if (this.#active !== null && needed > this.#active.writer.room) await this.#flush()
    if (this.#active === null || alignUp(this.#batchBytes + bytes.length, ALIGNMENT) > this.#active.writer.room) {
      const id = randomSegmentId(this.#settings.environment)
      await this.#seal(id)
      await this.#begin(id, bytes.length)
    }
    this.#batch.push(moved)
    this.#batchBytes += bytes.length
    this.#frames++
    this.#lastFrame = header
    this.#nextLsn = moved.nextLsn
    const floor = nextTickFloor(header)
    if (floor > this.#tickFloor) this.#tickFloor = floor
    if (header.kind === FrameKind.records || header.kind === FrameKind.timeTick) this.#lastTimeTick = floor - 1n
    if (this.#batchBytes >= FLUSH_BYTES) await this.#flush()
  }

  async #begin(id: string, frameBytes: number): Promise<void> {
    const { environment, directory, logId, owner, segmentBytes } = this.#settings
    const header: SegmentHeader = {
      ...owner,
      logId,
      segmentId: id,
      baseLsn: this.#nextLsn,
      baseTimeTick: this.#tickFloor,
      salt: randomSalt(environment),
      alignment: ALIGNMENT,
      previous: this.#previous,
      replaced: null,
      oldestOpenTransaction: null,
      originLogId: null,
      forkLsn: 0,
      createdMs: environment.clock.nowMs(),
      preparedBytes: 0,
    }
    const name = segmentFileName(header.baseLsn, id)
    const file = await environment.disk.create(`${directory}/${name}`, 'none')
    const { bytes, checksum } = encodeSegmentHeader(header)
    const capacity = Math.max(segmentBytes, SEGMENT_HEADER_BYTES + alignUp(frameBytes, ALIGNMENT) + 3 * ALIGNMENT)
    // What is written is synced once, before the seal.
    const writer = new SegmentWriter({
      header,
      headerChecksum: checksum,
      file,
      capacity,
      durability: 'os',
      mode: 'fdatasync',
    })
    this.#active = { id, name, writer, builder: new SegmentIndexBuilder(header.salt) }
    this.#first ??= { id, baseLsn: header.baseLsn }
    await file.write(bytes, 0)
  }

  async #flush(): Promise<void> {
    const active = this.#active
    if (active === null || this.#batch.length === 0) return
    const flush = moveFrames(this.#batch, active.writer, 0)
    this.#batch = []
    this.#batchBytes = 0
    await active.writer.write(flush.bytes, flush.position)
    for (const { header, vchannels } of flush.frames) active.builder.addFrame({ ...header, vchannels })
  }

  async #seal(nextId: string | null): Promise<void> {
    const active = this.#active
    if (active === null) return
    await this.#flush()
    const { environment, directory, owner } = this.#settings
    const { writer, builder, id, name } = active
    await finishSegment.seal(writer, owner, this.#nextLsn, nextId)
    await writer.file.close()
    const end = { position: writer.position, chain: writer.chain, nextLsn: this.#nextLsn }
    const { lastTimeTick } = writer.tally
    await writeIndexFile({ environment, directory }, { id, name }, builder, { ...end, lastTimeTick })
    this.#previous = { id, end: end.position, chain: end.chain }
    this.#active = null
  }
}
