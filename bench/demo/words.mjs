// What the processes of the demo share: how a word becomes a record, and what is summed up over records.
/** Milvus's number of an Insert message. */
export const INSERT = 2

export const vchannels = ['words-0', 'words-1', 'words-2', 'words-3']

/** @param {number} id @returns {string} */
export function vchannelOf(id) {
  return /** @type {string} */ (vchannels[id % vchannels.length])
}

/** @param {{ id: number, word: string, vector: Buffer }} word */
export function recordOf({ id, word, vector }) {
  return { type: INSERT, properties: { word, id: String(id) }, payload: vector }
}

/**
 * A sum over records that does not depend on their order: two readers that got the same records have the same sum.
 */
export class RecordSum {
  #hash
  #sum = 0n

  /** @param {(bytes: Uint8Array, seed: bigint) => bigint} hash */
  constructor(hash) {
    this.#hash = hash
  }

  /** @param {import('tidelog').ConsumedRecord} record */
  add({ payload, timeTick, properties }) {
    this.#sum = BigInt.asUintN(64, this.#sum + this.#hash(payload, timeTick ^ BigInt(properties.id ?? 0)))
  }

  toString() {
    return this.#sum.toString(16).padStart(16, '0')
  }
}
