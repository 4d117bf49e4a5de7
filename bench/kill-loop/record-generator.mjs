// What a record holds follows from the seed, its vchannel and its number there: whoever reads it can make it again and
// compare byte for byte.
import { mix32, Random } from '../harness/random.mjs'

const KIB = 1024
/** Milvus's numbers for Insert and Delete, an application record, and types that are free for users. */
const types = [0, 2, 3, 32_768, 65_535]

/**
 * @typedef {{ type: number, properties: Record<string, string>, payload: Buffer | null }} GeneratedRecord
 */

export class RecordGenerator {
  #seed

  /** @param {number} seed */
  constructor(seed) {
    this.#seed = seed
  }

  /**
   * @param {number} lane number of the vchannel
   * @param {number} seq number of the record there
   * @returns {GeneratedRecord}
   */
  record(lane, seq) {
    const random = new Random(mix32(this.#seed ^ mix32(lane + 1)) ^ mix32(seq))
    /** @type {Record<string, string>} */
    const properties = { seq: String(seq) }
    if (random.chance(0.25)) properties[`key-${random.between(0, 9)}`] = 'ä'.repeat(random.between(0, 20))
    const type = random.pick(types)
    if (random.chance(0.01)) return { type, properties, payload: null }
    return { type, properties, payload: bytesOf(random, payloadLength(random)) }
  }
}

/** Mostly what records are like; some empty, some of several pages, a few that fill a write of their own. */
/** @param {Random} random @returns {number} bytes */
function payloadLength(random) {
  const kind = random.between(0, 999)
  if (kind < 20) return 0
  if (kind < 900) return random.between(1, KIB)
  if (kind < 995) return random.between(KIB, 8 * KIB)
  return random.between(8 * KIB, 128 * KIB)
}

/** @param {Random} random @param {number} length @returns {Buffer} */
function bytesOf(random, length) {
  const words = new Int32Array(Math.ceil(length / 4))
  let state = random.next() | 1
  for (let index = 0; index < words.length; index++) {
    // xorshift32: fast, and no two stretches of it are the same.
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[index] = state
  }
  return Buffer.from(words.buffer, 0, length)
}

/**
 * How a record that was read differs from the one that was produced; null: not at all.
 * @param {GeneratedRecord} produced
 * @param {{ type: number, properties: Readonly<Record<string, string>>, payload: Uint8Array, isNull: boolean }} read
 * @returns {string | null}
 */
export function differenceOf(produced, read) {
  if (read.type !== produced.type) return `type ${read.type} instead of ${produced.type}`
  if (read.isNull !== (produced.payload === null)) return read.isNull ? 'a null payload' : 'a payload that is not null'
  const payload = produced.payload ?? Buffer.alloc(0)
  if (!payload.equals(read.payload)) return `other payload (${read.payload.length} bytes of ${payload.length})`
  const names = Object.keys(produced.properties)
  const same = names.every((name) => read.properties[name] === produced.properties[name])
  if (!same || names.length !== Object.keys(read.properties).length) return 'other properties'
  return null
}
