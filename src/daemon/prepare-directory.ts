/** The data directory before it is opened, and its mode. Paths and modes are the daemon's; the rest is the log store's. */
import { chmod, lstat, mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { TidelogError } from '../errors.ts'
import type { Logger } from '../observability/logger.ts'

const MODE = 0o700
const OTHERS = 0o077

/** Makes the directory, for its owner alone, and what is missing above it. @throws TidelogError IO_FAILED, DATA_DIRECTORY_INVALID. */
export async function makeDataDirectory(path: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await mkdir(path, { mode: MODE })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code !== 'EEXIST') throw new TidelogError('IO_FAILED', `${path} cannot be created (${code})`, { cause })
  }
  const found = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new TidelogError('IO_FAILED', `${path} cannot be looked at (${cause.code})`, { cause })
  })
  // A link to a directory is somebody's wish; a link to nothing, a file or a socket are not.
  if (!found.isDirectory() && !found.isSymbolicLink()) {
    throw new TidelogError('DATA_DIRECTORY_INVALID', `${path} exists and is no directory. Nothing was changed.`)
  }
}

/** Of a directory that is known to be ours: takes away what others may do in it. */
export async function closeToOthers(path: string, logger: Logger): Promise<void> {
  const found = await lstat(path)
  if (found.isSymbolicLink() || (found.mode & OTHERS) === 0) return
  try {
    await chmod(path, MODE)
    logger.warn('the data directory was open to others; its mode is 0700 now', { data: path })
  } catch (error) {
    logger.warn('the data directory is open to others, and its mode cannot be changed', { data: path, error })
  }
}
