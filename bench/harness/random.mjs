// Random numbers from a seed: what a run decided can be decided again.

/** A permutation of 32-bit numbers in which every bit depends on every bit (the finalizer of MurmurHash3). */
/** @param {number} value @returns {number} */
export function mix32(value) {
  let mixed = value | 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

export class Random {
  #state

  /** @param {number} seed 32 bits; more are ignored */
  constructor(seed) {
    this.#state = mix32(seed + 0x9e3779b9)
  }

  /** 32 random bits. */
  next() {
    this.#state = (this.#state + 0x9e3779b9) | 0
    return mix32(this.#state)
  }

  /** An integer from `least` to `most`, both included. */
  /** @param {number} least @param {number} most @returns {number} */
  between(least, most) {
    return least + (this.next() % (most - least + 1))
  }

  /** @param {number} probability from 0 to 1 @returns {boolean} */
  chance(probability) {
    return this.next() < probability * 0x1_0000_0000
  }

  /**
   * @template T
   * @param {readonly T[]} items
   * @returns {T}
   */
  pick(items) {
    return /** @type {T} */ (items[this.next() % items.length])
  }

  /**
   * The same items in another order.
   * @template T
   * @param {readonly T[]} items
   * @returns {T[]}
   */
  shuffled(items) {
    const order = [...items]
    for (let left = order.length; left > 1; left--) {
      const other = this.between(0, left - 1)
      const item = /** @type {T} */ (order[left - 1])
      order[left - 1] = /** @type {T} */ (order[other])
      order[other] = item
    }
    return order
  }
}
