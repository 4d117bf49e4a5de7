/**
 * The manifest of a log: which generation counts, and how the next one is published. Each change is a new file,
 * written, synced and published by `link`, which fails when a rival was first: then this owner is fenced.
 */
import { type Disk, type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { assert, TidelogError } from '../errors.ts'
import { manifestFileName, parseManifestFileName } from '../format/file-names.ts'
import { FormatError } from '../format/format-error.ts'
import type { FormatFeatures } from '../format/format-version.ts'
import { decodeManifest, encodeManifest, MANIFEST_BYTES_MAX, type ManifestContent } from '../format/manifest.ts'
import { directoryGone, isGone } from './append-errors.ts'

/**
 * A file of one block that lies ready for the next manifest when the disk is full: it is renamed and overwritten in
 * place, and the manifest that its successor replaces becomes the next one.
 */
export const MANIFEST_SPARE = 'MANIFEST.spare'
const SPARE_BYTES = 4096

/** How a change is published when the disk is full: frees the reserve; true when that made room. */
export type ReleaseReserve = () => Promise<boolean>

export interface FoundManifest {
  content: ManifestContent & FormatFeatures
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

/** Of features that a reader may ignore and a writer has to know. Throws FORMAT_UNKNOWN. */
export function refuseToWrite(file: string, { readOnlyFeatures, formatVersion }: FormatFeatures): void {
  if (readOnlyFeatures === 0) return
  throw new TidelogError(
    'FORMAT_UNKNOWN',
    `${file} was written in format version ${formatVersion} with features 0x${readOnlyFeatures.toString(16)}, which allow this version to read it and not to write. Upgrade, or open it read-only.`,
    { file },
  )
}

export async function readManifest(
  disk: Disk,
  directory: string,
  generation: number,
): Promise<ManifestContent & FormatFeatures> {
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
  #doubtful = false
  #stopped = false
  #spareUsed = false
  /** Generations that are still to be unlinked, ascending. */
  #older: number[]
  /** Set while it is open whether the next generation's name is ours. */
  #linking: Promise<void> | null = null

  /** `older`: generations that were found below that of `content`. */
  constructor(
    environment: Environment,
    directory: string,
    content: ManifestContent,
    releaseReserve: ReleaseReserve,
    older: readonly number[] = [],
  ) {
    this.#older = [...older]
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
   * As `isNewest`, once it can be told. Who asks after a file of his exists and renames it only then cannot disturb a
   * new owner, who removes such files after he has published.
   */
  async confirmNewest(): Promise<boolean> {
    for (;;) {
      const newest = this.isNewest()
      if (newest !== undefined) return newest
      await this.#linking
    }
  }

  /** A change that was reported as failed may have been published: what it names must not be removed. */
  get isDoubtful(): boolean {
    return this.#doubtful
  }

  /**
   * Publishes what `change` makes of the content; durable when it settles. Changes run one after the other. FENCED when
   * a rival has published, DISK_FULL, IO_FAILED (then it is not known which generation counts: the log must stop).
   */
  publish(change: (content: ManifestContent) => ManifestContent): Promise<void> {
    if (this.#stopped) return Promise.reject(new TidelogError('CLOSED', 'the log is closed'))
    const run = this.#queue.then(() => this.#publish(change))
    this.#queue = run.catch(() => {})
    return run
  }

  /** From now on nothing is published: what was given up and goes on late may not fence the next owner. */
  stop(): void {
    this.#stopped = true
  }

  /** Settles when no change is under way. */
  async settled(): Promise<void> {
    await this.#queue
  }

  async #publish(change: (content: ManifestContent) => ManifestContent): Promise<void> {
    const before = this.#content
    const content = { ...change(before), generation: before.generation + 1 }
    try {
      const temporary = await this.#prepare(content)
      await this.#link(temporary, content)
    } catch (error) {
      throw this.#explained(error)
    }
    if (before.generation >= 1) this.#older.push(before.generation)
    await this.#unlinkOlder()
  }

  /** The manifest under a name that means nothing, durable. */
  async #prepare(content: ManifestContent): Promise<string> {
    const nonce = Buffer.from(this.#environment.randomBytes(8)).toString('hex')
    const temporary = `${this.#directory}/${manifestFileName(content.generation)}.${nonce}.tmp`
    const bytes = encodeManifest(content)
    const create = () => this.#environment.disk.create(temporary, 'none')
    try {
      await this.#write(temporary, bytes, create)
    } catch (error) {
      if (!isDiskError(error, 'ENOSPC')) throw error
      if (!(await this.#writeSpare(temporary, bytes))) {
        await this.#releaseReserve()
        await this.#write(temporary, bytes, create)
      }
    }
    return temporary
  }

  async #write(temporary: string, bytes: Buffer, open: () => Promise<DiskFile>): Promise<void> {
    const file = await open()
    try {
      await file.write(bytes, 0)
      if ((await file.size()) > bytes.length) await file.truncate(bytes.length)
      await file.sync()
      await file.close()
    } catch (error) {
      await file.close().catch(() => {})
      await this.#environment.disk.unlink(temporary).catch(() => {})
      throw error
    }
  }

  /** Without new blocks. False: there is no spare, or it has no room. */
  async #writeSpare(temporary: string, bytes: Buffer): Promise<boolean> {
    const { disk } = this.#environment
    try {
      await disk.rename(`${this.#directory}/${MANIFEST_SPARE}`, temporary)
    } catch (error) {
      if (isDiskError(error, 'ENOENT')) return false
      throw error
    }
    this.#spareUsed = true
    // After power was lost no name of the old manifest may lead to what is overwritten now.
    await disk.syncDirectory(this.#directory)
    try {
      await this.#write(temporary, bytes, () => disk.open(temporary, 'write'))
      return true
    } catch (error) {
      if (isDiskError(error, 'ENOSPC')) return false
      throw error
    }
  }

  /**
   * In ascending order, and no later one before an earlier one: whoever still finds his own generation after he has
   * linked the next one was not overtaken (`#link`). The last becomes the spare when that was used up.
   */
  async #unlinkOlder(): Promise<void> {
    const { disk } = this.#environment
    const spare = `${this.#directory}/${MANIFEST_SPARE}`
    try {
      while (this.#older.length > 0) {
        const path = `${this.#directory}/${manifestFileName(this.#older[0]!)}`
        const keep = this.#older.length === 1 && this.#spareUsed && !disk.existsSync(spare)
        try {
          if (keep) await disk.rename(path, spare)
          else await disk.unlink(path)
          if (keep) this.#spareUsed = false
        } catch (error) {
          if (!isDiskError(error, 'ENOENT')) throw error
        }
        this.#older.shift()
      }
    } catch (error) {
      // The next change tries again.
      if (!isDiskError(error)) throw error
    }
  }

  /** Makes the spare when there is none. Only a comfort for a full disk: what fails is left. */
  async prepareSpare(): Promise<void> {
    const { disk } = this.#environment
    const path = `${this.#directory}/${MANIFEST_SPARE}`
    try {
      if (disk.existsSync(path)) return
      const file = await disk.create(path, 'none')
      try {
        await file.write(Buffer.alloc(SPARE_BYTES), 0)
        await file.sync()
      } finally {
        await file.close()
      }
    } catch (error) {
      if (!isDiskError(error)) throw error
      if (!isDiskError(error, 'EEXIST')) await disk.unlink(path).catch(() => {})
    }
  }

  async #link(temporary: string, content: ManifestContent): Promise<void> {
    const { disk } = this.#environment
    const linking = disk
      .link(temporary, `${this.#directory}/${manifestFileName(content.generation)}`)
      .then(async () => {
        if (await this.#wasOvertaken()) {
          this.#doubtful = true
          throw new TidelogError(
            'FENCED',
            `another process has opened the log in ${this.#directory} since; this one may not write any more`,
          )
        }
        this.#content = content
        this.#setPaths()
      })
    const settled = () => {
      this.#linking = null
    }
    // Cleared before anybody who waits for it looks again.
    this.#linking = linking.then(settled, settled)
    try {
      await linking
    } catch (error) {
      // The name may be there all the same.
      const refused = ['EEXIST', 'ENOENT', 'ENOSPC'].some((code) => isDiskError(error, code))
      if (!refused) this.#doubtful = true
      await disk.unlink(temporary).catch(() => {})
      throw error
    }
    try {
      // A name that is left over is removed by the next open.
      await disk.unlink(temporary).catch(() => {})
      await disk.syncDirectory(this.#directory)
    } catch (error) {
      this.#doubtful = true
      throw error
    }
  }

  /**
   * The name that was just linked may have been free because a rival published it, and others since, and unlinked it
   * again. Then our own generation is gone, too: they go in ascending order.
   */
  async #wasOvertaken(): Promise<boolean> {
    const { disk } = this.#environment
    if (this.#content.generation >= 1) return !disk.existsSync(this.#ownPath)
    const names = await disk.list(this.#directory)
    return names.some((name) => (parseManifestFileName(name) ?? 0) > 1)
  }

  #setPaths(): void {
    this.#ownPath = `${this.#directory}/${manifestFileName(this.#content.generation)}`
    this.#nextPath = `${this.#directory}/${manifestFileName(this.#content.generation + 1)}`
  }

  #explained(error: unknown): unknown {
    if (isDiskError(error, 'ENOENT') && isGone(this.#environment.disk, this.#directory)) {
      return directoryGone(this.#directory)
    }
    if (isDiskError(error, 'EEXIST') || isDiskError(error, 'ENOENT')) {
      return new TidelogError(
        'FENCED',
        `another process has opened the log in ${this.#directory} since; this one may not write any more`,
        {
          cause: error,
        },
      )
    }
    if (isDiskError(error, 'ENOSPC') && !this.#doubtful) {
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
