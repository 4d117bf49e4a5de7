/**
 * Opens a log: who may write is settled first (lock, then a manifest with the new pair), only then is the tail read.
 * What it costs does not grow with the log: names are listed, contents are not read. DESIGN: open, recovery, fencing.
 */
import { CacheBudget } from '../cache/frame-cache.ts'
import { makeDirectories, makeNameDurable } from '../disk/directories.ts'
import { isDiskError } from '../disk/disk.ts'
import { checkDirectoryFit } from '../disk/file-system-names.ts'
import { acquireLock, isLockName, type Lock } from '../disk/lock-file.ts'
import { nodeEnvironment } from '../disk/node-environment.ts'
import { isProbeName, probeWriteWay, type WriteWay } from '../disk/write-probe.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { manifestFileName, parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { parseSnapshotFileName } from '../format/snapshot.ts'
import { carryOver, verifiedSuffix } from '../recovery/carry-over.ts'
import { type FoundSegments, type FoundTail, findSegments, hasMoved } from '../recovery/find-tail.ts'
import { writeMissingIndexes } from '../recovery/missing-indexes.ts'
import { refuseRecovery } from '../recovery/strict.ts'
import type { TailFrame } from '../recovery/tail-scan.ts'
import { type FilePool, openFilePool, POOL_DIRECTORY } from '../segment/file-pool.ts'
import { machineBootId } from './boot-id.ts'
import { BACKUP_MARK, refuseIncompleteBackup } from './incomplete-backup.ts'
import { LEASE_FILE, LeaseFile, readLease } from './lease-file.ts'
import { Log } from './log.ts'
import { type CheckedLogOptions, checkLogOptions, FRAME_BODY_BYTES_MAX, type LogOptions } from './log-options.ts'
import { LogState } from './log-state.ts'
import { LogWriter } from './log-writer.ts'
import { findManifest, MANIFEST_SPARE, ManifestStore, readManifest, refuseToWrite } from './manifest-store.ts'
import { DEFAULT_MAX_TICK_LEAD_MS, LeasedTickOracle } from './tick-oracle.ts'
import type { WriterSettings } from './writer-start.ts'

