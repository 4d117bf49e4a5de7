/**
 * The environment of a command that only reads files: it can be interrupted between two reads, its reads are counted
 * for progress, and every attempt to write is an error.
 */
import { type Disk, type DiskFile, type Environment, nodeEnvironment } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'

export interface ReadWatch {
  /** Reads throw ABORTED once it is aborted. */
  signal: AbortSignal
  onRead?: (bytes: number) => void
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
  return {
    ...(disk.traits ? { traits: disk.traits } : {}),
    async open(path, access) {
      check()
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
    create: refuse,
    link: refuse,
    rename: refuse,
    unlink: refuse,
    makeDirectory: refuse,
    syncDirectory: refuse,
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
