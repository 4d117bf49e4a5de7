// A disk port whose unsynced writes are really lost when its process is killed.
//
// What was not synced is kept in the memory of this process, which sees it as if it were done; the real file system has
// only what a sync made durable. So SIGKILL does to the files what a power loss does: writes and names that were not
// synced are gone or, where the background had come to them, there; synced writes that were under way are torn and out
// of order; and a file may be there without its name. Other processes see what is durable, and nothing else.
//
// A broken variant (`lie`) shows that the loop bites: from `startLying` on, `sync` says of log segments that bytes are
// durable, and `directory` of the directories of the pchannels that names are, some time before they are.
import { dirname } from 'node:path'
import { Random } from '../harness/random.mjs'
import { LossyFile } from './lossy-file.mjs'
import { LossyDirectory, LossyNames } from './lossy-names.mjs'

/**
 * @typedef {{ seed: number, names: 'strict' | 'ext4', lie?: 'sync' | 'directory' | undefined, calm?: boolean | undefined }}
 *   LossyOptions `calm`: no delays, and nothing is written in the background
 * @typedef {(code: string, operation: string, path: string, cause?: unknown) => Error} Failure makes a DiskError
 * @typedef {import('tidelog/storage').Disk} Disk
 * @typedef {import('tidelog/storage').DiskFile} DiskFile
 */

const SEGMENTS = /\.(seg|prep|new)$/
const PCHANNELS = /\/pchannels\/[0-9]+$/
const MEDIUM_MS_MOST = 4
const SLOW_MEDIUM_MS_MOST = 40
const SLOW_PART = 0.02
const GAP_PART = 0.3
const BACKGROUND_SOON_PART = 0.2
const SOON_MS_MOST = 60
const BACKGROUND_MS_LEAST = 2_000
const BACKGROUND_MS_MOST = 6_000

/** When things happen: the seed decides. */
export class Moods {
  random
  #calm
  #ended = false

  /** @param {number} seed @param {boolean} calm */
  constructor(seed, calm) {
    this.random = new Random(seed)
    this.#calm = calm
  }

  /** What the medium takes for a write. */
  async medium() {
    const slow = this.random.chance(SLOW_PART)
    await this.#pause(this.random.between(0, slow ? SLOW_MEDIUM_MS_MOST : MEDIUM_MS_MOST))
  }

  async betweenPieces() {
    if (this.random.chance(GAP_PART)) await this.#pause(1)
  }

  /** The system writes back what nobody synced, sooner or later. */
  /** @param {() => void} work */
  background(work) {
    if (this.random.chance(BACKGROUND_SOON_PART)) this.soon(work)
    else this.#later(work, this.random.between(BACKGROUND_MS_LEAST, BACKGROUND_MS_MOST))
  }

  /** @param {() => void} work */
  soon(work) {
    this.#later(work, this.random.between(0, SOON_MS_MOST))
  }

  /** Nothing is written in the background any more. */
  end() {
    this.#ended = true
  }

  /** @param {() => void} work @param {number} delayMs */
  #later(work, delayMs) {
    if (!this.#calm) setTimeout(() => this.#ended || work(), delayMs).unref()
  }

  /** @param {number} delayMs */
  async #pause(delayMs) {
    if (delayMs > 0 && !this.#calm) await new Promise((resolve) => setTimeout(resolve, delayMs))
    else await turn()
  }
}

/** @implements {Disk} */
export class LossyDisk {
  traits
  #root
  #inner
  #moods
  #names
  #lie
  #lying = false
  #fail

  /**
   * @param {string} root absolute path of a directory that exists; its sibling with `.lossy` at its end is emptied
   * @param {Disk} inner asked for the space and the identity of the real file system
   * @param {Failure} fail
   * @param {LossyOptions} options
   */
  constructor(root, inner, fail, { seed, names, lie, calm = false }) {
    this.#root = root
    this.#inner = inner
    this.#fail = fail
    this.#lie = lie
    this.#moods = new Moods(seed, calm)
    this.#names = new LossyNames(root, `${root}.lossy`, names, this.#moods)
    this.traits = { parallelOperations: inner.traits?.parallelOperations ?? 4, dsyncTrusted: true }
  }

