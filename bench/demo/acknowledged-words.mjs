// Which word was acknowledged with which LSN and time tick: what the read-back is judged by.
import { readFile, writeFile } from 'node:fs/promises'

/** A tick is never 0. */
const NOT_YET = 0n

export class AcknowledgedWords {
  /** @type {Float64Array<ArrayBuffer>} */
  #lsns
  /** @type {BigUint64Array<ArrayBuffer>} */
  #ticks
  count = 0

  /** @param {number} words */
  constructor(words) {
    this.#lsns = new Float64Array(words)
    this.#ticks = new BigUint64Array(words)
  }

  get words() {
    return this.#lsns.length
  }

  /** @param {number} id @returns {boolean} */
  has(id) {
    return this.#ticks[id] !== NOT_YET
  }

  /** @param {number} id @param {number} lsn @param {bigint} timeTick */
  add(id, lsn, timeTick) {
    if (!this.has(id)) this.count++
    this.#lsns[id] = lsn
    this.#ticks[id] = timeTick
  }

  /** @param {number} id @param {number} lsn @param {bigint} timeTick @returns {boolean} */
  isAt(id, lsn, timeTick) {
    return this.#lsns[id] === lsn && this.#ticks[id] === timeTick
  }

  /** @param {string} path */
  async save(path) {
    await writeFile(path, Buffer.concat([Buffer.from(this.#lsns.buffer), Buffer.from(this.#ticks.buffer)]))
  }

  /** @param {string} path @returns {Promise<AcknowledgedWords>} */
  static async load(path) {
    const bytes = new Uint8Array(await readFile(path))
    const half = bytes.length / 2
    const loaded = new AcknowledgedWords(half / Float64Array.BYTES_PER_ELEMENT)
    loaded.#lsns = new Float64Array(bytes.slice(0, half).buffer)
    loaded.#ticks = new BigUint64Array(bytes.slice(half).buffer)
    for (const tick of loaded.#ticks) if (tick !== NOT_YET) loaded.count++
    return loaded
  }
}
