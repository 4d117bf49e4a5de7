/**
 * The mark of a backup that is being made. It is there, durably, before anything else of the copy is, and goes only
 * when the copy is whole: what an interrupted backup leaves is never taken for a log, nor for an empty directory.
 */
import { TidelogError } from '../errors.ts'

export const BACKUP_MARK = 'BACKUP.incomplete'

/** To be called where a directory has no manifest (no descriptor). Throws BACKUP_INCOMPLETE. */
export function refuseIncompleteBackup(directory: string, names: readonly string[]): void {
  if (!names.includes(BACKUP_MARK)) return
  throw new TidelogError(
    'BACKUP_INCOMPLETE',
    `${directory} holds a backup that was not finished (${BACKUP_MARK}). Nothing was changed. Delete the directory and make the backup again.`,
    { file: BACKUP_MARK },
  )
}
