/**
 * Where a copy parts from its original: a segment of its own behind those that both share. It holds what followed the
 * last proven point, as an opening would carry it over, or a gap over the LSNs that are in the original's files and not
 * in the copy: somebody may have been told of them.
 */
import type { Environment } from '../environment.ts'
import { segmentFileName } from '../format/file-names.ts'
import { FRAME_HEADER_BYTES } from '../format/frame-header.ts'
import { GAP_BODY_BYTES } from '../format/gap.ts'
import type { LogOrigin, ManifestContent } from '../format/manifest.ts'
import { encodeSegmentHeader, type SegmentHeader } from '../format/segment-header.ts'
import { machineBootId } from '../log/boot-id.ts'
import { buildFlush, lastTickOfFlush } from '../log/flush.ts'
import { FlushBuffers } from '../log/flush-buffers.ts'
import type { SegmentEntry } from '../log/log-view.ts'
import { ControlFrame } from '../log/pending-frame.ts'
import { randomSalt, randomSegmentId } from '../log/segment-files.ts'
import type { DurablePoint } from '../log/writer-start.ts'
import { copyFrames } from '../recovery/carry-over.ts'
import type { FoundTail } from '../recovery/find-tail.ts'
import type { TailFrame } from '../recovery/tail-scan.ts'
import { originOf } from '../segment/lineage.ts'
import { SegmentWriter } from '../segment/segment-writer.ts'
import { SegmentIndexBuilder } from '../segment/sparse-index.ts'
import type { BackupFiles } from './backup-files.ts'

export interface ForkPlan {
  original: ManifestContent
  tail: FoundTail | null
  /** What follows the proven point and belongs to the copy. */
  suffix: readonly TailFrame[]
  /** The segments that both share, in LSN order. */
  kept: readonly SegmentEntry[]
  upTo: 'proven' | 'written'
}

/** The manifest of the copy, but for where it begins. Its tail is durable when this settles. */
export async function writeFork(
  environment: Environment,
  path: string,
  out: string,
  files: BackupFiles,
  plan: ForkPlan,
): Promise<ManifestContent> {
  const { original, tail, kept } = plan
  const forkLsn = tail?.proven.nextLsn ?? original.nextLsn
  const content: ManifestContent = {
    ...original,
    generation: 1,
    logId: Buffer.from(environment.randomBytes(16)).toString('hex'),
    tail: null,
    firstSegment: null,
    bootId: machineBootId(environment),
    retired: [],
    origins: originsOf(original, forkLsn, kept[0]?.baseLsn ?? forkLsn),
  }
  if (tail === null) return content
  const header = forkHeader(environment, content, tail, forkLsn)
  const end = await writeForkSegment(environment, path, out, files, header, tail, plan)
  return {
    ...content,
    tail: {
      id: header.segmentId,
      baseLsn: header.baseLsn,
      syncedPosition: end.position,
      chain: end.chain,
      closed: true,
    },
    nextLsn: end.nextLsn,
    lastTimeTick: end.lastTimeTick,
  }
}

/** Those that no segment of the copy is of any more go. */
function originsOf(original: ManifestContent, forkLsn: number, firstBaseLsn: number): LogOrigin[] {
  const before = original.origins.filter((origin) => origin.forkLsn >= firstBaseLsn)
  return [...before, { logId: original.logId, forkLsn }]
}

/** No LSN of it is proven: the segment of the copy, with the same base LSN, takes its place. */
export function isUnshared({ entry, proven }: Pick<FoundTail, 'entry' | 'proven'>): boolean {
  return proven.nextLsn === entry.baseLsn
}

function forkHeader(
  environment: Environment,
  content: ManifestContent,
  { entry, header, proven }: FoundTail,
  forkLsn: number,
): SegmentHeader {
  return {
    logId: content.logId,
    segmentId: randomSegmentId(environment),
    baseLsn: forkLsn,
    baseTimeTick: proven.lastTimeTick === 0n ? 0n : proven.lastTimeTick + 1n,
    ownerTerm: content.ownerTerm,
    incarnation: content.incarnation,
    salt: randomSalt(environment),
    alignment: header.alignment,
    previous: isUnshared({ entry, proven })
      ? header.previous
      : { id: entry.id, end: proven.position, chain: proven.chain },
    replaced: null,
    oldestOpenTransaction: null,
    ...originOf(content),
    createdMs: environment.clock.nowMs(),
    preparedBytes: 0,
  }
}

async function writeForkSegment(
  environment: Environment,
  path: string,
  out: string,
  files: BackupFiles,
  header: SegmentHeader,
  tail: FoundTail,
  { suffix, upTo }: ForkPlan,
): Promise<DurablePoint> {
  const { bytes, checksum } = encodeSegmentHeader(header)
  const name = segmentFileName(header.baseLsn, header.segmentId)
  const file = await environment.disk.create(`${out}/${name}`, 'none')
  files.add(name)
  try {
    await file.write(bytes, 0)
    const writer = new SegmentWriter({
      header,
      headerChecksum: checksum,
      file,
      capacity: Number.MAX_SAFE_INTEGER,
      // At each level: what stands in a backup is durable.
      durability: 'disk',
      mode: 'fdatasync',
    })
    const entry = { id: header.segmentId, baseLsn: header.baseLsn, name, end: undefined }
    const building = new SegmentIndexBuilder(header.salt)
    const segment = { entry: { ...entry, building }, writer }
    let end = await copyFrames({ environment, directory: path }, tail, suffix, segment, tail.proven)
    const untold = upTo === 'proven' ? tail.end.nextLsn - end.nextLsn : 0
    if (untold > 0) end = await writeGap(environment, writer, end, untold)
    await file.sync()
    files.count(writer.position)
    return end
  } finally {
    await file.close()
  }
}

async function writeGap(
  environment: Environment,
  writer: SegmentWriter,
  before: DurablePoint,
  count: number,
): Promise<DurablePoint> {
  const { ownerTerm, incarnation, baseTimeTick } = writer.header
  const flush = buildFlush(
    [{ pending: ControlFrame.gap({ count, reason: 'leased' }), baseLsn: before.nextLsn, baseTimeTick }],
    FRAME_HEADER_BYTES + GAP_BODY_BYTES,
    writer,
    { ownerTerm, incarnation },
    new FlushBuffers(),
    environment.clock.monotonicMs(),
  )
  await writer.write(flush.bytes, flush.position)
  const [frame] = flush.frames
  return {
    position: flush.position + flush.bytes.length,
    chain: frame!.header.checksum,
    nextLsn: frame!.nextLsn,
    lastTimeTick: lastTickOfFlush(flush, before.lastTimeTick),
  }
}
