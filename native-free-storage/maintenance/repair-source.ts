/**
 * A segment file as a source of frames, for a repair: of which segment it is, and with which salt its frames can be
 * read, also when its header is damaged.
 */
import type { DiskFile } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeFrameHeader, FRAME_HEADER_BYTES, FRAME_STEP_BYTES, looksLikeFrame } from '../format/frame-header.ts'
import { readBigU64 } from '../format/integers.ts'
import { decodeSeal, SEAL_BODY_BYTES } from '../format/seal.ts'
import {
  ALIGNMENT_MAX,
  ALIGNMENT_MIN,
  type DecodedSegmentHeader,
  SEGMENT_HEADER_BYTES,
} from '../format/segment-header.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'
import { madeUpHeader } from './made-up-header.ts'
import type { SurveyedSegment } from './surveyed-segment.ts'

const SALT_AT = 88
const WINDOW_BYTES = 1024 * 1024
/** Places that look like a frame, at which a salt is tried. */
const PROBES_MAX = 64

export interface RepairSource {
  /** File name in the log's directory. */
  readonly name: string
  /** Of the segment that it holds, which need not be the one that its name promises. */
  readonly id: string
  readonly baseLsn: number
  /** What a header is needed for; made up where the header is damaged. */
  readonly header: DecodedSegmentHeader
  /** The header as it stands can be relied on: links and owner are known. */
  readonly hasHeader: boolean
  /** Name and header are what they have to be, to the last byte. */
  readonly isExact: boolean
  /** False: no frame of the file can be read. */
  readonly hasSalt: boolean
  readonly bytes: number
  /** Frames that are intact only in another file of the same segment, ascending. */
  readonly patches?: readonly Patch[]
}

/** These bytes are read from another file of the same segment, at the same position. */
export interface Patch {
  /** File name in the log's directory. */
  readonly name: string
  readonly from: number
  readonly to: number
}

/** Throws IO_FAILED. */
export async function sourceOf(
  environment: Environment,
  directory: string,
  survey: SurveyedSegment,
): Promise<RepairSource> {
  const { name, found, bytes } = survey
  if (found !== null) {
    const isExact = survey.standing === 'sound' && survey.padding === null
    const { segmentId: id, baseLsn } = found
    return { name, id, baseLsn, header: found, hasHeader: true, isExact, hasSalt: true, bytes }
  }
  const { id, baseLsn } = survey
  const derived = await deriveSalt(environment, directory, survey)
  const header = madeUpHeader({
    segmentId: survey.id,
    baseLsn: survey.baseLsn,
    salt: derived?.salt ?? 0n,
    alignment: derived?.alignment ?? ALIGNMENT_MIN,
  })
  return { name, id, baseLsn, header, hasHeader: false, isExact: false, hasSalt: derived !== null, bytes }
}

/** To be released by the caller. Throws IO_FAILED. */
export async function openSource(
  environment: Environment,
  directory: string,
  source: RepairSource,
): Promise<OpenSegment> {
  const { id, baseLsn, name, header, patches = [] } = source
  const own = await environment.disk.open(`${directory}/${name}`, 'read')
  const file = patches.length === 0 ? own : await openPatched(environment, directory, own, patches)
  return { segment: { id, baseLsn, name }, file, header, release: () => file.close() }
}

/**
 * The salt of a file whose header is not valid: what stands in its place, that with one bit flipped, and what the seal
 * says are tried on the frames. Null: none of them is right, or there is no frame.
 */
