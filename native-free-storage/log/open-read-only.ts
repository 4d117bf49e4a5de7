/** Opens a log to read what is there, also beside its writer: nothing is locked, nothing changed. */
import { CacheBudget } from '../cache/frame-cache.ts'
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { parseSegmentFileName } from '../format/file-names.ts'
import { findSegments, hasMoved } from '../recovery/find-tail.ts'
import { refuseIncompleteBackup } from './incomplete-backup.ts'
import { Log } from './log.ts'
import type { CheckedLogOptions, LogOptions } from './log-options.ts'
import { findManifest, readManifest } from './manifest-store.ts'
import { stateOf } from './recovered-state.ts'

/** A writer may publish while a reader lists: then it looks again. */
const READ_ATTEMPTS_MAX = 10
/** Damage beside a writer has to be there at each of so many looks. */
const DAMAGE_LOOKS_MAX = 4

/** Throws LOG_MISSING, MANIFEST_MISSING, BACKUP_INCOMPLETE, SEGMENT_MISSING, LOG_DAMAGED, MANIFEST_DAMAGED, FORMAT_UNKNOWN. */
export async function openReadOnly(
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
  const state = stateOf(environment, directory, content, found, options.cache ?? new CacheBudget(checked.cacheBytes))
  state.readOnly = true
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
