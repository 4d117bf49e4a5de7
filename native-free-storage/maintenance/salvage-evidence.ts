/**
 * What a salvage knows of a log besides its frames: the manifest, also a damaged one, the lease, and indexes whose
 * segments are gone.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { manifestFileName, parseManifestFileName, parseSegmentFileName, readSegmentId } from '../format/file-names.ts'
import { readU64OrNegative } from '../format/integers.ts'
import { decodeLease, LEASE_BYTES, type LeaseSlot } from '../format/lease.ts'
import { MANIFEST_HEADER_BYTES, type ManifestContent } from '../format/manifest.ts'
import { LEASE_FILE } from '../log/lease-file.ts'
import { readManifest } from '../log/manifest-store.ts'
import { openReadable } from './readable-file.ts'
import type { Assumptions } from './salvage-report.ts'

const MANIFEST_FIRST_LSN = 80
const INDEX_SEGMENT_ID = 16
const INDEX_NEXT_LSN = 64

export interface KnownManifest {
  /** Null: there is none that is valid. */
  content: ManifestContent | null
  /** What a damaged one says is the first LSN; null: nothing. */
  doubtfulFirstLsn: number | null
}

/** The newest generation that is valid. Throws what the disk throws. */
export async function knownManifest(
  environment: Environment,
  directory: string,
  names: readonly string[],
  assumptions: Assumptions,
): Promise<KnownManifest> {
  const generations = names.map(parseManifestFileName).filter((generation) => generation !== null)
  let doubtfulFirstLsn: number | null = null
  for (const [index, generation] of generations.sort((a, b) => b - a).entries()) {
    const name = manifestFileName(generation)
    try {
      const content = await readManifest(environment.disk, directory, generation)
      if (index > 0) assumptions.add(`${name} is believed, since the manifests behind it are damaged`)
      return { content, doubtfulFirstLsn: null }
    } catch (error) {
      const isGone = isDiskError(error, 'ENOENT') || isDiskError(error, 'EIO') || isDiskError(error, 'EISDIR')
      if (!(error instanceof TidelogError) && !isGone) throw error
      assumptions.add(`${name} cannot be believed: what belongs to the log is told by the segments alone`)
      doubtfulFirstLsn ??= await firstLsnOf(environment, `${directory}/${name}`)
    }
  }
  if (generations.length === 0)
    assumptions.add('there is no manifest: what belongs to the log is told by the segments alone')
  return { content: null, doubtfulFirstLsn }
}

async function firstLsnOf(environment: Environment, path: string): Promise<number | null> {
  const bytes = await startOf(environment, path, MANIFEST_HEADER_BYTES)
  if (bytes === null || bytes.toString('latin1', 8, 16) !== 'TIDEMAN1') return null
  const lsn = readU64OrNegative(bytes, MANIFEST_FIRST_LSN)
  return lsn < 0 ? null : lsn
}

/** Null: there is none, or none that is valid. */
export async function knownLease(environment: Environment, directory: string): Promise<LeaseSlot | null> {
  const bytes = await startOf(environment, `${directory}/${LEASE_FILE}`, LEASE_BYTES)
  return bytes === null ? null : decodeLease(bytes)
}

export interface IndexedSegment {
  id: string
  baseLsn: number
  /** One above its last LSN; null: the index does not tell. */
  nextLsn: number | null
}

/** Of segments whose file is not there. Their indexes cannot be verified: its hashes need the salt of the segment. */
export async function indexedOnly(
  environment: Environment,
  directory: string,
  names: readonly string[],
): Promise<IndexedSegment[]> {
  const found: IndexedSegment[] = []
  const present = new Set(names)
  for (const name of names) {
    const segmentName = name.replace(/\.idx$/, '.seg')
    const parsed = parseSegmentFileName(segmentName)
    if (!name.endsWith('.idx') || parsed === null || present.has(segmentName)) continue
    const block = await startOf(environment, `${directory}/${name}`, 96)
    if (block === null || block.toString('latin1', 0, 8) !== 'TIDEIDX1') continue
    if (readSegmentId(block, INDEX_SEGMENT_ID) !== parsed.id) continue
    const nextLsn = readU64OrNegative(block, INDEX_NEXT_LSN)
    found.push({ ...parsed, nextLsn: nextLsn < parsed.baseLsn ? null : nextLsn })
  }
  return found
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
