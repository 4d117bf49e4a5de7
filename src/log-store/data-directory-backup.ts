/**
 * A copy of a data directory, made beside its daemon or without one: its logs first, then the catalog, so that every
 * vchannel of which a record is in the copy is in its catalog; then the lease, whose bound lies above every tick in the
 * copied logs; the descriptor last.
 */
import {
  type BackupReport,
  backupLease,
  backupLog,
  beginBackup,
  type Environment,
  finishBackup,
  isDiskError,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { copyDescriptor, readDescriptor } from './data-directory.ts'

export interface DataDirectoryBackupOptions {
  /** No hard links: every file is copied. */
  copy?: boolean | undefined
  onLog?: (directory: string) => void
}

/**
 * Copies the data directory at `path` to `out`, which must be missing or empty. Takes no lock, and writes nothing into
 * `path`. Returns one report a log, the catalog last.
 *
 * @throws TidelogError DATA_DIRECTORY_INVALID (no descriptor, or one that cannot be read), LOG_MISSING (of a pchannel
 *   although there are vchannels, or of the catalog), and what `backupLog` throws. What was begun stays in `out`, marked.
 */
export async function backupDataDirectory(
  environment: Environment,
  path: string,
  out: string,
  options: DataDirectoryBackupOptions = {},
): Promise<BackupReport[]> {
  const descriptor = await readDescriptor(environment, path)
  if (descriptor === null) throw new TidelogError('DATA_DIRECTORY_INVALID', `${path} is no data directory`)
  if (out === path || out.startsWith(`${path}/`)) {
    throw new TidelogError('INVALID_ARGUMENT', `the backup ${out} cannot lie in ${path}, which is copied`)
  }
  await beginBackup(environment, out)
  const { copy, onLog } = options
  const reports: BackupReport[] = []
  const missing: string[] = []
  for (let pchannel = 0; pchannel < descriptor.pchannels; pchannel++) {
    const directory = `${path}/pchannels/${pchannel}`
    if (!(await isThere(environment, directory))) {
      missing.push(directory)
      continue
    }
    onLog?.(directory)
    reports.push(await backupLog(environment, directory, `${out}/pchannels/${pchannel}`, { copy }))
  }
  onLog?.(`${path}/catalog`)
  // All that is whole: what is in a copied log was placed by a record that may not be proven yet.
  const catalog = await backupLog(environment, `${path}/catalog`, `${out}/catalog`, { copy, upTo: 'written' })
  reports.push(catalog)
  if (missing.length > 0 && catalog.nextLsn > 0) {
    throw new TidelogError('LOG_MISSING', `${missing[0]} is missing; "tidelog verify" says what lived there`, {
      file: missing[0],
    })
  }
  await backupLease(environment, path, out)
  await copyDescriptor(environment, path, out)
  await finishBackup(environment, out)
  return reports
}

/** A daemon that was stopped at its first start has not made all logs yet. */
async function isThere({ disk }: Environment, directory: string): Promise<boolean> {
  try {
    return (await disk.list(directory)).some((name) => /^MANIFEST-|\.seg$/.test(name))
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return false
    throw error
  }
}
