/**
 * Puts back what the last repair took out: the directory is as it was before, byte for byte, damage included. Only as long
 * as nothing was written to the log since.
 *
 * The steps are those of the repair backwards: the originals get their names back while the manifest of the repair still
 * retires them; then the old manifest is published once more, one generation higher, and retires what the repair made,
 * which is the moment at which the log changes; then what was made is removed, and the newer manifests; the journal goes
 * last. Without a valid old manifest the log changes when the newer ones go, the highest first; what was made goes after
 * that, the last segment first, so that what is left of it always begins where the log does. Undone again after a crash,
 * it finishes.
 */
import { isDiskError } from '../disk/disk.ts'
import { acquireLock } from '../disk/lock-file.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import { type ManifestContent, RETIRED_SEGMENTS_MAX } from '../format/manifest.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import { ManifestStore, readManifest } from '../log/manifest-store.ts'
import { isLogDirectory, isWriterRunning, namesIn } from './log-survey.ts'
import { journalName, type RepairJournal, readLastJournal } from './repair-journal.ts'

export interface UndoReport {
  /** The log's directory. */
  path: string
  applied: boolean
  /** When the run of repairs began of which it is, milliseconds since 1970: the same for all logs of one run. */
  runMs: number
  /** Files that are put back. */
  restored: string[]
  /** Files that the repair made, which are removed. */
  removed: string[]
}

/**
 * Undoes the last repair of the log in `directory`, or says what it would do.
 *
 * Errors: UNDO_REFUSED (nothing was repaired, or the log was written to since), LOCKED, LOG_MISSING, DISK_FULL, IO_FAILED.
 */
export async function undoRepair(
  environment: Environment,
  directory: string,
  { apply }: { apply: boolean },
): Promise<UndoReport> {
  await loadChecksum()
  const names = await namesIn(environment, directory)
  if (names === null || !(isLogDirectory(names) || names.includes(QUARANTINE))) {
    throw new TidelogError('LOG_MISSING', `${directory} holds no log`, { file: directory })
  }
  if (!apply) {
    if (await isWriterRunning(environment, directory)) throw locked(directory)
    return (await lookForUndo(environment, directory)).report
  }
  const lock = await acquireLock(environment, directory)
  try {
    const { report, journal } = await lookForUndo(environment, directory)
    await putBack(environment, directory, journal)
    return { ...report, applied: true }
  } finally {
    await lock.release()
  }
}

async function lookForUndo(
  environment: Environment,
  directory: string,
): Promise<{ journal: RepairJournal; report: UndoReport }> {
  const { journal, numbers } = await readLastJournal(environment, directory)
  if (journal === null) {
    const last = numbers.at(-1)
    const why = last === undefined ? 'it was never repaired' : `${QUARANTINE}/${journalName(last)} is damaged`
    throw refused(directory, why)
  }
  const names = (await namesIn(environment, directory)) ?? []
  await mustBeUnchanged(environment, directory, journal, names)
  const present = new Set(names)
  const report = {
    path: directory,
    applied: false,
    runMs: journal.runMs,
    restored: journal.moved.map(({ name }) => name),
    removed: journal.made.filter((name) => present.has(name)),
  }
  return { journal, report }
}

/** Refuses when the log is neither what the repair left nor what it found. */
async function mustBeUnchanged(
  environment: Environment,
  directory: string,
  journal: RepairJournal,
  names: readonly string[],
): Promise<void> {
  const { before, after, moved, made, stays } = journal
  const kept = new Set((await namesIn(environment, `${directory}/${QUARANTINE}`)) ?? [])
  const present = new Set(names)
  const lacking = moved.find((file) => !kept.has(file.kept) && !present.has(file.name))
  if (lacking !== undefined) throw refused(directory, `${QUARANTINE}/${lacking.kept} is not there any more`)
  const generation = Math.max(-1, ...names.map((name) => parseManifestFileName(name) ?? -1))
  if (generation < 0) return
  const isOriginal = moved.some(({ name }) => parseManifestFileName(name) === generation)
  if (isOriginal) return
  let content: Awaited<ReturnType<typeof readManifest>>
  try {
    content = await readManifest(environment.disk, directory, generation)
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
    throw refused(directory, `its newest manifest is damaged: ${error.message}`)
  }
  const tailId = content.tail?.id ?? null
  const isSame = [before, after].some((end) => end.tailId === tailId && content.firstLsn === end.firstLsn)
  if (!isSame || content.nextLsn > Math.max(before.nextLsn, after.nextLsn)) {
    throw refused(directory, 'records were appended or truncated since, or another opening has recovered it')
  }
  // A segment that the manifest does not name yet.
  const known = new Set([...made, ...stays, ...moved.map(({ name }) => name)])
  const retired = new Set(content.retired.map(({ id }) => id))
  const behind = names.find((name) => {
    const parsed = parseSegmentFileName(name)
    return parsed !== null && !known.has(name) && !retired.has(parsed.id)
  })
  if (behind !== undefined) throw refused(directory, `${behind} was begun since`)
}

