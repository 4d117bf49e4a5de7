/**
 * The highest time tick that this client has heard of in each group: what it knew when it first tried an idempotency
 * key.
 */
export class KnownTicks {
  readonly #ticks = new Map<number, bigint>()

  /** 0n: none. */
  of(group: number): bigint {
    return this.#ticks.get(group) ?? 0n
  }

  raise(group: number, timeTick: bigint): void {
    if (timeTick > this.of(group)) this.#ticks.set(group, timeTick)
  }
}
