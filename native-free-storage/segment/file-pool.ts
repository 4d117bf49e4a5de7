/**
 * Files prepared in the background, zero-filled and synced, so that a commit in them changes no file metadata. One pool
 * serves all logs of a data directory. Nothing is prepared before somebody asks; a writer that finds the pool empty
 * goes on without it. Nothing rests on the zeros but speed.
 *
 * While a writer has more to write than the disk takes at once, preparing waits: zeros would take half of the disk from
 * it, and several synced writes in a file that grows are faster than filling the file first.
 *
 * It also holds the reserve: room for one small segment and a manifest, given up when the disk is full so that a log
 * can still be cut, truncated and closed.
 */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'

export const POOL_DIRECTORY = 'pool'
const FILL_WRITE_BYTES = 1024 * 1024
const FILL_SYNC_BYTES = 8 * 1024 * 1024
const RESERVE_FILE = 'reserve'
const RESERVE_BYTES = 1024 * 1024 + 64 * 1024
export const DEFAULT_PREPARED_BYTES = 256 * 1024 * 1024

export interface PreparedFile {
  /** In the pool's directory: the taker renames it to its place. */
  path: string
  bytes: number
}

export interface FilePoolOptions {
  /** Bound of the bytes that lie prepared. */
  preparedBytesMax?: number
}

export interface FilePoolStatistics {
  preparedFiles: number
  preparedBytes: number
  /** Takes that found nothing. */
  misses: number
}

/** Opens (and empties) the pool in `directory`, which must exist. */
export async function openFilePool(
  environment: Environment,
  directory: string,
  options: FilePoolOptions = {},
): Promise<FilePool> {
  const { disk } = environment
  const path = `${directory}/${POOL_DIRECTORY}`
  await disk.makeDirectory(path)
  let reserved = false
  for (const name of await disk.list(path)) if (name === RESERVE_FILE) reserved = true
  const pool = new FilePool(environment, path, options.preparedBytesMax ?? DEFAULT_PREPARED_BYTES, reserved)
  await pool.dropForeign()
  return pool
}

export class FilePool {
  readonly directory: string
  readonly #environment: Environment
  readonly #preparedBytesMax: number
  readonly #ready = new Map<number, string[]>()
  #readyBytes = 0
  /** Wanted sizes with their counts; the newest wish of each size counts. */
  readonly #wanted = new Map<number, number>()
  #filling: Promise<void> | null = null
  #reserved: boolean
  #closed = false
  #misses = 0
  /** Begins the names of this pool's files. */
  readonly #mark: string
  /** Writers that keep the disk busy by themselves. */
  readonly #busy = new Set<object>()
  #whenCalm: (() => void) | null = null

  constructor(environment: Environment, directory: string, preparedBytesMax: number, reserved: boolean) {
    this.directory = directory
    this.#environment = environment
    this.#preparedBytesMax = preparedBytesMax
    this.#reserved = reserved
    this.#mark = Buffer.from(environment.randomBytes(4)).toString('hex')
  }

