// A file of the lossy disk: its bytes on the real file system are those that are durable; what was written and not
// synced is kept here, in memory, and is gone when the process is killed.
import fs from 'node:fs'

const SECTOR_BYTES = 512
const PIECES_MAX = 4

/**
 * What was done to a file and is not durable.
 * @typedef {{ position: number, bytes: Buffer, length: null } | { position: 0, bytes: null, length: number }} Content
 *   bytes at a position, or a new length
 * @typedef {Content & { behind: Change[], carried: Promise<void> | null }} Change `behind`: it must not overtake them
 */

export class LossyFile {
  /** Its name in the folder of the names that are not durable. */
  path
  /** On the real file system. */
  inode
  /** As openers see it. */
  size
  openers = 0
  /** Changes of names that name it and are not durable. */
  pendingNames = 0
  #descriptor
  #moods
  /** @type {Change[]} in the order in which they were made */
  #pending = []

  /** @param {string} path @param {number} descriptor for reading and writing @param {import('./lossy-disk.mjs').Moods} moods */
  constructor(path, descriptor, moods) {
    this.path = path
    this.#descriptor = descriptor
    this.#moods = moods
    const { ino, size } = fs.fstatSync(descriptor)
    this.inode = ino
    this.size = size
  }

  /** Whether nobody needs this object: all of it is on the real file system. */
  get isIdle() {
    return this.openers === 0 && this.pendingNames === 0 && this.#pending.length === 0
  }

  /** What is durable, with what is pending laid over it. */
  /** @param {Uint8Array} target @param {number} offset @param {number} length @param {number} position @returns {number} */
  read(target, offset, length, position) {
    const count = Math.max(0, Math.min(length, this.size - position))
    const view = target.subarray(offset, offset + count)
    view.fill(0)
    for (let done = 0; done < count; ) {
      const part = fs.readSync(this.#descriptor, view, done, count - done, position + done)
      if (part === 0) break
      done += part
    }
    for (const change of this.#pending) {
      if (change.bytes === null) view.subarray(Math.max(0, Math.min(count, change.length - position))).fill(0)
      else layOver(view, position, change)
    }
    return count
  }

  /** Seen by readers at once, durable when it is carried out. */
  /** @param {Uint8Array} bytes @param {number} position @returns {Change} */
  write(bytes, position) {
    const end = position + bytes.length
    const behind = this.#pending.filter(
      (other) => other.bytes === null || (other.position < end && position < other.position + other.bytes.length),
    )
    if (bytes.length > 0) this.size = Math.max(this.size, end)
    return this.#add({ position, bytes: Buffer.from(bytes), length: null, behind, carried: null })
  }

  /** @param {number} length @returns {Change} */
  truncate(length) {
    this.size = length
    return this.#add({ position: 0, bytes: null, length, behind: [...this.#pending], carried: null })
  }

  /** Makes all that is pending now durable. */
  async sync() {
    await Promise.all(this.#pending.map((change) => this.carryOut(change)))
  }

  /** @param {Change} change @returns {Promise<void>} */
  carryOut(change) {
    change.carried ??= this.#carryOut(change)
    return change.carried
  }

  close() {
    fs.closeSync(this.#descriptor)
    fs.unlinkSync(this.path)
  }

  /** @param {Change} change @returns {Change} */
  #add(change) {
    this.#pending.push(change)
    return change
  }

  /** In pieces, in any order: a kill in between leaves it torn. */
  /** @param {Change} change */
  async #carryOut(change) {
    await Promise.all(change.behind.map((other) => this.carryOut(other)))
    change.behind = []
    await this.#moods.medium()
    if (change.bytes === null) fs.ftruncateSync(this.#descriptor, change.length)
    else {
      for (const [from, to] of this.#pieces(change.position, change.bytes.length)) {
        for (let done = from; done < to; ) {
          done += fs.writeSync(this.#descriptor, change.bytes, done, to - done, change.position + done)
        }
        await this.#moods.betweenPieces()
      }
    }
    this.#pending.splice(this.#pending.indexOf(change), 1)
  }

  /** Cut at borders of sectors. */
  /** @param {number} position @param {number} length @returns {[number, number][]} */
  #pieces(position, length) {
    if (length === 0) return []
    const { random } = this.#moods
    const cuts = new Set([0, length])
    for (let count = random.between(0, PIECES_MAX - 1); count > 0; count--) {
      const at = position + random.between(0, length)
      const cut = at - (at % SECTOR_BYTES) - position
      if (cut > 0) cuts.add(cut)
    }
    const sorted = [...cuts].sort((a, b) => a - b)
    const pieces = sorted.slice(1).map((to, index) => /** @type {[number, number]} */ ([sorted[index], to]))
    return random.shuffled(pieces)
  }
}

/** @param {Uint8Array} view @param {number} viewPosition @param {{ position: number, bytes: Buffer }} change */
function layOver(view, viewPosition, { position, bytes }) {
  const from = Math.max(position, viewPosition)
  const to = Math.min(position + bytes.length, viewPosition + view.length)
  if (from < to) view.set(bytes.subarray(from - position, to - position), from - viewPosition)
}