async function putBack(environment: Environment, directory: string, journal: RepairJournal): Promise<void> {
  const { disk } = environment
  const { moved, made, publishes } = journal
  const quarantine = `${directory}/${QUARANTINE}`
  for (const { name, kept } of moved) {
    if (parseManifestFileName(name) === null) await restore(environment, directory, name, `${quarantine}/${kept}`)
  }
  await disk.syncDirectory(directory)
  const manifests = moved.filter(({ name }) => parseManifestFileName(name) !== null)
  const originals = new Set(manifests.map(({ name }) => name))
  if (publishes) {
    for (const { name, kept } of manifests) await restore(environment, directory, name, `${quarantine}/${kept}`)
    await disk.syncDirectory(directory)
  }
  const areRetired = publishes && (await retireMade(environment, directory, journal, originals))
  if (publishes && !areRetired) await removeNewerManifests(environment, directory, originals)
  const replaced = new Set(moved.map(({ name }) => name))
  for (const name of [...made].reverse()) {
    if (replaced.has(name)) continue
    await unlinkIfThere(environment, `${directory}/${name}`)
    // After power was lost the earlier ones are there as well, whenever a later one is.
    if (!areRetired && parseSegmentFileName(name) !== null) await disk.syncDirectory(directory)
  }
  await disk.syncDirectory(directory)
  if (areRetired) await removeNewerManifests(environment, directory, originals)
  for (const { kept } of moved) await unlinkIfThere(environment, `${quarantine}/${kept}`)
  await disk.syncDirectory(quarantine)
  await unlinkIfThere(environment, `${quarantine}/${journalName(journal.number)}`)
  await disk.syncDirectory(quarantine)
}

/**
 * Publishes what the newest of the original manifests says, above that of the repair, with the segments of the repair
 * retired: a part of them would be taken for a log of which the rest is missing. False: there is no such manifest, or
 * the newer ones are gone already.
 */
async function retireMade(
  environment: Environment,
  directory: string,
  { made, before }: RepairJournal,
  originals: ReadonlySet<string>,
): Promise<boolean> {
  const generations = (await environment.disk.list(directory)).flatMap((name) => parseManifestFileName(name) ?? [])
  const highest = Math.max(...generations)
  const original = Math.max(...[...originals].flatMap((name) => parseManifestFileName(name) ?? []))
  if (!Number.isSafeInteger(original) || highest <= original) return false
  let content: ManifestContent
  try {
    content = await readManifest(environment.disk, directory, original)
  } catch (error) {
    if (!(error instanceof TidelogError) || error.code !== 'MANIFEST_DAMAGED') throw error
    return false
  }
  // By this an undo that is done again knows it.
  if ((content.tail?.id ?? null) !== before.tailId || content.firstLsn !== before.firstLsn) return false
  const segments = made.flatMap((name) => parseSegmentFileName(name) ?? [])
  const retired = [...segments.map(({ id, baseLsn }) => ({ id, baseLsn })), ...content.retired]
  const store = new ManifestStore(environment, directory, { ...content, generation: highest }, async () => false)
  await store.publish((last) => ({ ...last, retired: retired.slice(0, RETIRED_SEGMENTS_MAX) }))
  return true
}

/** The highest first. */
async function removeNewerManifests(
  environment: Environment,
  directory: string,
  originals: ReadonlySet<string>,
): Promise<void> {
  const { disk } = environment
  const newer = (await disk.list(directory))
    .filter((name) => parseManifestFileName(name) !== null && !originals.has(name))
    .sort()
    .reverse()
  for (const name of newer) await unlinkIfThere(environment, `${directory}/${name}`)
  await disk.syncDirectory(directory)
}

/** The name leads to what quarantine/ keeps, whatever it led to. */
async function restore(environment: Environment, directory: string, name: string, kept: string): Promise<void> {
  const { disk } = environment
  const path = `${directory}/${name}`
  // An earlier try got that far.
  if (!disk.existsSync(kept)) return
  const temporary = `${path}.tmp`
  await unlinkIfThere(environment, temporary)
  await disk.link(kept, temporary)
  await disk.rename(temporary, path)
  // Where both led to the same file, the rename has changed nothing.
  await unlinkIfThere(environment, temporary)
}

async function unlinkIfThere(environment: Environment, path: string): Promise<void> {
  try {
    await environment.disk.unlink(path)
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
  }
}

function refused(directory: string, why: string): TidelogError {
  return new TidelogError('UNDO_REFUSED', `the repair of ${directory} cannot be undone: ${why}. Nothing was changed.`, {
    file: directory,
  })
}

function locked(directory: string): TidelogError {
  const message = `a process has ${directory} open for writing: end it first. Nothing was changed.`
  return new TidelogError('LOCKED', message, { file: 'LOCK', retriable: true })
}
