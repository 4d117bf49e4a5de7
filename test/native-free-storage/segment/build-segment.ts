/**
 * Writes log segments with the codecs and shows them to readers as a log does, so that the reading side is tested
 * without the engine's writer.
 */

import fs from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { CacheBudget, FrameCache } from '../../../native-free-storage/cache/frame-cache.ts'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import type { Environment } from '../../../native-free-storage/environment.ts'
import type { TidelogError } from '../../../native-free-storage/errors.ts'
import { planBody, type RecordInput } from '../../../native-free-storage/format/body-plan.ts'
import { writeBody } from '../../../native-free-storage/format/body-writer.ts'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { manifestFileName, segmentFileName } from '../../../native-free-storage/format/file-names.ts'
import {
  decodeFrameHeader,
  encodeFrameHeader,
  FRAME_HEADER_BYTES,
  FrameKind,
} from '../../../native-free-storage/format/frame-header.ts'
import { encodeGap, type GapReason } from '../../../native-free-storage/format/gap.ts'
import {
  encodeManifest,
  type ManifestContent,
  type ManifestTail,
} from '../../../native-free-storage/format/manifest.ts'
import { encodeNodeSection, type NodeSectionInput } from '../../../native-free-storage/format/node-section.ts'
import { encodeSeal } from '../../../native-free-storage/format/seal.ts'
import {
  encodeSegmentHeader,
  type SegmentEnd as NamedEnd,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from '../../../native-free-storage/format/segment-header.ts'
import type { DurableEnd, LogView, SegmentEntry } from '../../../native-free-storage/log/log-view.ts'
import { writeIndexFile } from '../../../native-free-storage/segment/index-file.ts'
import { SegmentIndexBuilder } from '../../../native-free-storage/segment/sparse-index.ts'

/** A record as the writer of a test knows it: what every reader has to be told. */
export interface WrittenRecord {
  lsn: number
  timeTick: bigint
  vchannel: string
  type: number
  properties: Record<string, string>
  payload: Buffer
  isNull: boolean
  isVoid: boolean
}

export interface TestLogOptions {
  cacheBytes?: number
  alignment?: number
  environment?: Environment
  firstLsn?: number
  logId?: string
}

interface WriterState {
  entry: SegmentEntry
  header: SegmentHeader
  fd: number
  position: number
  chain: bigint
  frames: number
  records: number
  firstTick: bigint
  lastTick: bigint
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-read-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** A log in `directory` (a temporary one when it is left out). */
export async function testLog(options: TestLogOptions & { directory?: string } = {}): Promise<TestLog> {
  await loadChecksum()
  const log = new TestLog(options.directory ?? (await temporaryDirectory()), options)
  onTestFinished(() => log.closeFile())
  return log
}

export class TestLog implements LogView {
  readonly environment: Environment
  readonly directory: string
  readonly logId: string
  readonly origins = []
  readonly cache: FrameCache
  readonly records: WrittenRecord[] = []
  segments: readonly SegmentEntry[] = []
  durableEnd: DurableEnd | null = null
  firstLsn = 0
  ended: TidelogError | null = null
  readOnly = false
  /** Whether a flush begins at the alignment; false packs frames. */
  readonly alignment: number
  nextLsn: number
  nextTick = 1_000n << 18n
  #segmentNumber = 0
  #state: WriterState | undefined
  #changed: Promise<void> | undefined
  #announce: (() => void) | undefined

  constructor(directory: string, options: TestLogOptions) {
    this.directory = directory
    this.environment = options.environment ?? nodeEnvironment()
    this.cache = new FrameCache(new CacheBudget(options.cacheBytes ?? 0))
    this.alignment = options.alignment ?? 512
    this.logId = options.logId ?? '0123456789abcdef0123456789abcdef'
    this.nextLsn = options.firstLsn ?? 0
    this.firstLsn = this.nextLsn
  }

  changed(): Promise<void> {
    this.#changed ??= new Promise((resolve) => {
      this.#announce = resolve
    })
    return this.#changed
  }

  announce(): void {
    const announce = this.#announce
    this.#changed = undefined
    this.#announce = undefined
    announce?.()
  }

  /** One frame of records, durable when the call returns. */
  append(inputs: readonly RecordInput[], node: Partial<NodeSectionInput> = {}): WrittenRecord[] {
    const plan = planBody(inputs)
    const body = Buffer.alloc(plan.bodyBytes)
    const bodyHash = writeBody(plan, body, 0)
    const nodeSection = encodeNodeSection({ recordCount: inputs.length, stamps: [], voids: [], ...node })
    const written = inputs.map((input, i): WrittenRecord => {
      const payload = Buffer.from(input.payload ?? [])
      return {
        lsn: this.nextLsn + i,
        timeTick: this.nextTick + BigInt(i),
        vchannel: input.vchannel,
        type: input.type ?? 0,
        properties: { ...input.properties },
        payload,
        isNull: input.payload === null,
        isVoid: node.voids?.includes(i) ?? false,
      }
    })
    const count = inputs.length
    this.#write(FrameKind.records, body, bodyHash, nodeSection, count, count, plan.vchannels)
    this.nextTick += BigInt(count)
    this.records.push(...written)
    return written
  }

  gap(count: number, reason: GapReason): void {
    const body = encodeGap({ count, reason })
    this.#write(FrameKind.gap, body, hash64(body), Buffer.alloc(0), 0, count, [])
  }

  tick(): bigint {
    const tick = this.nextTick
    this.#write(FrameKind.timeTick, Buffer.alloc(0), 0n, Buffer.alloc(0), 0, 0, [])
    this.nextTick++
    return tick
  }

  marker(): void {
    this.#write(FrameKind.durableMarker, Buffer.alloc(0), 0n, Buffer.alloc(0), 0, 0, [])
  }

  /** Ends the active segment and begins the next one. */
  async roll(
    options: { seal?: boolean; sealNames?: string; index?: boolean; forgetEnd?: boolean } = {},
  ): Promise<SegmentEntry> {
    const state = this.#active()
    const { entry } = state
    const next = this.#newSegment({ id: entry.id, end: state.position, chain: state.chain })
    if (options.seal ?? true) this.#seal(state, options.sealNames ?? next.header.segmentId)
    fs.closeSync(state.fd)
    const end = { position: state.position, chain: state.chain, nextLsn: this.nextLsn }
    entry.end = options.forgetEnd ? undefined : end
    if (options.index ?? true) {
      await writeIndexFile(this, entry, entry.building!, { ...end, lastTimeTick: state.lastTick })
    }
    entry.building = undefined
    this.#state = next
    this.segments = [...this.segments, next.entry]
    return entry
  }

  /** Also removes the files of the segments that only hold records below `lsn`. */
  truncateBefore(lsn: number): void {
    this.firstLsn = lsn
    while (this.segments.length > 1 && this.segments[1]!.baseLsn <= lsn) {
      const [first] = this.segments
      this.segments = this.segments.slice(1)
      fs.rmSync(join(this.directory, first!.name))
      fs.rmSync(join(this.directory, first!.name.replace('.seg', '.idx')), { force: true })
    }
    this.announce()
  }

  end(reason: TidelogError): void {
    this.ended = reason
    this.announce()
  }

  /** Changes bytes of a file in place. */
  damage(name: string, position: number, change: (byte: number) => number = (byte) => byte ^ 1, length = 1): void {
    const fd = fs.openSync(join(this.directory, name), 'r+')
    const bytes = Buffer.alloc(length)
    fs.readSync(fd, bytes, 0, length, position)
    for (let i = 0; i < length; i++) bytes[i] = change(bytes[i]!)
    fs.writeSync(fd, bytes, 0, length, position)
    fs.closeSync(fd)
  }

  /** Publishes a manifest; by default the tail is known to its end. */
  publish(change: Partial<ManifestContent> = {}, tail: Partial<ManifestTail> = {}): ManifestContent {
    const first = this.segments[0]
    const active = this.segments.length === 0 ? null : this.#active()
    const content: ManifestContent = {
      generation: 1,
      logId: this.logId,
      ownerTerm: 3,
      incarnation: 7,
      durability: 'disk',
      firstLsn: this.firstLsn,
      firstSegment: first === undefined ? null : { id: first.id, baseLsn: first.baseLsn },
      tail:
        active === null
          ? null
          : {
              id: active.entry.id,
              baseLsn: active.entry.baseLsn,
              syncedPosition: active.position,
              chain: active.chain,
              closed: false,
              ...tail,
            },
      nextLsn: this.nextLsn,
      lastTimeTick: active?.lastTick ?? 0n,
      bootId: new Uint8Array(16),
      retired: [],
      origins: [],
      ...change,
    }
    fs.writeFileSync(join(this.directory, manifestFileName(content.generation)), encodeManifest(content))
    return content
  }

  closeFile(): void {
    if (this.#state !== undefined) fs.closeSync(this.#state.fd)
    this.#state = undefined
  }

  /** Seals the active segment without a successor, as a close does. */
  sealActive(): void {
    const state = this.#active()
    this.#seal(state, null)
    state.entry.end = { position: state.position, chain: state.chain, nextLsn: this.nextLsn }
  }

  /** The index of a segment that was sealed without one. */
  async writeIndexOf(entry: SegmentEntry): Promise<void> {
    const { lastTick } = this.#active()
    await writeIndexFile(this, entry, entry.building!, { ...entry.end!, lastTimeTick: lastTick })
  }

  get active(): { name: string; position: number; chain: bigint; lastTick: bigint; header: SegmentHeader } {
    const { entry, position, chain, lastTick, header } = this.#active()
    return { name: entry.name, position, chain, lastTick, header }
  }

  #active(): WriterState {
    if (this.#state === undefined) {
      this.#state = this.#newSegment(null)
      this.segments = [...this.segments, this.#state.entry]
    }
    return this.#state
  }

  #newSegment(previous: NamedEnd | null): WriterState {
    this.#segmentNumber++
    const id = (0xa000_0000 + this.#segmentNumber).toString(16).padStart(16, '0')
    const header: SegmentHeader = {
      logId: this.logId,
      segmentId: id,
      baseLsn: this.nextLsn,
      baseTimeTick: this.nextTick,
      ownerTerm: 3,
      incarnation: 7,
      salt: 0x1234_5678_9abc_def0n + BigInt(this.#segmentNumber),
      alignment: this.alignment,
      previous,
      replaced: null,
      oldestOpenTransaction: null,
      originLogId: null,
      forkLsn: 0,
      createdMs: 1_700_000_000_000,
      // More than is there: a sealed one has been trimmed.
      preparedBytes: 1024 * 1024,
    }
    const { bytes, checksum } = encodeSegmentHeader(header)
    const name = segmentFileName(this.nextLsn, id)
    const fd = fs.openSync(join(this.directory, name), 'wx+')
    fs.writeSync(fd, bytes, 0, bytes.length, 0)
    const building = new SegmentIndexBuilder(header.salt)
    const entry: SegmentEntry = { id, baseLsn: this.nextLsn, name, end: undefined, building }
    return {
      entry,
      header,
      fd,
      position: SEGMENT_HEADER_BYTES,
      chain: checksum,
      frames: 0,
      records: 0,
      firstTick: 0n,
      lastTick: 0n,
    }
  }

  #write(
    kind: FrameKind,
    body: Buffer,
    bodyHash: bigint,
    nodeSection: Buffer,
    recordCount: number,
    lsnCount: number,
    vchannels: readonly string[],
  ): void {
    const state = this.#active()
    const { position, header, entry } = state
    const length = FRAME_HEADER_BYTES + body.length + nodeSection.length
    const totalLength = Math.ceil(length / header.alignment) * header.alignment
    const bytes = Buffer.alloc(totalLength)
    body.copy(bytes, FRAME_HEADER_BYTES)
    nodeSection.copy(bytes, FRAME_HEADER_BYTES + body.length)
    state.chain = encodeFrameHeader(
      bytes,
      0,
      {
        kind,
        flags: 0,
        totalLength,
        bodyLength: body.length,
        nodeSectionLength: nodeSection.length,
        recordCount,
        ownerTerm: header.ownerTerm,
        incarnation: header.incarnation,
        baseLsn: this.nextLsn,
        baseTimeTick: this.nextTick,
        position,
        durablePosition: position,
        chain: state.chain,
        bodyHash,
        nodeHash: nodeSection.length === 0 ? 0n : hash64(nodeSection),
      },
      header.salt,
    )
    fs.writeSync(state.fd, bytes, 0, totalLength, position)
    const baseTimeTick = this.nextTick
    entry.building!.addFrame({ position, baseLsn: this.nextLsn, baseTimeTick, recordCount, kind, vchannels })
    const decoded = decodeFrameHeader(bytes, 0, totalLength, header.salt, position)!
    state.position += totalLength
    state.frames++
    state.records += recordCount
    if (kind === FrameKind.records) {
      if (state.firstTick === 0n) state.firstTick = baseTimeTick
      state.lastTick = baseTimeTick + BigInt(recordCount) - 1n
    } else if (kind === FrameKind.timeTick) state.lastTick = baseTimeTick
    this.nextLsn += lsnCount
    const lastTimeTick = state.lastTick > 0n ? state.lastTick : (this.durableEnd?.lastTimeTick ?? 0n)
    this.cache.add({ header: decoded, bytes, segment: entry })
    this.durableEnd = { segment: entry, position: state.position, nextLsn: this.nextLsn, lastTimeTick }
    this.announce()
  }

  #seal(state: WriterState, nextSegmentId: string | null): void {
    const { header, position, chain } = state
    const bytes = Buffer.alloc(header.alignment)
    const body = encodeSeal({
      end: position,
      frames: state.frames,
      records: state.records,
      firstLsn: header.baseLsn,
      nextLsn: this.nextLsn,
      firstTimeTick: state.firstTick,
      lastTimeTick: state.lastTick,
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
        bodyLength: body.length,
        nodeSectionLength: 0,
        recordCount: 0,
        ownerTerm: header.ownerTerm,
        incarnation: header.incarnation,
        baseLsn: this.nextLsn,
        baseTimeTick: this.nextTick,
        position,
        durablePosition: position,
        chain,
        bodyHash: hash64(body),
        nodeHash: 0n,
      },
      header.salt,
    )
    fs.writeSync(state.fd, bytes, 0, bytes.length, position)
    fs.ftruncateSync(state.fd, position + bytes.length)
  }
}