  /** @param {string} path @param {'read' | 'write'} access @param {'none' | 'dsync'} [sync] @returns {Promise<DiskFile>} */
  async open(path, access, sync = 'none') {
    const node = this.#need('open', path)
    if (node instanceof LossyDirectory) throw this.#fail('EISDIR', 'open', path)
    return await this.#opened(path, node, access, sync)
  }

  /** @param {string} path @param {'none' | 'dsync'} [sync] @returns {Promise<DiskFile>} */
  async create(path, sync = 'none') {
    const { directory, name } = this.#place('create', path)
    if (this.#names.has(directory, name)) throw this.#fail('EEXIST', 'create', path)
    const file = this.#real('create', path, () => this.#names.createFile())
    this.#names.change({ directory, name, node: file })
    return await this.#opened(path, file, 'write', sync)
  }

  /** @param {string} existing @param {string} name */
  async link(existing, name) {
    const node = this.#need('link', existing)
    const target = this.#place('link', name)
    if (this.#names.has(target.directory, target.name)) throw this.#fail('EEXIST', 'link', name)
    this.#names.change({ ...target, node })
    await turn()
  }

  /** @param {string} from @param {string} to */
  async rename(from, to) {
    const node = this.#need('rename', from)
    const target = this.#place('rename', to)
    // Two names of one file stay as they are.
    if (this.#names.find(target.directory, target.name) === node) return
    this.#names.change({ ...target, node }, { ...this.#place('rename', from), node: null })
    await turn()
  }

  /** @param {string} path */
  async unlink(path) {
    const place = this.#place('unlink', path)
    if (!this.#names.has(place.directory, place.name)) throw this.#fail('ENOENT', 'unlink', path)
    this.#names.change({ ...place, node: null })
    await turn()
  }

  /** @param {string} path @returns {Promise<string[]>} */
  async list(path) {
    const directory = this.#directory('list', path)
    await turn()
    return this.#real('list', path, () => this.#names.list(directory))
  }

  /** @param {string} path */
  async makeDirectory(path) {
    const { directory, name } = this.#place('makeDirectory', path)
    const found = this.#names.find(directory, name)
    if (found instanceof LossyFile) throw this.#fail('EEXIST', 'makeDirectory', path)
    if (found === undefined) this.#names.change({ directory, name, node: this.#names.createDirectory() })
    await turn()
  }

  /** @param {string} path */
  async syncDirectory(path) {
    const directory = this.#directory('syncDirectory', path)
    if (this.#lying && this.#lie === 'directory' && PCHANNELS.test(path)) return
    await this.#moods.medium()
    this.#real('syncDirectory', path, () => this.#names.syncDirectory(directory))
  }

  /** @param {string} path @returns {boolean} */
  existsSync(path) {
    if (path === this.#root) return true
    const directory = this.#find(dirname(path))
    return directory instanceof LossyDirectory && this.#names.has(directory, lastName(path))
  }

  /** @param {string} path */
  space(path) {
    return this.#inner.space(this.#find(path) === undefined ? path : this.#root)
  }

  /** @param {string} path */
  identify(path) {
    return this.#inner.identify(this.#find(path) === undefined ? path : this.#root)
  }

  /** From now on the promises of `lie` are broken. */
  startLying() {
    this.#lying = true
  }

  /** As if its process were killed, but for calls that are under way. */
  end() {
    this.#moods.end()
  }

  /** @param {LossyFile} file @param {string} path */
  async syncFile(file, path) {
    const carryOut = async () => {
      await file.sync()
      this.#names.syncFile(file)
    }
    if (this.#liesOfBytes(path)) this.#moods.soon(carryOut)
    else await carryOut()
  }

  /**
   * @param {LossyFile} file @param {import('./lossy-file.mjs').Change} change @param {boolean} synced
   * @param {string} path
   */
  async wrote(file, change, synced, path) {
    if (synced && !this.#liesOfBytes(path)) {
      await file.carryOut(change)
      this.#names.syncFile(file)
      return
    }
    const carryOut = () => void file.carryOut(change).then(() => this.#names.forget(file))
    if (synced) this.#moods.soon(carryOut)
    else this.#moods.background(carryOut)
    await turn()
  }

  /** @param {LossyFile} file */
  closed(file) {
    file.openers--
    this.#names.forget(file)
  }

  /** @param {string} path @returns {boolean} */
  #liesOfBytes(path) {
    return this.#lying && this.#lie === 'sync' && SEGMENTS.test(path)
  }

  /** @template T @param {string} operation @param {string} path @param {() => T} work @returns {T} */
  #real(operation, path, work) {
    try {
      return work()
    } catch (cause) {
      throw this.#fail(/** @type {NodeJS.ErrnoException} */ (cause).code ?? 'EIO', operation, path, cause)
    }
  }

  /** @param {string} path @param {LossyFile} file @param {'read' | 'write'} access @param {'none' | 'dsync'} sync */
  async #opened(path, file, access, sync) {
    file.openers++
    await turn()
    return new OpenFile(this, path, file, access, sync, this.#fail)
  }

  /** @param {string} path @returns {import('./lossy-names.mjs').Node | undefined} */
  #find(path) {
    if (path === this.#root) return this.#names.root
    if (!path.startsWith(`${this.#root}/`)) return undefined
    const parent = this.#find(dirname(path))
    return parent instanceof LossyDirectory ? this.#names.find(parent, lastName(path)) : undefined
  }

  /** @param {string} operation @param {string} path */
  #need(operation, path) {
    const node = this.#find(path)
    if (node === undefined) throw this.#fail('ENOENT', operation, path)
    return node
  }

  /** @param {string} operation @param {string} path */
  #directory(operation, path) {
    const node = this.#need(operation, path)
    if (!(node instanceof LossyDirectory)) throw this.#fail('ENOTDIR', operation, path)
    return node
  }

  /** @param {string} operation @param {string} path */
  #place(operation, path) {
    const directory = this.#find(dirname(path))
    if (!(directory instanceof LossyDirectory)) throw this.#fail('ENOENT', operation, path)
    return { directory, name: lastName(path) }
  }
}

/** @implements {DiskFile} */
class OpenFile {
  path
  #disk
  #file
  #access
  #sync
  #fail
  /** @type {Set<Promise<unknown>>} */
  #inFlight = new Set()
  /** @type {Promise<void> | null} */
  #closing = null

  /**
   * @param {LossyDisk} disk @param {string} path @param {LossyFile} file @param {'read' | 'write'} access
   * @param {'none' | 'dsync'} sync @param {Failure} fail
   */
  constructor(disk, path, file, access, sync, fail) {
    this.#disk = disk
    this.path = path
    this.#file = file
    this.#access = access
    this.#sync = sync
    this.#fail = fail
  }

  /** @param {Uint8Array} target @param {number} offset @param {number} length @param {number} position */
  read(target, offset, length, position) {
    return this.#run('read', async () => {
      await turn()
      return this.#file.read(target, offset, length, position)
    })
  }

  /** @param {Uint8Array} bytes @param {number} position @returns {Promise<void>} */
  write(bytes, position) {
    return this.#run('write', async () => {
      await this.#disk.wrote(this.#file, this.#file.write(bytes, position), this.#sync === 'dsync', this.path)
    })
  }

  /** @returns {Promise<void>} */
  sync() {
    return this.#run('sync', () => this.#disk.syncFile(this.#file, this.path))
  }

  /** @param {number} length @returns {Promise<void>} */
  truncate(length) {
    return this.#run('truncate', () => this.#disk.wrote(this.#file, this.#file.truncate(length), false, this.path))
  }

  size() {
    return this.#run('size', async () => {
      await turn()
      return this.#file.size
    })
  }

  close() {
    this.#closing ??= Promise.allSettled(this.#inFlight).then(() => this.#disk.closed(this.#file))
    return this.#closing
  }

  /** @template T @param {string} operation @param {() => Promise<T>} work @returns {Promise<T>} */
  async #run(operation, work) {
    const changes = operation === 'write' || operation === 'truncate'
    if (this.#closing !== null || (changes && this.#access === 'read')) throw this.#fail('EBADF', operation, this.path)
    const running = work().catch((cause) => {
      throw this.#fail(cause.code ?? 'EIO', operation, this.path, cause)
    })
    this.#inFlight.add(running)
    try {
      return await running
    } finally {
      this.#inFlight.delete(running)
    }
  }
}

/** @returns {Promise<void>} */
function turn() {
  return new Promise((resolve) => setImmediate(resolve))
}

/** @param {string} path @returns {string} */
function lastName(path) {
  return path.slice(path.lastIndexOf('/') + 1)
}