async function deriveSalt(
  environment: Environment,
  directory: string,
  survey: SurveyedSegment,
): Promise<{ salt: bigint; alignment: number } | null> {
  const file = await environment.disk.open(`${directory}/${survey.name}`, 'read')
  try {
    const { id: segmentId, baseLsn } = survey
    const header = madeUpHeader({ segmentId, baseLsn, salt: 0n, alignment: ALIGNMENT_MIN })
    const opened = { segment: survey, file, header, release: async () => {} }
    const seal = await findSealBody(opened, survey.bytes)
    const probes = await findProbes(opened, survey.bytes)
    const head = Buffer.alloc(SEGMENT_HEADER_BYTES)
    await readAt(file, survey, head, 0, head.length, 0)
    const written = readBigU64(head, SALT_AT)
    const candidates = [written, ...(seal === null ? [] : [seal.salt])]
    for (let bit = 0n; bit < 64n; bit++) candidates.push(written ^ (1n << bit))
    for (const salt of candidates) {
      if (probes.some(({ bytes, position }) => isFrame(bytes, position, salt))) {
        return { salt, alignment: seal?.alignment ?? ALIGNMENT_MIN }
      }
    }
    return null
  } finally {
    await file.close()
  }
}

/** The body of a seal has a hash without a salt, and holds the salt. */
async function findSealBody(opened: OpenSegment, size: number): Promise<{ salt: bigint; alignment: number } | null> {
  for (let alignment = ALIGNMENT_MIN; alignment <= ALIGNMENT_MAX; alignment *= 2) {
    const position = size - alignment
    if (position < SEGMENT_HEADER_BYTES) return null
    const bytes = Buffer.alloc(FRAME_HEADER_BYTES + SEAL_BODY_BYTES)
    const got = await readAt(opened.file, opened.segment, bytes, 0, bytes.length, position)
    if (got < bytes.length || !looksLikeFrame(bytes, 0)) continue
    const body = bytes.subarray(FRAME_HEADER_BYTES)
    if (hash64(body) !== readBigU64(bytes, 80)) continue
    try {
      const { salt, end } = decodeSeal(body)
      if (end === position) return { salt, alignment }
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
    }
  }
  return null
}

async function findProbes(opened: OpenSegment, size: number): Promise<{ bytes: Buffer; position: number }[]> {
  const probes: { bytes: Buffer; position: number }[] = []
  for (let at = SEGMENT_HEADER_BYTES; at < size; at += WINDOW_BYTES) {
    const window = Buffer.allocUnsafeSlow(Math.min(WINDOW_BYTES + FRAME_HEADER_BYTES, size - at))
    const got = await readAt(opened.file, opened.segment, window, 0, window.length, at)
    const last = Math.min(WINDOW_BYTES, got - FRAME_HEADER_BYTES)
    for (let offset = 0; offset <= last && offset < WINDOW_BYTES; offset += FRAME_STEP_BYTES) {
      if (!looksLikeFrame(window, offset)) continue
      probes.push({ bytes: Buffer.from(window.subarray(offset, offset + FRAME_HEADER_BYTES)), position: at + offset })
      if (probes.length === PROBES_MAX) return probes
    }
  }
  return probes
}

function isFrame(bytes: Buffer, position: number, salt: bigint): boolean {
  try {
    return decodeFrameHeader(bytes, 0, bytes.length, salt, position) !== null
  } catch {
    return false
  }
}

/** Reads as `own`, with `patches` over it; closes all. */
async function openPatched(
  environment: Environment,
  directory: string,
  own: DiskFile,
  patches: readonly Patch[],
): Promise<DiskFile> {
  const files = new Map<string, DiskFile>()
  const close = async (): Promise<void> => {
    for (const file of [own, ...files.values()]) await file.close()
  }
  try {
    for (const { name } of patches) {
      if (!files.has(name)) files.set(name, await environment.disk.open(`${directory}/${name}`, 'read'))
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    path: own.path,
    read: async (target, offset, length, position) => {
      const got = await own.read(target, offset, length, position)
      for (const { name, from, to } of patches) {
        const start = Math.max(from, position)
        const count = Math.min(to, position + got) - start
        if (count > 0) await files.get(name)!.read(target, offset + start - position, count, start)
      }
      return got
    },
    write: (bytes, position) => own.write(bytes, position),
    sync: () => own.sync(),
    truncate: (length) => own.truncate(length),
    size: () => own.size(),
    close,
  }
}
