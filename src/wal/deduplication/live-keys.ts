/** Idempotency keys of appends under way: a repeat waits for the first one, and is looked at again then. */

/** Repeats that may wait, of a pchannel. */
export const KEY_WAITERS_MAX = 65_536

interface Holder {
  readonly settled: Promise<void>
  settle(): void
}

export class LiveKeys {
  readonly #holders = new Map<string, Holder>()

  get size(): number {
    return this.#holders.size
  }

  /** Settles when the append that holds the key has; undefined: none does. */
  held(vchannel: string, key: string): Promise<void> | undefined {
    return this.#holders.get(nameOf(vchannel, key))?.settled
  }

  hold(vchannel: string, key: string): void {
    let settle = (): void => {}
    const settled = new Promise<void>((resolve) => {
      settle = resolve
    })
    this.#holders.set(nameOf(vchannel, key), { settled, settle })
  }

  release(vchannel: string, key: string): void {
    const name = nameOf(vchannel, key)
    const holder = this.#holders.get(name)
    this.#holders.delete(name)
    holder?.settle()
  }
}

/** A vchannel's name holds no control characters. */
function nameOf(vchannel: string, key: string): string {
  return `${vchannel}\n${key}`
}
