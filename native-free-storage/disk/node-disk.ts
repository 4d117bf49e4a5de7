/**
 * The disk port on `node:fs`: raw descriptors and callbacks.
 *
 * A file opened for writing uses one descriptor for each write or sync that is in flight. Linux reports a failed
 * write-back once to each open file description: if two synced writes shared one, the first to look would take the
 * error, and the write whose bytes were lost could return success and be acknowledged. With a description of its
 * own each of them sees the error. More descriptors are opened through /proc/self/fd, which also reaches a file that
 * was renamed or unlinked since; where that does not exist, or no descriptor is left, they wait for each other.
 * docs/decisions/0001 has the measurements.
 */
import fs from 'node:fs'
import { basename } from 'node:path'
import { type Disk, DiskError, type DiskFile, type DiskIdentity, type DiskSpace, type WriteSync } from './disk.ts'
import { fileSystemName } from './file-system-names.ts'

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY } = fs.constants
/** Absent on Windows, which is refused before any file is opened. */
const O_DSYNC = fs.constants.O_DSYNC ?? 0

/** One call reads or writes at most this much: Linux moves no more than 2 GiB less a page at once. */
const transferBytesMax = 1 << 30
/** With less room than this a write that was short was so for want of it. */
const scarceBytes = 64 * 1024 * 1024

function failure(cause: unknown, operation: string, path: string, bytesWritten = 0): DiskError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'EIO'
  return new DiskError(code, operation, path, { bytesWritten, cause })
}

/** Runs one callback-style call; a failure becomes a DiskError. The path of an open file is asked for when it fails. */
function call<T>(
  operation: string,
  path: string | (() => string),
  start: (done: (error: NodeJS.ErrnoException | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => {
      if (error) reject(failure(error, operation, typeof path === 'string' ? path : path()))
      else resolve(value as T)
    })
  })
}

