/**
 * A copy of a log, made beside its writer or without one: finished segments as hard links, the tail up to its last
 * proven point. The original is read and nothing else. The copy is a log of its own: it has a new id, names the one
 * that it was copied from, and never gives an LSN or a tick again that the original gave up to then. Its manifest comes
 * last. docs/FORMAT.md section 6.1, docs/decisions/0005.
 */
import { makeDirectories, makeNameDurable } from '../disk/directories.ts'
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { manifestFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { BACKUP_MARK, refuseIncompleteBackup } from '../log/incomplete-backup.ts'
import type { SegmentEntry } from '../log/log-view.ts'
import { findManifest, ManifestStore, refuseToWrite } from '../log/manifest-store.ts'
import { verifiedSuffix } from '../recovery/carry-over.ts'
import { type FoundSegments, findSegments, hasMoved } from '../recovery/find-tail.ts'
import { SegmentFiles } from '../segment/segment-file.ts'
import { type BackupCounts, BackupFiles } from './backup-files.ts'
import { isUnshared, writeFork } from './backup-fork.ts'
import { copyLease } from './backup-lease.ts'
import { placeSegment } from './backup-segment.ts'
import { copySnapshots } from './backup-snapshots.ts'
import { isWriterRunning } from './log-survey.ts'

/** A writer publishes, rolls and truncates meanwhile: then the backup begins anew. */
const ATTEMPTS_MAX = 10

export interface BackupOptions {
  /** No hard links: every file is copied. */
  copy?: boolean | undefined
  /**
   * Where the copy ends. `proven`: at the last point that is proven to be durable. `written`: behind it, as long as the
   * frames are whole; so it holds all that was acknowledged before the backup began, and perhaps records that were
   * under way. Default: `proven` beside a running writer of a log at durability `disk`, else `written`.
   */
  upTo?: 'proven' | 'written' | undefined
  /** Directories whose leases bound the ticks of this log, besides its own: of a data directory. */
  leaseDirectories?: readonly string[] | undefined
}

export interface BackupReport extends BackupCounts {
  path: string
  out: string
  /** Of the copy. */
  logId: string
  originLogId: string
  /** The first LSN that need not be the same in both. */
  forkLsn: number
  firstLsn: number
  /** Of the last record; null: there is none. */
  lastLsn: number | null
  /** The LSN that the copy gives next. */
  nextLsn: number
  upTo: 'proven' | 'written'
  writerRunning: boolean
  segments: number
}

/**
 * Copies the log in `directory` to `out`, which must be missing or empty. Takes no lock, and writes nothing into
 * `directory`.
 *
 * Errors: LOG_MISSING, MANIFEST_MISSING, MANIFEST_DAMAGED, SEGMENT_MISSING, LOG_DAMAGED, FORMAT_UNKNOWN,
 * BACKUP_INCOMPLETE (what an earlier one left is in `out`, or is to be copied), INVALID_ARGUMENT (`out` is not empty, or
 * lies in `directory`), DISK_FULL (retriable), IO_FAILED. What was begun stays in `out`, marked as incomplete.
 */
export async function backupLog(
  environment: Environment,
  directory: string,
  out: string,
  options: BackupOptions = {},
): Promise<BackupReport> {
  await loadChecksum()
  const path = withoutSlash(directory)
  const target = withoutSlash(out)
  try {
    if (target === path || target.startsWith(`${path}/`)) {
      throw new TidelogError('INVALID_ARGUMENT', `the backup ${target} cannot lie in ${path}, which is copied`)
    }
    await requireLog(environment, path)
    await beginBackup(environment, target)
    const report = await copyLog(environment, path, target, options)
    await finishBackup(environment, target)
    return report
  } catch (error) {
    throw explained(error, target)
  }
}

/** Creates `out`, or takes it when it is empty, and marks it as incomplete. Errors as `backupLog`. */
export async function beginBackup(environment: Environment, out: string): Promise<void> {
  const { disk } = environment
  await makeDirectories(disk, out)
  const names = await disk.list(out)
  refuseIncompleteBackup(out, names)
  if (names.length > 0) {
    const what = names.sort().slice(0, 3).join(', ')
    throw new TidelogError('INVALID_ARGUMENT', `${out} is not empty (${what}): choose a new or an empty directory`)
  }
  const mark = await disk.create(`${out}/${BACKUP_MARK}`, 'none')
  await mark.close()
  await disk.syncDirectory(out)
  await makeNameDurable(disk, out)
}

/** All is there and durable: the mark goes. */
export async function finishBackup(environment: Environment, out: string): Promise<void> {
  await environment.disk.unlink(`${out}/${BACKUP_MARK}`)
  await environment.disk.syncDirectory(out)
}

/** The lease of a data directory, after its logs. Nothing where there is none. */
export async function backupLease(environment: Environment, from: string, out: string): Promise<void> {
  await copyLease(environment, new BackupFiles(environment, from, out, false), from, [], 0n)
}

/** Before anything is created: a wrong path leaves nothing behind. */
async function requireLog(environment: Environment, directory: string): Promise<void> {
  const names = await environment.disk.list(directory).catch((error: unknown) => {
    if (isDiskError(error, 'ENOENT') || isDiskError(error, 'ENOTDIR')) throw missing(directory)
    throw error
  })
  if (names.some((name) => name.startsWith('MANIFEST-'))) return
  refuseIncompleteBackup(directory, names)
  if (!names.some((name) => name.endsWith('.seg'))) throw missing(directory)
  throw new TidelogError('MANIFEST_MISSING', `${directory} has log segments but no manifest: it cannot be backed up`)
}

function missing(directory: string): TidelogError {
  return new TidelogError('LOG_MISSING', `there is no log in ${directory}`, { file: directory })
}

async function copyLog(
  environment: Environment,
  path: string,
  out: string,
  options: BackupOptions,
): Promise<BackupReport> {
  const files = new BackupFiles(environment, path, out, options.copy !== true)
  for (let attempt = 1; ; attempt++) {
    try {
      return await copyOnce(environment, path, out, options, files)
    } catch (error) {
      const running = await isWriterRunning(environment, path)
      if (attempt >= ATTEMPTS_MAX || !tellsOfMove(error, running)) throw error
      await files.clear()
    }
  }
}

/**
 * The writer has published, rolled or truncated between two looks. Beside one also damage: a frame that lands while its
 * file is read front to back looks like one behind a hole.
 */
function tellsOfMove(error: unknown, running: boolean): boolean {
  if (isDiskError(error)) return error.code === 'ENOENT'
  const code = error instanceof TidelogError ? error.code : undefined
  if (code === 'SEGMENT_MISSING' || code === 'MANIFEST_DAMAGED') return true
  return running && (code === 'LOG_DAMAGED' || code === 'FRAME_DAMAGED')
}

async function copyOnce(
  environment: Environment,
  path: string,
  out: string,
  options: BackupOptions,
  files: BackupFiles,
): Promise<BackupReport> {
  const { disk } = environment
  const writerRunning = await isWriterRunning(environment, path)
  const original = (await findManifest(disk, path, await disk.list(path)))?.content
  if (original === undefined) throw new TidelogError('MANIFEST_MISSING', `${path} has no manifest any more`)
  refuseToWrite(manifestFileName(original.generation), original)
  const upTo = options.upTo ?? (writerRunning && original.durability === 'disk' ? 'proven' : 'written')
  const found = await findSegments(environment, path, original, await disk.list(path))
  if (hasMoved(environment, path, original, found)) {
    throw new TidelogError('SEGMENT_MISSING', `a segment of ${path} was replaced while the files were listed`)
  }
  const { tail } = found
  const suffix = tail === null || upTo === 'proven' ? [] : await verifiedSuffix(environment, path, tail)
  // After the tail was read: every tick in it was given below the bound.
  const lastTick = tail?.end.lastTimeTick ?? 0n
  const skippedTo = await copyLease(environment, files, path, options.leaseDirectories ?? [], lastTick)

  const members = sharedSegments(found)
  const kept = await placeSegments(environment, path, files, members, original, found)
  const fork = await writeFork(environment, path, out, files, { original, tail, suffix, kept, upTo })
  const first = kept[0] ?? fork.tail
  const reached = kept.length < members.length ? (first?.baseLsn ?? 0) : 0
  const content: ManifestContent = {
    ...fork,
    firstLsn: Math.min(Math.max(original.firstLsn, reached), fork.nextLsn),
    firstSegment: first && { id: first.id, baseLsn: first.baseLsn },
  }
  await copySnapshots(environment, path, files, content, suffix)
  // The names before the manifest that speaks of them.
  await disk.syncDirectory(out)
  await ManifestStore.create(environment, out, content, async () => false)
  const lastLsn = (suffix.at(-1)?.nextLsn ?? tail?.proven.nextLsn ?? original.nextLsn) - 1
  return {
    path,
    out,
    logId: content.logId,
    originLogId: original.logId,
    forkLsn: content.origins.at(-1)!.forkLsn,
    firstLsn: content.firstLsn,
    lastLsn: lastLsn < content.firstLsn ? null : lastLsn,
    nextLsn: original.durability === 'os' ? Math.max(content.nextLsn, skippedTo) : content.nextLsn,
    upTo,
    writerRunning,
    segments: kept.length + (fork.tail === null ? 0 : 1),
    ...files.counts,
  }
}

/** The segments of the original that the copy has too: all of them, without a tail of which no LSN is proven. */
function sharedSegments({ entries, tail }: FoundSegments): readonly SegmentEntry[] {
  return tail === null || !isUnshared(tail) ? entries : entries.filter((entry) => entry !== tail.entry)
}

/**
 * From the newest to the oldest, since a truncation takes them away from the front: then the copy begins behind it.
 * Returns those that are there, in LSN order.
 */
async function placeSegments(
  environment: Environment,
  path: string,
  files: BackupFiles,
  members: readonly SegmentEntry[],
  original: ManifestContent,
  { entries, tail }: FoundSegments,
): Promise<readonly SegmentEntry[]> {
  const source = new SegmentFiles(environment, path, original)
  for (let index = members.length - 1; index >= 0; index--) {
    const entry = members[index]!
    try {
      // Also a tail that is not shared says where the segment before it ends.
      await placeSegment(source, files, entry, entries[index + 1] ?? null, tail?.proven)
    } catch (error) {
      const gone = error instanceof TidelogError && error.code === 'SEGMENT_MISSING'
      if (!gone || !(await isTruncatedAway(environment, path, entry))) throw error
      return members.slice(index + 1)
    }
  }
  return members
}

async function isTruncatedAway({ disk }: Environment, path: string, entry: SegmentEntry): Promise<boolean> {
  const first = (await findManifest(disk, path, await disk.list(path)))?.content.firstSegment
  return first != null && first.baseLsn > entry.baseLsn
}

function withoutSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path
}

function explained(error: unknown, out: string): unknown {
  if (!isDiskError(error)) return error
  if (error.code === 'ENOSPC') {
    return new TidelogError('DISK_FULL', `no space for the backup in ${out}: delete it, make room and begin again`, {
      retriable: true,
      cause: error,
    })
  }
  return new TidelogError('IO_FAILED', `the backup to ${out} failed: ${error.message}`, {
    file: error.path,
    cause: error,
  })
}
