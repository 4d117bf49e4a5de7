/**
 * Snapshots beside a log: state of somebody above it, each with the place of the log that it stands behind. The newest two
 * are kept. One that is damaged, that the log does not reach (it was cut behind it), or that stands behind another frame
 * than the log has there is passed over, and goes when the next one is saved.
 */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { hash64, loadChecksum } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import {
  decodeSnapshotHeader,
  encodeSnapshotHeader,
  parseSnapshotFileName,
  SNAPSHOT_BYTES_MAX,
  SNAPSHOT_HEADER_BYTES,
  type SnapshotHeader,
  type SnapshotPlace,
  snapshotFileName,
} from '../format/snapshot.ts'

const KEPT = 2
/** Looked at, from the newest on, until two are good. */
const LOOKED_AT_MAX = 8
/** A larger one would take the reserve of a full disk and not find room in it. */
const IN_RESERVE_BYTES_MAX = 1024 * 1024

export interface StoredSnapshot {
  /** Everything below it is in `bytes`. */
  lsn: number
  bytes: Buffer
}

/** The frame that ends at an LSN. */
export interface FramePlace {
  lastLsn: number
  baseTimeTick: bigint
  bodyHash: bigint
}

/** What the files need to know of their log. */
export interface SnapshotLog {
  readonly environment: Environment
  readonly directory: string
  readonly logId: string
  /** Logs that this one is a copy of, each up to its fork. */
  readonly origins: readonly { logId: string; forkLsn: number }[]
  readonly firstLsn: number
  readonly nextLsn: number
  /** The frame that holds the record (or gap) at `lsn`, which is durable; null when it was truncated away. */
  frameAt(lsn: number): Promise<FramePlace | null>
  /** Frees the reserve of a full disk; true when that made room. */
  releaseReserve(): Promise<boolean>
}

export class SnapshotFiles {
  readonly #log: SnapshotLog
  #saving: Promise<void> = Promise.resolve()
  /** Those that were read and fit, or were saved here, descending. */
  #good: readonly number[] = []
  /** What else is there does not fit. */
  #isLoaded = false

  constructor(log: SnapshotLog) {
    this.#log = log
  }

  /**
   * The good ones, newest first, at most two. One of which the file, or the frame that it stands behind, cannot be read is
   * passed over as long as another one is good; else it throws why: IO_FAILED, or the error of the damage.
   */
  async load(): Promise<StoredSnapshot[]> {
    await loadChecksum()
    const found: StoredSnapshot[] = []
    let failure: { error: unknown } | null = null
    for (const lsn of (await this.#listed()).slice(0, LOOKED_AT_MAX)) {
      if (found.length === KEPT) break
      try {
        const bytes = await this.#read(lsn)
        if (bytes !== null) found.push({ lsn, bytes })
      } catch (error) {
        failure ??= { error }
      }
    }
    if (found.length === 0 && failure !== null) throw failure.error
    this.#good = found.map(({ lsn }) => lsn)
    this.#isLoaded = true
    return found
  }

  /**
   * Durable when it settles. Older ones but one go. On a full disk it takes the room of the older one, as long as the newer
   * one is good, and with `forRoom` that of the reserve. INVALID_ARGUMENT when no durable frame ends below `lsn`, LIMIT_EXCEEDED above 256 MiB, DISK_FULL,
   * IO_FAILED: then the newest of those that were there still is.
   */
  save(lsn: number, bytes: Uint8Array, options: { forRoom?: boolean } = {}): Promise<void> {
    const saved = this.#saving.then(() => this.#save(lsn, bytes, options.forRoom === true))
    this.#saving = saved.catch(() => {})
    return saved
  }

  /** Settles when nothing is being saved. */
  settled(): Promise<void> {
    return this.#saving
  }

  async #save(lsn: number, content: Uint8Array, forRoom: boolean): Promise<void> {
    const { directory, logId, nextLsn } = this.#log
    if (content.length > SNAPSHOT_BYTES_MAX) {
      const message = `a snapshot of ${content.length} bytes; it may have ${SNAPSHOT_BYTES_MAX}`
      throw new TidelogError('LIMIT_EXCEEDED', message)
    }
    if (!Number.isSafeInteger(lsn) || lsn < 0 || lsn > nextLsn) {
      throw new TidelogError('INVALID_ARGUMENT', `no snapshot stands at LSN ${lsn}: the log ends before ${nextLsn}`)
    }
    await loadChecksum()
    const frame = lsn === 0 ? null : await this.#log.frameAt(lsn - 1)
    if (frame !== null && frame.lastLsn !== lsn - 1) {
      throw new TidelogError('INVALID_ARGUMENT', `no frame ends before LSN ${lsn}: no snapshot can stand there`)
    }
    const { baseTimeTick, bodyHash } = frame ?? { baseTimeTick: 0n, bodyHash: 0n }
    const place = { logId, lsn, baseTimeTick, bodyHash }
    try {
      await this.#write(place, content, forRoom)
    } catch (error) {
      throw explained(error, directory)
    }
    this.#good = [lsn, ...this.#good.filter((each) => each < lsn)].slice(0, KEPT)
    await this.#dropOthers(lsn)
  }

