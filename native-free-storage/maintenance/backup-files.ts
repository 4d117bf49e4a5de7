/**
 * How the files of a backup come to be. A finished file gets a second name (a hard link): nobody writes to it any more,
 * neither for the original nor for the copy. Everything else, and all where links cannot be had, is copied and synced.
 */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'

const CHUNK_BYTES = 1024 * 1024
/** Another file system, one without links, too many links, a file of another user that may not be linked. */
const NO_LINK = ['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

export interface BackupCounts {
  linkedFiles: number
  copiedFiles: number
  copiedBytes: number
}

export class BackupFiles {
  readonly #environment: Environment
  readonly #from: string
  readonly #out: string
  #mayLink: boolean
  readonly #names = new Set<string>()
  readonly #linked = new Set<string>()
  #copiedBytes = 0

  /** `from` and `out` are directories; `mayLink`: false forces copies. */
  constructor(environment: Environment, from: string, out: string, mayLink: boolean) {
    this.#environment = environment
    this.#from = from
    this.#out = out
    this.#mayLink = mayLink
  }

  get counts(): BackupCounts {
    const linkedFiles = this.#linked.size
    return { linkedFiles, copiedFiles: this.#names.size - linkedFiles, copiedBytes: this.#copiedBytes }
  }

  /** A file that is never written to again. ENOENT when it is not there (any more). */
  async link(name: string): Promise<void> {
    const { disk } = this.#environment
    if (this.#mayLink) {
      try {
        await disk.link(`${this.#from}/${name}`, `${this.#out}/${name}`)
        this.#names.add(name)
        this.#linked.add(name)
        return
      } catch (error) {
        if (!NO_LINK.some((code) => isDiskError(error, code))) throw error
        this.#mayLink = false
      }
    }
    const file = await disk.open(`${this.#from}/${name}`, 'read')
    try {
      await this.copy(name, file, await file.size())
    } finally {
      await file.close()
    }
  }

  /** The first `length` bytes of an open file, durable. */
  async copy(name: string, source: DiskFile, length: number): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(CHUNK_BYTES, length)))
    await this.#fill(name, async (target) => {
      for (let position = 0; position < length; ) {
        const wanted = Math.min(buffer.length, length - position)
        const read = await source.read(buffer, 0, wanted, position)
        if (read === 0) break
        await target.write(buffer.subarray(0, read), position)
        position += read
      }
    })
    this.#copiedBytes += length
  }

  /** A file of the copy's own, durable. */
  async create(name: string, bytes: Uint8Array): Promise<void> {
    await this.#fill(name, (target) => target.write(bytes, 0))
    this.#copiedBytes += bytes.length
  }

  /** A file that somebody else creates in the copy, and what he wrote to it. */
  add(name: string): void {
    this.#names.add(name)
  }

  count(bytes: number): void {
    this.#copiedBytes += bytes
  }

  /** Takes all files away again: the original has changed in between. */
  async clear(): Promise<void> {
    for (const name of this.#names) await this.#environment.disk.unlink(`${this.#out}/${name}`)
    this.#names.clear()
    this.#linked.clear()
    this.#copiedBytes = 0
  }

  async #fill(name: string, write: (target: DiskFile) => Promise<void>): Promise<void> {
    const file = await this.#environment.disk.create(`${this.#out}/${name}`, 'none')
    this.#names.add(name)
    try {
      await write(file)
      await file.sync()
    } finally {
      await file.close()
    }
  }
}