const ALIGNMENT = 512
const QUARANTINE = 'quarantine'
/** A writer may publish while a reader lists: then it looks again. */
const READ_ATTEMPTS_MAX = 10
/** Damage beside a writer has to be there at each of so many looks. */
const DAMAGE_LOOKS_MAX = 4

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

  const bounds = (await readLease(environment, directory)) ?? { tickBound: 0n, lsnBound: 0, sameBoot: true }
  const stillOwner = (): Promise<boolean> => manifests.confirmNewest()
  const ownsTicks = options.ticks === undefined
  const needsLease = ownsTicks || content.durability === 'os'
  // After the machine went down, what was given and lost at level `os` is not known: go on above the lease.
  const isLost = content.durability === 'os' && !bounds.sameBoot
  const gapCount = isLost ? Math.max(0, bounds.lsnBound - end.nextLsn) : 0
  const lease = needsLease ? new LeaseFile(environment, directory, bounds, stillOwner, gapCount > 0) : null
  const ticks = options.ticks ?? new LeasedTickOracle(environment.clock, lease!, DEFAULT_MAX_TICK_LEAD_MS, false)
  ticks.observe(end.lastTimeTick)

  const state = new LogState(environment, directory, content, options.cache ?? new CacheBudget(checked.cacheBytes))
  state.setSegments(found.entries)
  state.setFirstLsn(content.firstLsn)
  if (tail === null) state.setDurableEnd(null, content.nextLsn)
  else {
    const { proven } = tail
    state.setDurableEnd(
      { segment: tail.entry, position: proven.position, nextLsn: proven.nextLsn, lastTimeTick: proven.lastTimeTick },
      proven.nextLsn,
    )
  }
  if (tail?.closed) {
    tail.entry.end = { position: tail.end.position, chain: tail.end.chain, nextLsn: tail.end.nextLsn }
  }
  const lateIndexes = await writeMissingIndexes(state, names, tail?.entry.end)
  const settings: WriterSettings = {
    environment,
    directory,
    pool,
    durability: content.durability,
    mode: way.mode,
    depth: way.depth,
    alignment: ALIGNMENT,
    segmentBytes: checked.segmentBytes,
    writeDeadlineMs: checked.writeDeadlineMs,
    queueBytes: checked.queueBytes,
    whenFull: checked.whenFull,
    limits: {
      recordBytesMax: checked.recordBytesMax,
      recordsMax: 65_536,
      bodyBytesMax: FRAME_BODY_BYTES_MAX,
      vchannelBytesMax: 255,
    },
  }
  const owner = { ownerTerm: content.ownerTerm, incarnation: content.incarnation }
  const writer = new LogWriter(settings, state, manifests, ticks, content.durability === 'os' ? lease : null, owner, {
    nextLsn: end.nextLsn,
    lastTimeTick: end.lastTimeTick,
    predecessor:
      tail === null
        ? null
        : {
            entry: tail.entry,
            header: tail.header,
            end: tail.proven.position,
            chain: tail.proven.chain,
            nextSegmentId: tail.nextSegmentId,
            zeroFrom: tail.zeroFrom,
          },
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
    ownsTicks,
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

/**
 * A rewritten segment that a fenced writer is about to name must not appear after the list is read, either. Who makes one
 * asks whether he is the owner when it has its temporary name, and renames it only then.
 */
async function listWithoutRivals({ disk }: Environment, directory: string): Promise<string[]> {
  const names = await disk.list(directory)
  const unnamed = names.filter((name) => name.endsWith('.seg.tmp'))
  if (unnamed.length === 0) return names
  for (const name of unnamed) await disk.unlink(`${directory}/${name}`).catch(() => {})
  await disk.syncDirectory(directory)
  return await disk.list(directory)
}

/** Publishes the new pair, which fences every older one. `names`: what the directory held a moment ago. */
async function fence(
  environment: Environment,
  directory: string,
  checked: CheckedLogOptions,
  pool: FilePool,
  names: readonly string[],
): Promise<ManifestStore> {
  const { disk } = environment
  const releaseReserve = () => pool.releaseReserve()
  let listed = names
  let found = await findManifest(disk, directory, listed).catch((error: unknown) => {
    if (!isDiskError(error, 'ENOENT')) throw error
    return null
  })
  // Nothing found, or the last owner or a rival has published since.
  if (found === null || disk.existsSync(`${directory}/${manifestFileName(found.content.generation + 1)}`)) {
    listed = await disk.list(directory)
    found = await findManifest(disk, directory, listed)
  }
  const bootId = machineBootId(environment)
  if (found === null) {
    refuseIncompleteBackup(directory, listed)
    const segment = listed.find((name) => parseSegmentFileName(name) !== null)
    if (segment !== undefined) {
      throw new TidelogError(
        'MANIFEST_MISSING',
        `${directory} has log segments (${segment}) but no manifest. Nothing was changed; restore the manifest from a backup.`,
        { file: segment },
      )
    }
    await makeNameDurable(environment.disk, directory)
    return await ManifestStore.create(environment, directory, newManifest(environment, checked, bootId), releaseReserve)
  }
  const { content, older } = found
  refuseToWrite(manifestFileName(content.generation), content)
  if (checked.ownerTerm !== undefined && checked.ownerTerm < content.ownerTerm) {
    throw new TidelogError(
      'TERM_STALE',
      `the log in ${directory} has the owner term ${content.ownerTerm}; it cannot be opened at ${checked.ownerTerm}`,
    )
  }
  if (checked.durability !== undefined && checked.durability !== content.durability) {
    throw new TidelogError(
      'INVALID_ARGUMENT',
      `the log in ${directory} has the durability "${content.durability}", which cannot be changed to "${checked.durability}"`,
    )
  }
  const manifests = new ManifestStore(environment, directory, content, releaseReserve, older)
  await manifests.publish((before) => ({
    ...before,
    ownerTerm: checked.ownerTerm ?? before.ownerTerm,
    incarnation: before.incarnation + 1,
    bootId,
  }))
  return manifests
}

function newManifest(environment: Environment, checked: CheckedLogOptions, bootId: Uint8Array): ManifestContent {
  return {
    generation: 1,
    logId: Buffer.from(environment.randomBytes(16)).toString('hex'),
    ownerTerm: checked.ownerTerm ?? 0,
    incarnation: 1,
    durability: checked.durability ?? 'disk',
    firstLsn: 0,
    firstSegment: null,
    tail: null,
    nextLsn: 0,
    lastTimeTick: 0n,
    bootId,
    retired: [],
    origins: [],
  }
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

interface RecoveredEnd {
  nextLsn: number
  lastTimeTick: bigint
}

function recoveredEnd(content: ManifestContent, found: FoundSegments, suffix: readonly TailFrame[]): RecoveredEnd {
  const { tail } = found
  if (tail === null) return { nextLsn: content.nextLsn, lastTimeTick: content.lastTimeTick }
  const last = suffix[suffix.length - 1]
  return {
    nextLsn: last?.nextLsn ?? tail.proven.nextLsn,
    // Of all valid frames, also those that are cut: a tick that was written is not given again.
    lastTimeTick: tail.end.lastTimeTick,
  }
}

/**
 * Removes what is known to be a left-over, and puts what is not known out of the way. Returns the ids of retired segments
 * that could not be removed: one that was written anew stands in the middle of the log, and has to stay retired.
 */
async function tidyDirectory(
  environment: Environment,
  directory: string,
  manifests: ManifestStore,
  found: FoundSegments,
  names: readonly string[],
): Promise<ReadonlySet<string>> {
  const { disk } = environment
  const members = new Set(found.entries.map(({ name }) => name))
  const retired = new Set(manifests.content.retired.map(({ id }) => id))
  const unwanted: string[] = []
  const strange: string[] = [...found.strays]
  for (const name of names) {
    if (members.has(name)) continue
    if (name.endsWith('.idx')) {
      if (!members.has(`${name.slice(0, -4)}.seg`)) unwanted.push(name)
      continue
    }
    if (found.strays.includes(name) || isOwnName(name)) continue
    if (name.endsWith('.tmp') || name === BACKUP_MARK) unwanted.push(name)
    else if (parseSegmentFileName(name) !== null) {
      if (retired.has(parseSegmentFileName(name)!.id)) unwanted.push(name)
      else strange.push(name)
    } else strange.push(name)
  }
  const stuck = new Set<string>()
  for (const name of unwanted) {
    await disk.unlink(`${directory}/${name}`).catch((error: unknown) => {
      const id = parseSegmentFileName(name)?.id
      if (id !== undefined && !isDiskError(error, 'ENOENT')) stuck.add(id)
    })
  }
  if (strange.length > 0) {
    await disk.makeDirectory(`${directory}/${QUARANTINE}`)
    for (const name of strange) {
      const mark = Buffer.from(environment.randomBytes(4)).toString('hex')
      await disk.rename(`${directory}/${name}`, `${directory}/${QUARANTINE}/${name}.${mark}`)
    }
    await disk.syncDirectory(`${directory}/${QUARANTINE}`)
  }
  if (unwanted.length + strange.length > 0) await disk.syncDirectory(directory)
  return stuck
}

/**
 * What the look at the directory has settled, in one generation: the retired segments are gone, and where nothing has
 * to be copied the tail ends here. So what a writer that was fenced still has under way lands beyond the end, and no
 * record comes to light of which the readers were told that none would come.
 */
async function settleManifest(
  manifests: ManifestStore,
  tail: FoundTail | null,
  suffix: readonly TailFrame[],
  end: RecoveredEnd,
  stuck: ReadonlySet<string>,
): Promise<void> {
  const { retired, tail: known } = manifests.content
  const { proven, entry } = tail ?? {}
  const isTail = entry === undefined || known?.id === entry.id
  const cuts = proven !== undefined && suffix.length === 0 && !(isTail && known?.closed === true)
  const gone = new Set(retired.flatMap(({ id }) => (stuck.has(id) ? [] : [id])))
  if (!cuts && gone.size === 0) return
  try {
    await manifests.publish((content) => {
      const rest = { ...content, retired: content.retired.filter(({ id }) => !gone.has(id)) }
      if (!cuts) return rest
      const { position, chain, nextLsn } = proven
      const closed = { id: entry!.id, baseLsn: entry!.baseLsn, syncedPosition: position, chain, closed: true }
      return { ...rest, tail: closed, nextLsn, lastTimeTick: end.lastTimeTick }
    })
  } catch (error) {
    // A full disk can be opened: the next generation says it.
    if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
  }
}

function isOwnName(name: string): boolean {
  return (
    parseManifestFileName(name) !== null ||
    parseSnapshotFileName(name) !== null ||
    name === LEASE_FILE ||
    name === MANIFEST_SPARE ||
    name === POOL_DIRECTORY ||
    name === QUARANTINE ||
    isLockName(name) ||
    isProbeName(name)
  )
}

async function chooseWriteWay(environment: Environment, pool: FilePool, checked: CheckedLogOptions): Promise<WriteWay> {
  return await probeWriteWay(environment, pool.directory, {
    override: { mode: checked.writeMode, depth: checked.writeDepth },
  })
}

async function openReadOnly(
  environment: Environment,
  directory: string,
  options: LogOptions,
  checked: CheckedLogOptions,
): Promise<Log> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await lookReadOnly(environment, directory, options, checked)
    } catch (error) {
      // The writer has published, rolled or truncated between two looks.
      const code = error instanceof TidelogError ? error.code : undefined
      const moved = isDiskError(error, 'ENOENT') || code === 'SEGMENT_MISSING' || code === 'MANIFEST_DAMAGED'
      // A tail is read piece by piece: frames that land meanwhile look like frames behind a hole.
      const looksDamaged = code === 'LOG_DAMAGED' && attempt < DAMAGE_LOOKS_MAX
      if (!looksDamaged && (!moved || attempt >= READ_ATTEMPTS_MAX)) throw error
    }
  }
}

