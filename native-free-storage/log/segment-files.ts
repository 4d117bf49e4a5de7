/**
 * How a segment file comes to be: taken from the pool (or made to grow), its header written and synced, and only then
 * given its name in the log's directory. docs/FORMAT.md section 2.
 */
import type { DiskFile } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { segmentFileName } from '../format/file-names.ts'
import { encodeSegmentHeader, type SegmentHeader } from '../format/segment-header.ts'
import type { FilePool } from '../segment/file-pool.ts'
import { SegmentWriter, type WriteMode } from '../segment/segment-writer.ts'
import { SegmentIndexBuilder } from '../segment/sparse-index.ts'
import type { LogDurability } from './log-options.ts'
import type { SegmentEntry } from './log-view.ts'

export interface SegmentFileSettings {
  environment: Environment
  directory: string
  pool: FilePool
  durability: LogDurability
  mode: WriteMode
}

/** A file that is open for writing but has no place in the log yet. */
export interface UnnamedSegmentFile {
  file: DiskFile
  path: string
  bytes: number
  /** Its blocks are there already. */
  prepared: boolean
}

export interface BegunSegment {
  entry: SegmentEntry & { building: SegmentIndexBuilder }
  writer: SegmentWriter
}

export async function takeSegmentFile(settings: SegmentFileSettings, bytes: number): Promise<UnnamedSegmentFile> {
  const { disk } = settings.environment
  const sync = settings.durability === 'disk' && settings.mode === 'dsync' ? 'dsync' : 'none'
  const prepared = settings.pool.take(bytes)
  if (prepared !== null) {
    return { file: await disk.open(prepared.path, 'write', sync), path: prepared.path, bytes, prepared: true }
  }
  const path = settings.pool.freshPath()
  return { file: await disk.create(path, sync), path, bytes, prepared: false }
}

/** The header, durable: afterwards the file may be given its name. Returns the chain of the first frame. */
export async function writeSegmentHeader(
  settings: SegmentFileSettings,
  unnamed: UnnamedSegmentFile,
  header: SegmentHeader,
): Promise<bigint> {
  const { bytes, checksum } = encodeSegmentHeader(header)
  await unnamed.file.write(bytes, 0)
  if (settings.durability === 'os' || settings.mode === 'fdatasync') await unnamed.file.sync()
  return checksum
}

/** Gives the file its name, durably. */
export async function nameSegmentFile(
  settings: SegmentFileSettings,
  unnamed: UnnamedSegmentFile,
  header: SegmentHeader,
  headerChecksum: bigint,
): Promise<BegunSegment> {
  const { disk } = settings.environment
  const name = segmentFileName(header.baseLsn, header.segmentId)
  await disk.rename(unnamed.path, `${settings.directory}/${name}`)
  await Promise.all([disk.syncDirectory(settings.directory), disk.syncDirectory(settings.pool.directory)])
  return {
    entry: {
      id: header.segmentId,
      baseLsn: header.baseLsn,
      name,
      end: undefined,
      building: new SegmentIndexBuilder(header.salt),
    },
    writer: new SegmentWriter({
      header,
      headerChecksum,
      file: unnamed.file,
      capacity: unnamed.bytes,
      durability: settings.durability,
      mode: settings.mode,
    }),
  }
}

/** Drops a file that got no name. */
export async function dropUnnamed(settings: SegmentFileSettings, unnamed: UnnamedSegmentFile): Promise<void> {
  await unnamed.file.close().catch(() => {})
  await settings.environment.disk.unlink(unnamed.path).catch(() => {})
}

export function randomSegmentId(environment: Environment): string {
  for (;;) {
    const id = Buffer.from(environment.randomBytes(8)).toString('hex')
    if (id !== '0000000000000000') return id
  }
}

export function randomSalt(environment: Environment): bigint {
  return Buffer.from(environment.randomBytes(8)).readBigUInt64LE(0)
}