class NodeDiskFile implements DiskFile {
  readonly path: string
  readonly #first: number
  readonly #flags: number
  /** Descriptors that no write or sync is using. */
  readonly #idle: number[]
  readonly #all: number[]
  /** Writes and syncs that wait for one of them. */
  readonly #waiting: (() => void)[] = []
  /** Where the file is now, for errors: one from the pool was renamed since it was opened. */
  readonly #pathNow = () => currentPath(this.#first, this.path)
  #canReopen: boolean
  #inFlight = 0
  #closed: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(path: string, descriptor: number, flags: number, canReopen: boolean) {
    this.path = path
    this.#first = descriptor
    this.#flags = flags
    this.#idle = [descriptor]
    this.#all = [descriptor]
    this.#canReopen = canReopen
  }

  async read(target: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    this.#enter('read')
    try {
      let done = 0
      while (done < length) {
        const part = await this.#readOnce(
          target,
          offset + done,
          Math.min(length - done, transferBytesMax),
          position + done,
        )
        if (part === 0) break
        done += part
      }
      return done
    } finally {
      this.#leave()
    }
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    return this.#exclusively('write', async (descriptor) => {
      let done = 0
      while (done < bytes.length) {
        const wanted = Math.min(bytes.length - done, transferBytesMax)
        const part = await this.#writeOnce(descriptor, bytes, done, wanted, position + done)
        done += part
        // libuv goes on after a short write by itself, and gives a short count only when an error followed, which it
        // drops. Asking for the rest brings that error back. Where each write is its own sync the dropped error may
        // have been a failed sync, and success of a second try would prove nothing.
        if (part < wanted && (this.#flags & O_DSYNC) !== 0) {
          const again = await this.#writeOnce(descriptor, bytes, done, bytes.length - done, position + done)
          throw new DiskError(droppedError(this.#pathNow()), 'write', this.#pathNow(), { bytesWritten: done + again })
        }
        if (part === 0) throw new DiskError('EIO', 'write', this.#pathNow(), { bytesWritten: done })
      }
    })
  }

  sync(): Promise<void> {
    return this.#exclusively('sync', (descriptor) =>
      call('sync', this.#pathNow, (done) => fs.fdatasync(descriptor, done)),
    )
  }

  truncate(length: number): Promise<void> {
    return this.#exclusively('truncate', (descriptor) =>
      call('truncate', this.#pathNow, (done) => fs.ftruncate(descriptor, length, done)),
    )
  }

  async size(): Promise<number> {
    this.#enter('size')
    try {
      return (await call<fs.Stats>('size', this.#pathNow, (done) => fs.fstat(this.#first, done))).size
    } finally {
      this.#leave()
    }
  }

  /** Waits for what is in flight: a descriptor's number may be given to another file as soon as it is closed. */
  close(): Promise<void> {
    this.#closed ??= this.#closeAll()
    return this.#closed
  }

  async #closeAll(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve
      })
    }
    let failed: unknown
    for (const descriptor of this.#all) {
      try {
        await call<void>('close', this.path, (done) => fs.close(descriptor, done))
      } catch (error) {
        failed ??= error
      }
    }
    if (failed !== undefined) throw failed
  }

  #enter(operation: string): void {
    if (this.#closed !== undefined) throw new DiskError('EBADF', operation, this.path)
    this.#inFlight++
  }

  #leave(): void {
    this.#inFlight--
    if (this.#inFlight === 0) this.#onIdle?.()
  }

  async #exclusively(operation: string, work: (descriptor: number) => Promise<void>): Promise<void> {
    this.#enter(operation)
    let descriptor: number | undefined
    try {
      descriptor = this.#takeDescriptor()
      while (descriptor === undefined) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve))
        descriptor = this.#idle.pop()
      }
      await work(descriptor)
    } finally {
      if (descriptor !== undefined) this.#idle.push(descriptor)
      this.#waiting.shift()?.()
      this.#leave()
    }
  }

  #takeDescriptor(): number | undefined {
    const idle = this.#idle.pop()
    if (idle !== undefined || !this.#canReopen) return idle
    try {
      // Synchronous: about 5 µs, once for each depth a file reaches.
      const descriptor = fs.openSync(`/proc/self/fd/${this.#first}`, this.#flags & ~(O_CREAT | O_EXCL))
      this.#all.push(descriptor)
      return descriptor
    } catch {
      this.#canReopen = false
      return undefined
    }
  }

  #readOnce(target: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#first, target, offset, length, position, (error, count) => {
        if (error) reject(failure(error, 'read', this.#pathNow()))
        else resolve(count)
      })
    })
  }

  #writeOnce(descriptor: number, bytes: Uint8Array, from: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(descriptor, bytes, from, length, position, (error, count) => {
        if (error) reject(failure(error, 'write', this.#pathNow(), from))
        else resolve(count)
      })
    })
  }
}

/**
 * What a short write meant whose rest was written all the same: for want of room, where there is next to none (somebody
 * else has just made some); else the worst.
 */
function droppedError(path: string): 'ENOSPC' | 'EIO' {
  try {
    const { bavail, bsize } = fs.statfsSync(path)
    return bavail * bsize < scarceBytes ? 'ENOSPC' : 'EIO'
  } catch {
    return 'EIO'
  }
}

/** The path at which it was opened where the system does not tell another. */
function currentPath(descriptor: number, openedAs: string): string {
  try {
    const found = fs.readlinkSync(`/proc/self/fd/${descriptor}`)
    // A link on the way to the same name is no rename; a file that was unlinked is told by the name that it had.
    const moved = basename(found) !== basename(openedAs) && !found.endsWith(' (deleted)')
    return moved ? found : openedAs
  } catch {
    return openedAs
  }
}

function openFile(operation: string, path: string, flags: number, canReopen: boolean): Promise<NodeDiskFile> {
  return call<number>(operation, path, (done) => fs.open(path, flags, 0o600, done)).then(
    (descriptor) => new NodeDiskFile(path, descriptor, flags, canReopen),
  )
}

