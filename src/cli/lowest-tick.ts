/** One watermark out of those of several streams: the lowest, told when it rises. */
export class LowestTick {
  readonly #onRise: (tick: bigint) => void
  readonly #ticks: bigint[] = []
  #told = 0n

  constructor(onRise: (tick: bigint) => void) {
    this.#onRise = onRise
  }

  /** One stream more: until it says something, nothing rises. */
  add(): { raise(tick: bigint): void } {
    const index = this.#ticks.push(0n) - 1
    return {
      raise: (tick) => {
        this.#ticks[index] = tick
        this.#tell()
      },
    }
  }

  #tell(): void {
    let lowest = this.#ticks[0]!
    for (const tick of this.#ticks) if (tick < lowest) lowest = tick
    if (lowest <= this.#told) return
    this.#told = lowest
    this.#onRise(lowest)
  }
}
