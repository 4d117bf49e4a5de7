/** Taking a log over: the manifest with a new pair (owner term, incarnation) fences every older owner. */
import { makeNameDurable } from '../disk/directories.ts'
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { manifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import type { FilePool } from '../segment/file-pool.ts'
import { machineBootId } from './boot-id.ts'
import { refuseIncompleteBackup } from './incomplete-backup.ts'
import type { CheckedLogOptions } from './log-options.ts'
import { findManifest, ManifestStore, refuseToWrite } from './manifest-store.ts'

/**
 * Publishes the new pair; creates the log where there is none. `names`: what the directory held a moment ago.
 *
 * Throws MANIFEST_MISSING, BACKUP_INCOMPLETE, FORMAT_UNKNOWN, TERM_STALE, INVALID_ARGUMENT, and as `publish`.
 */
export async function fence(
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
