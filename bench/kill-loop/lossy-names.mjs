// The names of the lossy disk: the real directories hold those that are durable; what was created, linked, renamed or
// unlinked since is kept here, in memory. A file or directory whose name is not durable lies under a number in a folder
// beside the data, which the next process empties.
//
// `strict`: a change becomes durable only by a sync of its directory. A rename into another directory may leave both
// names, but never neither.
// `ext4`: changes become durable in order; a sync of a directory takes all before its own last change with it, and so
// does the sync of a file with the changes of its names.
import fs from 'node:fs'
import { LossyFile } from './lossy-file.mjs'

export class LossyDirectory {
  /** Where it is on the real file system now. */
  realPath
  /** Names that differ from the durable ones, with the number of changes that made them so. */
  /** @type {Map<string, { node: Node | null, changes: number }>} */
  pending = new Map()
  /** Directories in it that were met. */
  /** @type {Map<string, LossyDirectory>} */
  met = new Map()

  /** @param {string} realPath */
  constructor(realPath) {
    this.realPath = realPath
  }
}

/**
 * @typedef {LossyFile | LossyDirectory} Node
 * @typedef {{ directory: LossyDirectory, name: string, node: Node | null }} Effect null: the name is gone
 * @typedef {{ effects: Effect[] }} Change what appears before what goes; those that are durable are taken out
 */

export class LossyNames {
  /** @type {LossyDirectory} */
  root
  #mode
  #limbo
  #moods
  /** @type {Change[]} */
  #pending = []
  /** By inode, those that are open or pending. */
  /** @type {Map<number, LossyFile>} */
  #files = new Map()
  #count = 0

  /**
   * @param {string} root exists @param {string} limbo a folder on the same file system; emptied
   * @param {'strict' | 'ext4'} mode @param {import('./lossy-disk.mjs').Moods} moods
   */
  constructor(root, limbo, mode, moods) {
    this.root = new LossyDirectory(root)
    this.#limbo = limbo
    this.#mode = mode
    this.#moods = moods
    fs.rmSync(limbo, { recursive: true, force: true })
    fs.mkdirSync(limbo, { mode: 0o700 })
  }

  /** What a name leads to, as openers see it. A file that is given has to be let go with `forget`. */
  /** @param {LossyDirectory} directory @param {string} name @returns {Node | undefined} */
  find(directory, name) {
    const changed = directory.pending.get(name)
    if (changed !== undefined) return changed.node ?? undefined
    const met = directory.met.get(name)
    if (met !== undefined) return met
    const path = `${directory.realPath}/${name}`
    const found = fs.lstatSync(path, { throwIfNoEntry: false })
    if (found === undefined) return undefined
    if (found.isDirectory()) {
      const child = new LossyDirectory(path)
      directory.met.set(name, child)
      return child
    }
    return this.#files.get(found.ino) ?? this.#take(path)
  }

  /** @param {LossyDirectory} directory @param {string} name @returns {boolean} */
  has(directory, name) {
    const changed = directory.pending.get(name)
    if (changed !== undefined) return changed.node !== null
    return fs.lstatSync(`${directory.realPath}/${name}`, { throwIfNoEntry: false }) !== undefined
  }

  /** @param {LossyDirectory} directory @returns {string[]} */
  list(directory) {
    const names = new Set(fs.readdirSync(directory.realPath))
    for (const [name, { node }] of directory.pending) {
      if (node === null) names.delete(name)
      else names.add(name)
    }
    return [...names]
  }

  /** @returns {LossyFile} without a name */
  createFile() {
    return this.#open(this.#freshPath(), 'wx+')
  }

  /** @returns {LossyDirectory} without a name */
  createDirectory() {
    const path = this.#freshPath()
    fs.mkdirSync(path, { mode: 0o700 })
    return new LossyDirectory(path)
  }

  /** Openers see it at once; it is durable when a sync has carried it out. */
  /** @param {Effect[]} effects */
  change(...effects) {
    for (const { directory, name, node } of effects) {
      const changes = (directory.pending.get(name)?.changes ?? 0) + 1
      directory.pending.set(name, { node, changes })
      if (node instanceof LossyFile) node.pendingNames++
    }
    const change = { effects: [...effects] }
    this.#pending.push(change)
    this.#moods.background(() => this.#writeBack(change))
  }