  /** On a full disk again with each room that can be made. Throws a DiskError. */
  async #write(place: SnapshotPlace, content: Uint8Array, forRoom: boolean): Promise<void> {
    const { environment, directory } = this.#log
    const rooms = [() => this.#giveUp(place.lsn)]
    if (forRoom && content.length <= IN_RESERVE_BYTES_MAX) rooms.push(() => this.#log.releaseReserve())
    while (true) {
      try {
        return await writeSnapshotFile(environment, directory, place, content)
      } catch (error) {
        if (!isDiskError(error, 'ENOSPC')) throw error
        let hasRoom = false
        while (!hasRoom && rooms.length > 0) hasRoom = await rooms.shift()!()
        if (!hasRoom) throw error
      }
    }
  }

  /**
   * There is no room: one good one stays, and those beside it go, as they would when the new one is there. They are not
   * overwritten: a backup may have the same file. False: nothing went.
   */
  async #giveUp(lsn: number): Promise<boolean> {
    const { environment, directory } = this.#log
    const [kept] = this.#good
    if (kept === undefined || kept >= lsn) return false
    const gone = (await this.#listed()).filter((each) => each !== kept && each !== lsn)
    for (const each of gone) await environment.disk.unlink(`${directory}/${snapshotFileName(each)}`).catch(() => {})
    this.#good = [kept]
    return gone.length > 0
  }

  /** All but this one and the next older one that is good. */
  async #dropOthers(lsn: number): Promise<void> {
    const { environment, directory } = this.#log
    const listed = await this.#listed().catch(() => [])
    // One above the new one does not fit the log any more.
    const isKept = (each: number): boolean => each <= lsn && (!this.#isLoaded || this.#good.includes(each))
    const kept = new Set(listed.filter(isKept).slice(0, KEPT))
    for (const each of listed) {
      if (!kept.has(each)) await environment.disk.unlink(`${directory}/${snapshotFileName(each)}`).catch(() => {})
    }
  }

  /** LSNs, descending. */
  async #listed(): Promise<number[]> {
    const { environment, directory } = this.#log
    const names = await environment.disk.list(directory).catch((error: unknown) => {
      throw explained(error, directory)
    })
    const lsns: number[] = []
    for (const name of names) {
      const lsn = parseSnapshotFileName(name)
      if (lsn !== null) lsns.push(lsn)
    }
    return lsns.sort((a, b) => b - a)
  }

  async #read(lsn: number): Promise<Buffer | null> {
    const { environment, directory, firstLsn, nextLsn } = this.#log
    if (lsn < firstLsn || lsn > nextLsn) return null
    const found = await readSnapshotFile(environment, `${directory}/${snapshotFileName(lsn)}`)
    if (found === null || found.header.lsn !== lsn || !(await this.#fits(found.header))) return null
    return found.content
  }

  async #fits({ logId, lsn, baseTimeTick, bodyHash }: SnapshotHeader): Promise<boolean> {
    const { origins, firstLsn } = this.#log
    const isOwn = logId === this.#log.logId || origins.some((origin) => origin.logId === logId && lsn <= origin.forkLsn)
    if (!isOwn) return false
    if (lsn === 0) return true
    // The frame before it is gone: no LSN is given twice, so nothing else can have stood there.
    if (lsn === firstLsn) return true
    const frame = await this.#log.frameAt(lsn - 1)
    return (
      frame !== null && frame.lastLsn === lsn - 1 && frame.baseTimeTick === baseTimeTick && frame.bodyHash === bodyHash
    )
  }
}

/** Under its name, durably. Throws a DiskError: then it is not there. */
export async function writeSnapshotFile(
  { disk }: Pick<Environment, 'disk'>,
  directory: string,
  place: SnapshotPlace,
  content: Uint8Array,
): Promise<void> {
  const header = encodeSnapshotHeader(place, content)
  const path = `${directory}/${snapshotFileName(place.lsn)}`
  const temporary = `${path}.tmp`
  let file: DiskFile | undefined
  try {
    await disk.unlink(temporary).catch(() => {})
    file = await disk.create(temporary, 'none')
    await file.write(header, 0)
    if (content.length > 0) await file.write(asBuffer(content), header.length)
    await file.sync()
    await file.close()
    await disk.rename(temporary, path)
    await disk.syncDirectory(directory)
  } catch (error) {
    await file?.close().catch(() => {})
    await disk.unlink(temporary).catch(() => {})
    throw error
  }
}

/** Null: it is not there, or not whole, or of a later version. Throws IO_FAILED. */
export async function readSnapshotFile(
  environment: Environment,
  path: string,
): Promise<{ header: SnapshotHeader; content: Buffer } | null> {
  let file: DiskFile
  try {
    file = await environment.disk.open(path, 'read')
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return null
    throw explained(error, path)
  }
  try {
    const head = Buffer.alloc(SNAPSHOT_HEADER_BYTES)
    if ((await readFully(file, head, 0)) < head.length) return null
    const header = decodeSnapshotHeader(head)
    if ((await file.size()) !== SNAPSHOT_HEADER_BYTES + header.contentLength) return null
    const content = Buffer.allocUnsafeSlow(header.contentLength)
    if ((await readFully(file, content, SNAPSHOT_HEADER_BYTES)) < content.length) return null
    return hash64(content) === header.contentHash ? { header, content } : null
  } catch (error) {
    if (error instanceof FormatError) return null
    throw explained(error, path)
  } finally {
    await file.close()
  }
}

async function readFully(file: DiskFile, target: Buffer, position: number): Promise<number> {
  let got = 0
  while (got < target.length) {
    const read = await file.read(target, got, target.length - got, position + got)
    if (read === 0) break
    got += read
  }
  return got
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function explained(error: unknown, path: string): unknown {
  if (!isDiskError(error)) return error
  if (error.code === 'ENOSPC') {
    return new TidelogError('DISK_FULL', `no space for a snapshot in ${path}`, { retriable: true, cause: error })
  }
  return new TidelogError('IO_FAILED', `a snapshot in ${path}: ${error.message}`, { cause: error })
}
