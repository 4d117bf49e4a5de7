/** Deterministic random numbers (xoshiro128**, seeded by splitmix32). */
export class Random {
  readonly #state: Uint32Array

  constructor(seed: number | string) {
    let mixed = typeof seed === 'number' ? seed >>> 0 : hashText(seed)
    const high = typeof seed === 'number' ? Math.floor(seed / 2 ** 32) >>> 0 : 0
    mixed = (mixed ^ Math.imul(high, 0x9e3779b1)) >>> 0
    this.#state = new Uint32Array(4)
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0
      let word = mixed
      word = Math.imul(word ^ (word >>> 16), 0x21f0aaad)
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97)
      this.#state[i] = word ^ (word >>> 15)
    }
  }

  u32(): number {
    const s = this.#state
    const [a, b, c, d] = [s[0]!, s[1]!, s[2]!, s[3]!]
    const scrambled = Math.imul(b, 5)
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0
    const c1 = c ^ a
    const d1 = d ^ b
    s[1] = b ^ c1
    s[0] = a ^ d1
    s[2] = c1 ^ (b << 9)
    s[3] = (d1 << 11) | (d1 >>> 21)
    return result
  }

  /** In [0, 1). */
  fraction(): number {
    return this.u32() / 2 ** 32
  }

  /** An integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.fraction() * bound)
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('pick of nothing')
    return item
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i += 4) {
      const word = this.u32()
      bytes[i] = word >>> 24
      if (i + 1 < length) bytes[i + 1] = word >>> 16
      if (i + 2 < length) bytes[i + 2] = word >>> 8
      if (i + 3 < length) bytes[i + 3] = word
    }
    return bytes
  }

  /** A generator of its own, so that use of one part does not shift another. */
  fork(label: string): Random {
    return new Random((this.u32() ^ hashText(label)) >>> 0)
  }
}

function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