  /** @param {LossyDirectory} directory */
  syncDirectory(directory) {
    const touches = (/** @type {Change} */ { effects }) => effects.some((effect) => effect.directory === directory)
    if (this.#mode === 'ext4') this.#carryOutUpTo(this.#pending.findLastIndex(touches))
    else for (const change of this.#pending.filter(touches)) this.#carryOutIn(change, directory)
  }

  /** What the sync of a file takes with it. */
  /** @param {LossyFile} file */
  syncFile(file) {
    if (this.#mode === 'strict') return
    this.#carryOutUpTo(this.#pending.findLastIndex(({ effects }) => effects.some(({ node }) => node === file)))
  }

  /** Closes a file that nobody needs. */
  /** @param {Node | undefined | null} node */
  forget(node) {
    if (!(node instanceof LossyFile) || !node.isIdle) return
    if (this.#files.get(node.inode) !== node) return
    this.#files.delete(node.inode)
    node.close()
  }

  /** @param {Change} change */
  #writeBack(change) {
    const index = this.#pending.indexOf(change)
    if (index < 0) return
    if (this.#mode === 'ext4') this.#carryOutUpTo(index)
    else this.#carryOut(change, change.effects)
  }

  /** @param {number} last */
  #carryOutUpTo(last) {
    for (const change of this.#pending.slice(0, last + 1)) this.#carryOut(change, change.effects)
  }

  /** The part of a change that belongs to a directory; a name that goes takes the one that appears with it. */
  /** @param {Change} change @param {LossyDirectory} directory */
  #carryOutIn(change, directory) {
    const leaves = change.effects.some((effect) => effect.directory === directory && effect.node === null)
    this.#carryOut(change, leaves ? change.effects : change.effects.filter((effect) => effect.directory === directory))
  }

  /** @param {Change} change @param {readonly Effect[]} effects of it */
  #carryOut(change, effects) {
    // A name that was changed more than once is changed in order.
    for (const earlier of this.#pending.slice(0, this.#pending.indexOf(change))) {
      const same = earlier.effects.filter((old) =>
        effects.some(({ directory, name }) => old.directory === directory && old.name === name),
      )
      if (same.length > 0) this.#carryOut(earlier, earlier.effects)
    }
    const [appears, goes] = effects
    if (this.#isAtomicRename(appears, goes)) {
      fs.renameSync(realPath(/** @type {Effect} */ (goes)), realPath(/** @type {Effect} */ (appears)))
    } else for (const effect of effects) this.#enter(effect)
    const done = new Set(effects)
    change.effects = change.effects.filter((effect) => !done.has(effect))
    if (change.effects.length === 0) this.#pending = this.#pending.filter((other) => other !== change)
    for (const { directory, name, node } of done) {
      const changed = /** @type {{ node: Node | null, changes: number }} */ (directory.pending.get(name))
      if (--changed.changes === 0) directory.pending.delete(name)
      if (node instanceof LossyFile) node.pendingNames--
      this.forget(node)
    }
  }

  /** @param {Effect | undefined} appears @param {Effect | undefined} goes @returns {boolean} */
  #isAtomicRename(appears, goes) {
    if (!(appears?.node instanceof LossyFile) || goes === undefined) return false
    if (this.#mode === 'strict' && appears.directory !== goes.directory) return false
    const inodeOf = (/** @type {string} */ path) => fs.lstatSync(path, { throwIfNoEntry: false })?.ino
    const inode = inodeOf(appears.node.path)
    return inodeOf(realPath(goes)) === inode && inodeOf(realPath(appears)) !== inode
  }

  /** @param {Effect} effect */
  #enter(effect) {
    const { node } = effect
    const path = realPath(effect)
    if (node === null) fs.rmSync(path, { force: true })
    else if (node instanceof LossyDirectory) {
      fs.renameSync(node.realPath, path)
      node.realPath = path
      effect.directory.met.set(effect.name, node)
    } else {
      // By a name in between, which takes the place of what is there in one step.
      const between = this.#freshPath()
      fs.linkSync(node.path, between)
      fs.renameSync(between, path)
      fs.rmSync(between, { force: true })
    }
  }

  /** A file that has its name from before. */
  /** @param {string} path @returns {LossyFile} */
  #take(path) {
    const own = this.#freshPath()
    fs.linkSync(path, own)
    return this.#open(own, 'r+')
  }

  /** @param {string} path @param {string} flags @returns {LossyFile} */
  #open(path, flags) {
    const descriptor = fs.openSync(path, flags, 0o600)
    const file = new LossyFile(path, descriptor, this.#moods)
    this.#files.set(file.inode, file)
    return file
  }

  #freshPath() {
    return `${this.#limbo}/${this.#count++}`
  }
}

/** @param {Effect} effect @returns {string} */
function realPath({ directory, name }) {
  return `${directory.realPath}/${name}`
}
