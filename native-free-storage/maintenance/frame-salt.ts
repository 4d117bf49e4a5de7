/**
 * The salt of a segment whose header is gone. The header may still hold it, with a bit flipped perhaps; a seal says it
 * again, in a body with a hash of its own. A candidate is right when one frame has its checksum with it.
 */
import type { DiskFile } from '../disk/disk.ts'
import { hash64 } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import {
  decodeFrameHeader,
  decodeUnsaltedHeader,
  FRAME_HEADER_BYTES,
  FRAME_STEP_BYTES,
  type FrameHeader,
  FrameKind,
  looksLikeFrame,
} from '../format/frame-header.ts'
import { readBigU64 } from '../format/integers.ts'
import { decodeSeal, SEAL_BODY_BYTES } from '../format/seal.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'

const SALT_AT = 88
const WINDOW_BYTES = 1024 * 1024
/** Places that look like a frame, at which a salt is tried. */
const PROBES_MAX = 32
const PROBE_BYTES = FRAME_HEADER_BYTES + SEAL_BODY_BYTES

export interface FoundSalt {
  /** Null: it is not known. */
  salt: bigint | null
  /** Whether anything in the file looks like a frame at its own position. */
  hasFrames: boolean
}

interface Probe {
  bytes: Buffer
  position: number
}

/** `others`: salts that are worth a try, of copies. */
export async function findSalt(file: DiskFile, fileBytes: number, others: readonly bigint[]): Promise<FoundSalt> {
  const start = Buffer.alloc(SALT_AT + 8)
  await file.read(start, 0, start.length, 0)
  const candidates = [...others, ...withFlips(readBigU64(start, SALT_AT))]
  const probes: Probe[] = []
  for await (const probe of probesOf(file, fileBytes)) {
    const salt = candidates.find((candidate) => fits(candidate, probe)) ?? saltOfSeal(probe)
    if (salt !== null && (fits(salt, probe) || probes.some((other) => fits(salt, other)))) {
      return { salt, hasFrames: true }
    }
    // Behind these only a seal can tell.
    if (probes.length < PROBES_MAX) probes.push(probe)
  }
  return { salt: null, hasFrames: probes.length > 0 }
}

function withFlips(salt: bigint): bigint[] {
  const candidates = [salt]
  for (let bit = 0n; bit < 64n; bit++) candidates.push(salt ^ (1n << bit))
  return candidates
}

/** What looks like a frame and says that it stands where it stands. */
async function* probesOf(file: DiskFile, fileBytes: number): AsyncGenerator<Probe, void> {
  for (let at = SEGMENT_HEADER_BYTES; at < fileBytes; at += WINDOW_BYTES) {
    const window = Buffer.allocUnsafeSlow(Math.min(WINDOW_BYTES + PROBE_BYTES, fileBytes - at))
    const got = await file.read(window, 0, window.length, at)
    const bytes = window.subarray(0, got)
    for (let offset = 0; offset < WINDOW_BYTES && offset + FRAME_HEADER_BYTES <= got; offset += FRAME_STEP_BYTES) {
      if (!looksLikeFrame(bytes, offset) || decoded(bytes, offset, at + offset) === null) continue
      yield { bytes: Buffer.from(bytes.subarray(offset, offset + PROBE_BYTES)), position: at + offset }
    }
  }
}

function decoded(bytes: Buffer, offset: number, position: number): FrameHeader | null {
  try {
    return decodeUnsaltedHeader(bytes, offset, position)
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}

function saltOfSeal({ bytes, position }: Probe): bigint | null {
  const header = decoded(bytes, 0, position)
  if (header === null || header.kind !== FrameKind.seal || bytes.length < PROBE_BYTES) return null
  const body = bytes.subarray(FRAME_HEADER_BYTES)
  if (hash64(body) !== header.bodyHash) return null
  try {
    return decodeSeal(body).salt
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}

function fits(salt: bigint, { bytes, position }: Probe): boolean {
  try {
    return decodeFrameHeader(bytes, 0, bytes.length, salt, position) !== null
  } catch (error) {
    // Of a later version: the checksum was right.
    if (error instanceof FormatError) return true
    throw error
  }
}
