/**
 * The environment of a command that only reads files, or reads them and writes below one directory: it can be interrupted
 * between two operations, its reads are counted for progress, and every other attempt to write is an error.
 */
import { type Disk, type DiskFile, type Environment, nodeEnvironment } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'

export interface ReadWatch {
  /** Reads throw ABORTED once it is aborted. */
  signal: AbortSignal
  onRead?: (bytes: number) => void
  /** Absolute path of the one directory that may be made and written to; without it nothing is. */
  writeBelow?: string
}

export function watchedEnvironment(watch: ReadWatch, base: Environment = nodeEnvironment()): Environment {
  return { ...base, disk: watchedDisk(base.disk, watch) }
}

function watchedDisk(disk: Disk, watch: ReadWatch): Disk {
  const check = () => {
    if (watch.signal.aborted) throw new TidelogError('ABORTED', 'interrupted', { cause: watch.signal.reason })
  }
  const refuse = async (): Promise<never> => {
    throw new TidelogError('READ_ONLY', 'a command that reads was about to write: nothing was changed')
  }
  const { writeBelow } = watch
  const mayWrite = (path: string): boolean => {
    check()
    return writeBelow !== undefined && path.startsWith(`${writeBelow}/`)
  }
  // The directory itself, and those above it that are missing.
  const mayMake = (path: string): boolean =>
    mayWrite(path) || path === writeBelow || (writeBelow?.startsWith(path === '/' ? path : `${path}/`) ?? false)
  return {
    ...(disk.traits ? { traits: disk.traits } : {}),
    async open(path, access) {
      check()
      if (access === 'write' && mayWrite(path)) return disk.open(path, 'write')
      if (access !== 'read') return refuse()
      return watchedFile(await disk.open(path, 'read'), watch, check, refuse)
    },
    async list(directory) {
      check()
      return disk.list(directory)
    },
    existsSync: (path) => disk.existsSync(path),
    space: (directory) => disk.space(directory),
    identify: (directory) => disk.identify(directory),
    create: (path, sync) => (mayWrite(path) ? disk.create(path, sync) : refuse()),
    link: (existing, name) => (mayWrite(name) ? disk.link(existing, name) : refuse()),
    rename: (from, to) => (mayWrite(from) && mayWrite(to) ? disk.rename(from, to) : refuse()),
    unlink: (path) => (mayWrite(path) ? disk.unlink(path) : refuse()),
    makeDirectory: (path) => (mayMake(path) ? disk.makeDirectory(path) : refuse()),
    syncDirectory: (path) => (mayMake(path) ? disk.syncDirectory(path) : refuse()),
  }
}

function watchedFile(file: DiskFile, watch: ReadWatch, check: () => void, refuse: () => Promise<never>): DiskFile {
  return {
    path: file.path,
    async read(target, offset, length, position) {
      check()
      const bytes = await file.read(target, offset, length, position)
      watch.onRead?.(bytes)
      return bytes
    },
    size: () => file.size(),
    close: () => file.close(),
    write: refuse,
    sync: refuse,
    truncate: refuse,
  }
}
