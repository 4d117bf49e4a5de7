/**
 * The manifest of a log: which generation counts, and how the next one is published. Each change is a new file,
 * written, synced and published by `link`, which fails when a rival was first: then this owner is fenced.
 */
import { type Disk, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { assert, TidelogError } from '../errors.ts'
import { manifestFileName, parseManifestFileName } from '../format/file-names.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeManifest, encodeManifest, MANIFEST_BYTES_MAX, type ManifestContent } from '../format/manifest.ts'

/** How a change is published when the disk is full: frees the reserve; true when that made room. */
export type ReleaseReserve = () => Promise<boolean>

export interface FoundManifest {
  content: ManifestContent
  /** Generations below, oldest first: left behind by a crash between publishing and unlinking. */
  older: readonly number[]
}

/**
 * The highest generation; null when the directory has none. An older one is never taken for a damaged newest one: it
 * may not know of segments to which records were acknowledged. MANIFEST_DAMAGED, FORMAT_UNKNOWN.
 */
export async function findManifest(
  disk: Disk,
  directory: string,
  names: readonly string[],
): Promise<FoundManifest | null> {
  const generations = names
    .map(parseManifestFileName)
    .filter((generation) => generation !== null)
    .sort((a, b) => a - b)
  const highest = generations.pop()
  if (highest === undefined) return null
  return { content: await readManifest(disk, directory, highest), older: generations }
}

export async function readManifest(disk: Disk, directory: string, generation: number): Promise<ManifestContent> {
  const name = manifestFileName(generation)
  const file = await disk.open(`${directory}/${name}`, 'read')
  try {
    const size = await file.size()
    const bytes = Buffer.alloc(Math.min(size, MANIFEST_BYTES_MAX + 1))
    const length = await file.read(bytes, 0, bytes.length, 0)
    const content = decodeManifest(bytes.subarray(0, length))
    if (content.generation !== generation) throw new FormatError('DAMAGED', `it holds generation ${content.generation}`)
    return content
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    if (error.code === 'FORMAT_UNKNOWN')
      throw new TidelogError('FORMAT_UNKNOWN', `${name}: ${error.message}`, { file: name, cause: error })
    throw new TidelogError(
      'MANIFEST_DAMAGED',
      `${name} in ${directory} is damaged (${error.message}). Nothing was changed; the segments are not touched. Restore the file from a backup.`,
      { file: name, cause: error },
    )
  } finally {
    await file.close()
  }
}

export class ManifestStore {
  readonly #environment: Environment
  readonly #directory: string
  readonly #releaseReserve: ReleaseReserve
  #content: ManifestContent
  /** Names that the check before each acknowledgement looks for. */
  #ownPath = ''
  #nextPath = ''
  #queue: Promise<void> = Promise.resolve()
  /** Set while it is open whether the next generation's name is ours. */
  #linking: Promise<void> | null = null

  constructor(environment: Environment, directory: string, content: ManifestContent, releaseReserve: ReleaseReserve) {
    this.#environment = environment
    this.#directory = directory
    this.#releaseReserve = releaseReserve
    this.#content = content
    this.#setPaths()
  }

  /** Publishes the first generation of a new log. FENCED when somebody else just did. */
  static async create(
    environment: Environment,
    directory: string,
    content: ManifestContent,
    releaseReserve: ReleaseReserve,
  ): Promise<ManifestStore> {
    assert(content.generation === 1, 'a log begins with generation 1')
    const store = new ManifestStore(environment, directory, { ...content, generation: 0 }, releaseReserve)
    await store.#publish(() => content)
    return store
  }

  get content(): Readonly<ManifestContent> {
    return this.#content
  }

  /**
   * Whether no newer generation exists; undefined while our own next one is being linked (await `linked()`, ask again).
   * Two synchronous look-ups. The order matters: generations are unlinked in ascending order, so if ours is still
   * there after the next one was found absent, no rival had published when the check began.
   */
  isNewest(): boolean | undefined {
    if (this.#linking !== null) return undefined
    const { disk } = this.#environment
    return !disk.existsSync(this.#nextPath) && disk.existsSync(this.#ownPath)
  }

  async linked(): Promise<void> {
    await this.#linking
  }

  /**
   * Publishes what `change` makes of the content; durable when it settles. Changes run one after the other. FENCED when
   * a rival has published, DISK_FULL, IO_FAILED (then it is not known which generation counts: the log must stop).
   */
  publish(change: (content: ManifestContent) => ManifestContent): Promise<void> {
    const run = this.#queue.then(() => this.#publish(change))
    this.#queue = run.catch(() => {})
    return run
  }

  /** Settles when no change is under way. */
  async settled(): Promise<void> {
    await this.#queue
  }

  async #publish(change: (content: ManifestContent) => ManifestContent): Promise<void> {
    const before = this.#content
    const content = { ...change(before), generation: before.generation + 1 }
    try {
      await this.#write(content).catch(async (error) => {
        if (!isDiskError(error, 'ENOSPC') || !(await this.#releaseReserve())) throw error
        await this.#write(content)
      })
    } catch (error) {
      throw this.#explained(error)
    }
    await this.unlinkOlder([before.generation])
  }

  async #write(content: ManifestContent): Promise<void> {
    const { disk } = this.#environment
    const nonce = Buffer.from(this.#environment.randomBytes(8)).toString('hex')
    const name = manifestFileName(content.generation)
    const temporary = `${this.#directory}/${name}.${nonce}.tmp`
    const file = await disk.create(temporary, 'none')
    try {
      await file.write(encodeManifest(content), 0)
      await file.sync()
      await file.close()
    } catch (error) {
      await file.close().catch(() => {})
      await disk.unlink(temporary).catch(() => {})
      throw error
    }
    await this.#link(temporary, content)
    await disk.unlink(temporary)
    await disk.syncDirectory(this.#directory)
  }

  async #link(temporary: string, content: ManifestContent): Promise<void> {
    const { disk } = this.#environment
    const linking = disk.link(temporary, `${this.#directory}/${manifestFileName(content.generation)}`).then(() => {
      this.#content = content
      this.#setPaths()
    })
    this.#linking = linking.catch(() => {})
    try {
      await linking
    } catch (error) {
      await disk.unlink(temporary).catch(() => {})
      throw error
    } finally {
      this.#linking = null
    }
  }

  /** In ascending order; a name that is gone already does not matter. */
  async unlinkOlder(generations: readonly number[]): Promise<void> {
    for (const generation of generations) {
      if (generation < 1) continue
      try {
        await this.#environment.disk.unlink(`${this.#directory}/${manifestFileName(generation)}`)
      } catch (error) {
        if (!isDiskError(error, 'ENOENT')) return
      }
    }
  }

  #setPaths(): void {
    this.#ownPath = `${this.#directory}/${manifestFileName(this.#content.generation)}`
    this.#nextPath = `${this.#directory}/${manifestFileName(this.#content.generation + 1)}`
  }

  #explained(error: unknown): unknown {
    if (isDiskError(error, 'EEXIST') || isDiskError(error, 'ENOENT')) {
      return new TidelogError(
        'FENCED',
        `another process has opened the log in ${this.#directory} since; this one may not write any more`,
        {
          cause: error,
        },
      )
    }
    if (isDiskError(error, 'ENOSPC')) {
      return new TidelogError('DISK_FULL', `no space for a manifest in ${this.#directory}`, {
        retriable: true,
        cause: error,
      })
    }
    if (isDiskError(error)) {
      return new TidelogError(
        'IO_FAILED',
        `the manifest in ${this.#directory} could not be published: ${error.message}`,
        { cause: error },
      )
    }
    return error
  }
}
