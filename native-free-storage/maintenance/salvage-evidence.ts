/**
 * What a salvage knows of a log besides its frames: the manifest, also a damaged one, the lease, and indexes whose
 * segments are gone.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import {
  indexFileName,
  manifestFileName,
  parseManifestFileName,
  parseSegmentFileName,
  readSegmentId,
  type SegmentName,
} from '../format/file-names.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeIndexHeader, INDEX_BLOCK_BYTES } from '../format/index-blocks.ts'
import { readU64OrNegative } from '../format/integers.ts'
import { decodeLease, LEASE_BYTES, type LeaseSlot } from '../format/lease.ts'
import { MANIFEST_HEADER_BYTES, type ManifestContent } from '../format/manifest.ts'
import { LEASE_FILE } from '../log/lease-file.ts'
import { readManifest } from '../log/manifest-store.ts'
import { openReadable } from './readable-file.ts'
import type { Assumptions } from './salvage-report.ts'

const MANIFEST_FIRST_LSN = 80
const MANIFEST_NEXT_LSN = 136
const INDEX_SEGMENT_ID = 16
const INDEX_NEXT_LSN = 64
const INDEX_RECORDS = 80

export interface KnownManifest {
  /** Null: there is none that is valid. */
  content: ManifestContent | null
  /** What the newest of the damaged ones says; null: nothing. */
  doubtful: { firstLsn: number; nextLsn: number } | null
}

/** The newest generation that is valid. Throws what the disk throws. */
export async function knownManifest(
  environment: Environment,
  directory: string,
  names: readonly string[],
  assumptions: Assumptions,
): Promise<KnownManifest> {
  const generations = names.map(parseManifestFileName).filter((generation) => generation !== null)
  let doubtful: KnownManifest['doubtful'] = null
  for (const [index, generation] of generations.sort((a, b) => b - a).entries()) {
    const name = manifestFileName(generation)
    try {
      const content = await readManifest(environment.disk, directory, generation)
      if (index > 0) assumptions.add(`${name} is believed, since the manifests behind it are damaged`)
      return { content, doubtful: null }
    } catch (error) {
      const isGone = isDiskError(error, 'ENOENT') || isDiskError(error, 'EIO') || isDiskError(error, 'EISDIR')
      if (!(error instanceof TidelogError) && !isGone) throw error
      assumptions.add(`${name} cannot be believed: what belongs to the log is told by the segments alone`)
      doubtful ??= await doubtfulOf(environment, `${directory}/${name}`)
    }
  }
  if (generations.length === 0)
    assumptions.add('there is no manifest: what belongs to the log is told by the segments alone')
  return { content: null, doubtful }
}

async function doubtfulOf(environment: Environment, path: string): Promise<KnownManifest['doubtful']> {
  const bytes = await startOf(environment, path, MANIFEST_HEADER_BYTES)
  if (bytes === null || bytes.toString('latin1', 8, 16) !== 'TIDEMAN1') return null
  const firstLsn = readU64OrNegative(bytes, MANIFEST_FIRST_LSN)
  const nextLsn = readU64OrNegative(bytes, MANIFEST_NEXT_LSN)
  return firstLsn < 0 || nextLsn < firstLsn ? null : { firstLsn, nextLsn }
}

/** Null: there is none, or none that is valid. */
export async function knownLease(environment: Environment, directory: string): Promise<LeaseSlot | null> {
  const bytes = await startOf(environment, `${directory}/${LEASE_FILE}`, LEASE_BYTES)
  return bytes === null ? null : decodeLease(bytes)
}

/** Of indexes whose segment is not there: id and base LSN, as the name has them. */
export function indexedOnly(names: readonly string[]): SegmentName[] {
  const present = new Set(names)
  return names
    .map((name) => name.replace(/\.idx$/, '.seg'))
    .filter((name, index) => name !== names[index] && !present.has(name))
    .map(parseSegmentFileName)
    .filter((parsed) => parsed !== null)
}

/**
 * One above the last LSN of a segment, as its index has it; null: it does not tell. Its hash needs the salt of the
 * segment: without it (null) what it says is believed when its counts agree.
 */
export async function indexedNextLsn(
  environment: Environment,
  directory: string,
  { id, baseLsn }: SegmentName,
  salt: bigint | null,
): Promise<number | null> {
  const block = await startOf(environment, `${directory}/${indexFileName(baseLsn, id)}`, INDEX_BLOCK_BYTES)
  if (block === null || block.toString('latin1', 0, 8) !== 'TIDEIDX1') return null
  if (salt !== null) {
    try {
      const header = decodeIndexHeader(block, salt)
      return header.segmentId === id ? header.nextLsn : null
    } catch (error) {
      if (error instanceof FormatError) return null
      throw error
    }
  }
  const nextLsn = readU64OrNegative(block, INDEX_NEXT_LSN)
  const agrees = readU64OrNegative(block, INDEX_RECORDS) === nextLsn - baseLsn
  return agrees && nextLsn >= baseLsn && readSegmentId(block, INDEX_SEGMENT_ID) === id ? nextLsn : null
}

async function startOf(environment: Environment, path: string, length: number): Promise<Buffer | null> {
  const file = await openReadable(environment, path)
  if (file === null) return null
  try {
    const bytes = Buffer.alloc(length)
    const got = await file.read(bytes, 0, length, 0)
    return got === length ? bytes : null
  } finally {
    await file.close()
  }
}
