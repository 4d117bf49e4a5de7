/** What an owner finds in the directory of its log besides the log: left-overs of former owners, and what nobody knows. */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import { parseSnapshotFileName } from '../format/snapshot.ts'
import type { FoundSegments } from '../recovery/find-tail.ts'
import { isCompanionName, QUARANTINE } from './companion-names.ts'
import { BACKUP_MARK } from './incomplete-backup.ts'
import type { ManifestStore } from './manifest-store.ts'

/**
 * A rewritten segment that a fenced writer is about to name must not appear after the list is read, either. Who makes one
 * asks whether he is the owner when it has its temporary name, and renames it only then.
 */
export async function listWithoutRivals({ disk }: Environment, directory: string): Promise<string[]> {
  const names = await disk.list(directory)
  const unnamed = names.filter((name) => name.endsWith('.seg.tmp'))
  if (unnamed.length === 0) return names
  for (const name of unnamed) await disk.unlink(`${directory}/${name}`).catch(() => {})
  await disk.syncDirectory(directory)
  return await disk.list(directory)
}

/**
 * Removes what is known to be a left-over, and puts what is not known out of the way. Returns the ids of retired segments
 * that could not be removed: one that was written anew stands in the middle of the log, and has to stay retired.
 */
export async function tidyDirectory(
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
    if (found.strays.includes(name) || isExpected(name)) continue
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

function isExpected(name: string): boolean {
  return parseManifestFileName(name) !== null || parseSnapshotFileName(name) !== null || isCompanionName(name)
}
