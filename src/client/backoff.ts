/** Exponential backoff with full jitter: 0 to the bound, which doubles with each try. */
export class Backoff {
  readonly #firstMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #tries = 0

  constructor(firstMs: number, maxMs: number, random: () => number) {
    this.#firstMs = firstMs
    this.#maxMs = maxMs
    this.#random = random
  }

  nextMs(): number {
    const boundMs = Math.min(this.#maxMs, this.#firstMs * 2 ** Math.min(this.#tries, 30))
    this.#tries++
    return this.#random() * boundMs
  }

  reset(): void {
    this.#tries = 0
  }
}
