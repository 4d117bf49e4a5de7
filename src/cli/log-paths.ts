/** The logs that a PATH of an offline command stands for. */
import { dirname } from 'node:path'
import {
  BACKUP_MARK,
  type Environment,
  findLogs,
  isDiskError,
  refuseIncompleteBackup,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { DESCRIPTOR_FILE } from '../log-store/descriptor.ts'

/** `findLogs` goes down to a depth of 4: from here it looks at the folders of PATH and at those in them. */
const startDepth = 2

/**
 * One log's directory; or every log of a data directory, or of a folder with logs right in it, in the order of their
 * paths. Nothing further down: a wrong path shall not verify what somebody else has there. Throws LOG_MISSING,
 * BACKUP_INCOMPLETE, IO_FAILED.
 */
export async function requireLogs(environment: Environment, path: string): Promise<string[]> {
  const root = path.length > 1 ? path.replace(/(?<=.)\/+$/, '') : path
  const found = await findLogs(environment, root, startDepth)
  const logs = found.filter((log) => log === root || dirname(log) === root || dirname(log) === `${root}/pchannels`)
  const isWhole = logs.includes(root) || isThere(environment, `${root}/${DESCRIPTOR_FILE}`)
  if (!isWhole && isThere(environment, `${root}/${BACKUP_MARK}`)) refuseIncompleteBackup(root, [BACKUP_MARK])
  if (logs.length > 0) return logs
  throw new TidelogError('LOG_MISSING', `${path} is neither a log's directory nor a data directory with logs`, {
    file: path,
  })
}

/** PATH may be a file, in which nothing is. */
function isThere({ disk }: Environment, path: string): boolean {
  try {
    return disk.existsSync(path)
  } catch (error) {
    if (isDiskError(error, 'ENOTDIR')) return false
    throw error
  }
}