async function lookReadOnly(
  environment: Environment,
  directory: string,
  options: LogOptions,
  checked: CheckedLogOptions,
): Promise<Log> {
  const { disk } = environment
  let names: string[]
  try {
    names = await disk.list(directory)
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
    throw new TidelogError('LOG_MISSING', `there is no log in ${directory}: the directory does not exist`, {
      cause: error,
    })
  }
  const manifest = await findManifest(disk, directory, names)
  if (manifest === null) {
    refuseIncompleteBackup(directory, names)
    const segment = names.find((name) => parseSegmentFileName(name) !== null)
    if (segment !== undefined)
      throw new TidelogError('MANIFEST_MISSING', `${directory} has log segments (${segment}) but no manifest`, {
        file: segment,
      })
    throw new TidelogError('LOG_MISSING', `there is no log in ${directory}: it has no manifest`)
  }
  const content = await readManifest(disk, directory, manifest.content.generation)
  const found = await findSegments(environment, directory, content, await disk.list(directory))
  if (hasMoved(environment, directory, content, found)) {
    throw new TidelogError('SEGMENT_MISSING', `a segment of ${directory} was replaced while the files were listed`)
  }
  const state = new LogState(environment, directory, content, options.cache ?? new CacheBudget(checked.cacheBytes))
  state.readOnly = true
  state.setSegments(found.entries)
  state.setFirstLsn(content.firstLsn)
  if (found.tail === null) state.setDurableEnd(null, content.nextLsn)
  else {
    const { entry, proven } = found.tail
    state.setDurableEnd(
      { segment: entry, position: proven.position, nextLsn: proven.nextLsn, lastTimeTick: proven.lastTimeTick },
      proven.nextLsn,
    )
  }
  return new Log({
    state,
    durability: content.durability,
    ownerTerm: content.ownerTerm,
    incarnation: content.incarnation,
    writer: null,
    manifests: null,
    ticks: null,
    ownsTicks: false,
    lease: null,
    pool: null,
    ownsPool: false,
    lock: null,
    retention: {},
    compaction: null,
    persistTicksMs: undefined,
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
