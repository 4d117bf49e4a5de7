/**
 * Opens a log: who may write is settled first (lock, then a manifest with the new pair), only then is the tail read.
 * What it costs does not grow with the log: names are listed, contents are not read. DESIGN: open, recovery, fencing.
 */
import { CacheBudget } from '../cache/frame-cache.ts'
import { makeDirectories } from '../disk/directories.ts'
import { isDiskError } from '../disk/disk.ts'
import { checkDirectoryFit } from '../disk/file-system-names.ts'
import { acquireLock, type Lock } from '../disk/lock-file.ts'
import { nodeEnvironment } from '../disk/node-environment.ts'
import { probeWriteWay, type WriteWay } from '../disk/write-probe.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { carryOver, verifiedSuffix } from '../recovery/carry-over.ts'
import { type FoundTail, findSegments } from '../recovery/find-tail.ts'
import { writeMissingIndexes } from '../recovery/missing-indexes.ts'
import { refuseRecovery } from '../recovery/strict.ts'
import { type FilePool, openFilePool } from '../segment/file-pool.ts'
import { fence } from './fence.ts'
import { LeaseFile, readLease } from './lease-file.ts'
import { Log } from './log.ts'
import { type CheckedLogOptions, checkLogOptions, FRAME_BODY_BYTES_MAX, type LogOptions } from './log-options.ts'
import { LogWriter } from './log-writer.ts'
import { findManifest, type ManifestStore } from './manifest-store.ts'
import { openReadOnly } from './open-read-only.ts'
import { stateOf } from './recovered-state.ts'
import { type RecoveredEnd, recoveredEnd, settleManifest } from './settle-manifest.ts'
import { DEFAULT_MAX_TICK_LEAD_MS, LeasedTickOracle, type TickOracle } from './tick-oracle.ts'
import { listWithoutRivals, tidyDirectory } from './tidy-directory.ts'
import type { Predecessor, WriterSettings } from './writer-start.ts'

const ALIGNMENT = 512

/**
 * Opens the log in `directory`, which is created when it is missing.
 *
 * Errors: LOCKED (another process has it), FENCED, TERM_STALE, LOG_DAMAGED, MANIFEST_DAMAGED, MANIFEST_MISSING,
 * SEGMENT_MISSING, FORMAT_UNKNOWN, DIRECTORY_UNFIT, PLATFORM_UNSUPPORTED, DISK_FULL (retriable), IO_FAILED,
 * INVALID_ARGUMENT, BACKUP_INCOMPLETE, RECOVERY_REFUSED (`recovery: strict`); LOG_MISSING when it is opened read-only and there is none.
 */
export async function openLog(directory: string, options: LogOptions = {}): Promise<Log> {
  const checked = checkLogOptions(options)
  await loadChecksum()
  const environment = options.environment ?? nodeEnvironment()
  const path = directory.length > 1 ? directory.replace(/\/+$/, '') : directory
  try {
    if (options.readOnly === true) return await openReadOnly(environment, path, options, checked)
    return await openForWriting(environment, path, options, checked)
  } catch (error) {
    throw explained(error, path)
  }
}

async function openForWriting(
  environment: Environment,
  directory: string,
  options: LogOptions,
  checked: CheckedLogOptions,
): Promise<Log> {
  await makeDirectories(environment.disk, directory)
  await checkDirectoryFit(environment.disk, directory)
  const lock = await acquireLock(environment, directory)
  let pool: FilePool | null = null
  try {
    if (checked.recovery === 'strict') await demandWhole(environment, directory)
    pool = options.pool ?? (await openFilePool(environment, directory))
    const way = options.writeWay ?? (await chooseWriteWay(environment, pool, checked))
    return await openLocked(environment, directory, options, checked, lock, pool, way)
  } catch (error) {
    if (options.pool === undefined) await pool?.close().catch(() => {})
    await lock.release().catch(() => {})
    throw error
  }
}