function syncFlag(sync: WriteSync): number {
  return sync === 'dsync' ? O_DSYNC : 0
}

class NodeDisk implements Disk {
  readonly #canReopen: boolean
  readonly traits = {
    // libuv reads the variable once, when its pool starts, and takes 4 when it is unset; 1 to 1,024 are allowed.
    parallelOperations: Math.min(1024, Math.max(1, Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '4', 10) || 1)),
    // libuv turns fdatasync into F_FULLFSYNC on macOS; O_DSYNC there stops at the drive's own cache.
    dsyncTrusted: process.platform !== 'darwin' && O_DSYNC !== 0,
  }

  constructor(canReopen: boolean) {
    this.#canReopen = canReopen
  }

  open(path: string, access: 'read' | 'write', sync: WriteSync = 'none'): Promise<DiskFile> {
    return openFile('open', path, access === 'read' ? O_RDONLY : O_RDWR | syncFlag(sync), this.#canReopen)
  }

  create(path: string, sync: WriteSync = 'none'): Promise<DiskFile> {
    return openFile('create', path, O_RDWR | O_CREAT | O_EXCL | syncFlag(sync), this.#canReopen)
  }

  link(existing: string, name: string): Promise<void> {
    return call('link', name, (done) => fs.link(existing, name, done))
  }

  rename(from: string, to: string): Promise<void> {
    return call('rename', from, (done) => fs.rename(from, to, done))
  }

  unlink(path: string): Promise<void> {
    return call('unlink', path, (done) => fs.unlink(path, done))
  }

  list(directory: string): Promise<string[]> {
    return call('list', directory, (done) => fs.readdir(directory, done))
  }

  async makeDirectory(path: string): Promise<void> {
    try {
      await call<void>('makeDirectory', path, (done) => fs.mkdir(path, 0o700, done))
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== 'EEXIST') throw error
      const found = await call<fs.Stats>('makeDirectory', path, (done) => fs.stat(path, done))
      if (!found.isDirectory()) throw error
    }
  }

  async syncDirectory(path: string): Promise<void> {
    const descriptor = await call<number>('syncDirectory', path, (done) => fs.open(path, O_RDONLY | O_DIRECTORY, done))
    try {
      await call<void>('syncDirectory', path, (done) => fs.fsync(descriptor, done))
    } finally {
      await call<void>('syncDirectory', path, (done) => fs.close(descriptor, done))
    }
  }

  existsSync(path: string): boolean {
    // 1.0 µs when absent, the usual case, and 1.6 µs when present; fs.existsSync is no faster and takes EIO for absence,
    // accessSync costs 4.4 µs for its exception.
    try {
      return fs.statSync(path, { throwIfNoEntry: false }) !== undefined
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw failure(error, 'exists', path)
    }
  }

  async space(directory: string): Promise<DiskSpace> {
    const found = await call<fs.StatsFs>('space', directory, (done) => fs.statfs(directory, done))
    const { bsize, blocks, bfree, bavail } = found
    return { totalBytes: blocks * bsize, freeBytes: bavail * bsize, usedBytes: (blocks - bfree) * bsize }
  }

  async identify(directory: string): Promise<DiskIdentity> {
    const [system, entry] = await Promise.all([
      call<fs.StatsFs>('identify', directory, (done) => fs.statfs(directory, done)),
      call<fs.Stats>('identify', directory, (done) => fs.stat(directory, done)),
    ])
    return { fileSystem: fileSystemName(system.type), device: String(entry.dev) }
  }
}

/** `reopenFiles: false` makes the writes and syncs of one file wait for each other, as on systems without /proc. */
export function nodeDisk(options: { reopenFiles?: boolean } = {}): Disk {
  return new NodeDisk(options.reopenFiles ?? process.platform === 'linux')
}