  /**
   * Removes what other processes prepared. It is dropped, not used: after a crash between the two directories of a
   * rename, one file could stand in the pool and in a log. And a writer that was fenced, but is stuck between its look
   * at the manifest and the rename, finds its file gone: so it is called again after each fence.
   */
  async dropForeign(): Promise<void> {
    const { disk } = this.#environment
    for (const name of await disk.list(this.directory)) {
      if (!/\.(prep|new|filling)$/.test(name) || name.startsWith(this.#mark)) continue
      await disk.unlink(`${this.directory}/${name}`).catch((error: unknown) => {
        if (!isDiskError(error, 'ENOENT')) throw error
      })
    }
  }

  /** A prepared file of exactly `bytes`, or null. */
  take(bytes: number): PreparedFile | null {
    const path = this.#ready.get(bytes)?.shift()
    if (path === undefined) {
      this.#misses++
      return null
    }
    this.#readyBytes -= bytes
    return { path, bytes }
  }

  /** A name for a file that grows in the pool's directory until it is renamed to its place. */
  freshPath(): string {
    return `${this.directory}/${this.#nonce()}.new`
  }

  /** Asks that `count` files of `bytes` lie ready; bounded by the pool's bytes. A wish for less than before is kept. */
  want(bytes: number, count: number): void {
    if (this.#closed) return
    this.#wanted.set(bytes, Math.max(count, this.#wanted.get(bytes) ?? 0))
    this.#fill()
  }

  /** No log wants this size any more (they have grown past it). */
  unwant(bytes: number): void {
    this.#wanted.delete(bytes)
  }

  /** A writer says whether it keeps the disk busy: then preparing waits. */
  setBusy(writer: object, busy: boolean): void {
    if (busy) this.#busy.add(writer)
    else if (this.#busy.delete(writer) && this.#busy.size === 0) this.#resume()
  }

  /** Gives up the reserve: true when that freed space. It comes back by itself with the next file that is prepared. */
  async releaseReserve(): Promise<boolean> {
    if (!this.#reserved) return false
    this.#reserved = false
    await this.#environment.disk.unlink(`${this.directory}/${RESERVE_FILE}`)
    return true
  }

  /** Settles when nothing is being prepared: for tests and benchmarks. */
  async settled(): Promise<void> {
    while (this.#filling !== null) await this.#filling
  }

  statistics(): FilePoolStatistics {
    let preparedFiles = 0
    for (const paths of this.#ready.values()) preparedFiles += paths.length
    return { preparedFiles, preparedBytes: this.#readyBytes, misses: this.#misses }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#resume()
    await this.#filling
    for (const paths of this.#ready.values()) {
      for (const path of paths) await this.#environment.disk.unlink(path).catch(() => {})
    }
    this.#ready.clear()
    this.#readyBytes = 0
  }

  #fill(): void {
    if (this.#filling !== null || this.#closed) return
    this.#filling = this.#fillWanted().finally(() => {
      this.#filling = null
    })
  }

  async #fillWanted(): Promise<void> {
    try {
      await this.#keepReserve()
      for (let bytes = this.#nextToFill(); bytes !== null; bytes = this.#nextToFill()) {
        const path = await this.#prepare(bytes)
        if (path === null) return
        const paths = this.#ready.get(bytes)
        if (paths === undefined) this.#ready.set(bytes, [path])
        else paths.push(path)
        this.#readyBytes += bytes
      }
    } catch {
      // Preparing is a service to speed. What is wrong with the disk, the writer meets itself and tells.
      this.#wanted.clear()
    }
  }

  #nextToFill(): number | null {
    if (this.#closed) return null
    for (const [bytes, count] of this.#wanted) {
      const have = this.#ready.get(bytes)?.length ?? 0
      if (have < count && this.#readyBytes + bytes <= this.#preparedBytesMax) return bytes
    }
    return null
  }

  async #prepare(bytes: number): Promise<string | null> {
    const path = `${this.directory}/${this.#nonce()}.filling`
    const done = `${path.slice(0, -'.filling'.length)}.prep`
    const file = await this.#environment.disk.create(path, 'none')
    try {
      await fillWithZeros(file, bytes, () => this.#mayFill())
      await file.close()
      if (this.#closed) {
        await this.#environment.disk.unlink(path)
        return null
      }
      await this.#environment.disk.rename(path, done)
      return done
    } catch (error) {
      await file.close().catch(() => {})
      await this.#environment.disk.unlink(path).catch(() => {})
      throw error
    }
  }

  async #keepReserve(): Promise<void> {
    if (this.#reserved || this.#closed) return
    const path = `${this.directory}/${RESERVE_FILE}`
    let file: DiskFile
    try {
      file = await this.#environment.disk.create(path, 'none')
    } catch (error) {
      if (isDiskError(error, 'EEXIST')) {
        this.#reserved = true
        return
      }
      throw error
    }
    try {
      await fillWithZeros(file, RESERVE_BYTES, () => true)
      this.#reserved = true
    } catch (error) {
      await this.#environment.disk.unlink(path).catch(() => {})
      throw error
    } finally {
      await file.close()
    }
  }

  #resume(): void {
    this.#whenCalm?.()
    this.#whenCalm = null
  }

  /** False: the pool is closed. Else true, as soon as no writer keeps the disk busy. */
  #mayFill(): boolean | Promise<boolean> {
    if (this.#closed || this.#busy.size === 0) return !this.#closed
    return new Promise<void>((resolve) => {
      this.#whenCalm = resolve
    }).then(() => this.#mayFill())
  }

  #nonce(): string {
    return this.#mark + Buffer.from(this.#environment.randomBytes(8)).toString('hex')
  }
}

async function fillWithZeros(file: DiskFile, bytes: number, goOn: () => boolean | Promise<boolean>): Promise<void> {
  const zeros = Buffer.alloc(Math.min(bytes, FILL_WRITE_BYTES))
  let unsynced = 0
  for (let position = 0; position < bytes && (await goOn()); position += zeros.length) {
    const length = Math.min(zeros.length, bytes - position)
    await file.write(zeros.subarray(0, length), position)
    unsynced += length
    if (unsynced >= FILL_SYNC_BYTES) {
      // In steps, so that the writers' syncs never wait for a whole file.
      await file.sync()
      unsynced = 0
    }
  }
  await file.sync()
}