async function openLocked(
  environment: Environment,
  directory: string,
  options: LogOptions,
  checked: CheckedLogOptions,
  lock: Lock,
  pool: FilePool,
  way: WriteWay,
): Promise<Log> {
  const { disk } = environment
  const manifests = await fence(environment, directory, checked, pool, lock.takeNames())
  // A file that its fenced writer is about to name must not appear after the list is read.
  await pool.dropForeign()
  // Only now is the tail read: whoever had the log before can acknowledge nothing that is not in it.
  const names = await listWithoutRivals(environment, directory)
  // A name that a former process made may not be durable yet.
  await disk.syncDirectory(directory)
  const found = await findSegments(environment, directory, manifests.content, names)
  // Again: whoever had the log may have gone on until he was fenced.
  if (checked.recovery === 'strict' && found.tail !== null) refuseRecovery(found.tail)
  const stuck = await tidyDirectory(environment, directory, manifests, found, names)

  const { tail } = found
  const suffix = tail === null ? [] : await verifiedSuffix(environment, directory, tail)
  const end = recoveredEnd(manifests.content, found, suffix)
  await settleManifest(manifests, tail, suffix, end, stuck)
  await manifests.prepareSpare()
  const { content } = manifests

  const { lease, ticks, gapCount } = await resumeLease(environment, directory, manifests, end, options.ticks)
  const state = stateOf(environment, directory, content, found, options.cache ?? new CacheBudget(checked.cacheBytes))
  if (tail?.closed) {
    tail.entry.end = { position: tail.end.position, chain: tail.end.chain, nextLsn: tail.end.nextLsn }
  }
  const lateIndexes = await writeMissingIndexes(state, names, tail?.entry.end)
  const settings = settingsOf(environment, directory, pool, way, checked, content)
  const owner = { ownerTerm: content.ownerTerm, incarnation: content.incarnation }
  const writer = new LogWriter(settings, state, manifests, ticks, content.durability === 'os' ? lease : null, owner, {
    nextLsn: end.nextLsn,
    lastTimeTick: end.lastTimeTick,
    predecessor: tail === null ? null : predecessorOf(tail),
    firstUnprovenTick: suffix[0]?.header.baseTimeTick ?? null,
    carryOver: suffix.length === 0 ? null : () => carryOver({ ...settings }, manifests, owner, tail!, suffix),
    gapCount,
    lateIndexes,
  })
  const log = new Log({
    state,
    durability: content.durability,
    ownerTerm: owner.ownerTerm,
    incarnation: owner.incarnation,
    writer,
    manifests,
    ticks,
    ownsTicks: options.ticks === undefined,
    lease,
    pool,
    ownsPool: options.pool === undefined,
    lock,
    retention: checked.retention,
    compaction: checked.compaction,
    persistTicksMs: checked.persistTicksMs,
  })
  try {
    await writer.recovered()
  } catch (error) {
    await log.close().catch(() => {})
    throw error
  }
  return log
}

/** Ticks and LSNs go on above everything that the owners before may have given. `shared`: the ticks, where they are not the log's own. */
async function resumeLease(
  environment: Environment,
  directory: string,
  manifests: ManifestStore,
  end: RecoveredEnd,
  shared: TickOracle | undefined,
): Promise<{ lease: LeaseFile | null; ticks: TickOracle; gapCount: number }> {
  const { durability } = manifests.content
  const bounds = (await readLease(environment, directory)) ?? { tickBound: 0n, lsnBound: 0, sameBoot: true }
  const stillOwner = (): Promise<boolean> => manifests.confirmNewest()
  const needsLease = shared === undefined || durability === 'os'
  // After the machine went down, what was given and lost at level `os` is not known: go on above the lease.
  const isLost = durability === 'os' && !bounds.sameBoot
  const gapCount = isLost ? Math.max(0, bounds.lsnBound - end.nextLsn) : 0
  const lease = needsLease ? new LeaseFile(environment, directory, bounds, stillOwner, gapCount > 0) : null
  const ticks = shared ?? new LeasedTickOracle(environment.clock, lease!, DEFAULT_MAX_TICK_LEAD_MS, false)
  ticks.observe(end.lastTimeTick)
  return { lease, ticks, gapCount }
}

function settingsOf(
  environment: Environment,
  directory: string,
  pool: FilePool,
  { mode, depth }: WriteWay,
  checked: CheckedLogOptions,
  { durability }: ManifestContent,
): WriterSettings {
  const { segmentBytes, writeDeadlineMs, queueBytes, whenFull, recordBytesMax } = checked
  return {
    environment,
    directory,
    pool,
    durability,
    mode,
    depth,
    alignment: ALIGNMENT,
    segmentBytes,
    writeDeadlineMs,
    queueBytes,
    whenFull,
    limits: { recordBytesMax, recordsMax: 65_536, bodyBytesMax: FRAME_BODY_BYTES_MAX, vchannelBytesMax: 255 },
  }
}

function predecessorOf({ entry, header, proven, nextSegmentId, zeroFrom }: FoundTail): Predecessor {
  return { entry, header, end: proven.position, chain: proven.chain, nextSegmentId, zeroFrom }
}

/**
 * `recovery: strict`: the tail is judged before anything is published, so that a refusal leaves the log as it was. This
 * look decides nothing else: the opening reads the tail once more when the owners before it are fenced.
 */
async function demandWhole(environment: Environment, directory: string): Promise<void> {
  const names = await environment.disk.list(directory)
  const manifest = (await findManifest(environment.disk, directory, names))?.content
  if (manifest === undefined) return
  const { tail } = await findSegments(environment, directory, manifest, names)
  if (tail !== null) refuseRecovery(tail)
}

async function chooseWriteWay(environment: Environment, pool: FilePool, checked: CheckedLogOptions): Promise<WriteWay> {
  return await probeWriteWay(environment, pool.directory, {
    override: { mode: checked.writeMode, depth: checked.writeDepth },
  })
}

function explained(error: unknown, directory: string): unknown {
  if (!isDiskError(error)) return error
  if (error.code === 'ENOSPC') {
    return new TidelogError('DISK_FULL', `no space to open the log in ${directory}; make room and open it again`, {
      retriable: true,
      cause: error,
    })
  }
  return new TidelogError('IO_FAILED', `the log in ${directory} could not be opened: ${error.message}`, {
    file: error.path,
    cause: error,
  })
}
