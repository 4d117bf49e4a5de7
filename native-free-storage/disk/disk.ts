/**
 * The port to the file system: everything that the engine asks of a disk. The Node implementation is `node-disk.ts`;
 * the simulated one lives in `test/simulation/`. Both pass the conformance suite in `test/conformance/disk.ts`.
 *
 * What the engine may assume of an implementation (and docs/FORMAT.md repeats): sectors of 512 bytes may be torn;
 * writes in flight reach the platter in any order; bytes outside the sectors of a write are untouched; a sync that
 * returned without an error is honest; a name needs a sync of its directory of its own; `link` is atomic and fails
 * when the name exists.
 *
 * Every failure is a `DiskError`; its `code` is the errno name ('ENOENT', 'EEXIST', 'ENOSPC', 'EIO', ...).
 */

/** `dsync`: each write returns only when its bytes are durable (O_DSYNC). `none`: `sync` makes them so. */
export type WriteSync = 'none' | 'dsync'

export interface DiskSpace {
  totalBytes: number
  /** What an unprivileged writer may still use. */
  freeBytes: number
  /** What files take; absent: all that is not free. Where room is kept for the privileged, the three do not add up. */
  usedBytes?: number | undefined
}

export interface DiskIdentity {
  /** The file system's name in words ('ext4', 'xfs', 'tmpfs', 'nfs', ...) or its magic number in hex. */
  fileSystem: string
  /** Number of the device that holds the directory; keys what the start-up probe found out. */
  device: string
}

export interface DiskFile {
  readonly path: string
  /**
   * Reads up to `length` bytes from `position` into `target` at `offset`; loops over short reads, so that fewer
   * bytes come back only at the end of the file. Calls may overlap.
   */
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<number>
  /**
   * Writes all of `bytes` at `position`. Calls may overlap in time. `bytes` must not change until it settles.
   * A short write is a failure: DiskError with `bytesWritten`, code of the cause or 'EIO'.
   */
  write(bytes: Uint8Array, position: number): Promise<void>
  /** Makes the data of all writes that have returned durable, and the size (fdatasync). Never called again after a failure. */
  sync(): Promise<void>
  truncate(length: number): Promise<void>
  size(): Promise<number>
  /** Idempotent. Waits for what is in flight: a descriptor must not become another file's under a write. */
  close(): Promise<void>
}

/** What an implementation is able to do; the start-up probe goes by it. */
export interface DiskTraits {
  /** How many operations make progress at once; more of them only queue. */
  parallelOperations: number
  /** Whether a write to a `dsync` file really waits for the medium. */
  dsyncTrusted: boolean
}

export interface Disk {
  /** Absent: 4 at once, and `dsync` can be trusted. */
  readonly traits?: DiskTraits
  /** Opens a file that exists: ENOENT otherwise. */
  open(path: string, access: 'read' | 'write', sync?: WriteSync): Promise<DiskFile>
  /** Creates a file for reading and writing, mode 0600: EEXIST if the name is taken. */
  create(path: string, sync?: WriteSync): Promise<DiskFile>
  /** Gives `existing` the additional name `name`, atomically: EEXIST if the name is taken. */
  link(existing: string, name: string): Promise<void>
  /** Replaces `to` if it exists, atomically. */
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Names (not paths) in a directory, in no particular order: ENOENT if it is missing. */
  list(directory: string): Promise<string[]>
  /** Creates one directory, mode 0700; it is not an error if it exists. The parent must exist. */
  makeDirectory(path: string): Promise<void>
  /** Makes creations, renames, links and unlinks in a directory durable. */
  syncDirectory(path: string): Promise<void>
  /** Synchronous, for the generation check before each acknowledgement (about 2 µs). False on ENOENT; throws a DiskError on any other failure. */
  existsSync(path: string): boolean
  space(directory: string): Promise<DiskSpace>
  identify(directory: string): Promise<DiskIdentity>
}

export class DiskError extends Error {
  readonly code: string
  /** The operation of the port that failed: `write`, `sync`, `rename`, ... */
  readonly operation: string
  readonly path: string
  /** Of a failed write: how many bytes reached the file before the failure, as far as the system told. */
  readonly bytesWritten: number

  constructor(code: string, operation: string, path: string, details: { bytesWritten?: number; cause?: unknown } = {}) {
    super(`${operation} ${path}: ${code}`, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'DiskError'
    this.code = code
    this.operation = operation
    this.path = path
    this.bytesWritten = details.bytesWritten ?? 0
  }
}

export function isDiskError(error: unknown, code?: string): error is DiskError {
  return error instanceof DiskError && (code === undefined || error.code === code)
}
