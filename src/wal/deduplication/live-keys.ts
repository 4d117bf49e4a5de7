/** Idempotency keys of appends under way: a repeat waits for the first one, and is looked at again then. */

/** Repeats that may wait, of a pchannel. */
export const KEY_WAITERS_MAX = 65_536

interface Waiters {
  readonly settled: Promise<void>
  settle(): void
}

/** Null: nobody waits, as for nearly all. */
type HeldKeys = Map<string, Waiters | null>

export class LiveKeys {
  /** Those that hold keys, and the last one that did. */
  readonly #vchannels = new Map<string, HeldKeys>()
  #lastName: string | null = null
  #last: HeldKeys | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  has(vchannel: string, key: string): boolean {
    return this.#keysOf(vchannel)?.has(key) === true
  }

  /** Settles when the append that holds the key has; undefined: none does. */
  held(vchannel: string, key: string): Promise<void> | undefined {
    const keys = this.#keysOf(vchannel)
    const known = keys?.get(key)
    if (known === undefined) return undefined
    if (known !== null) return known.settled
    let settle = (): void => {}
    const settled = new Promise<void>((resolve) => {
      settle = resolve
    })
    keys!.set(key, { settled, settle })
    return settled
  }

  hold(vchannel: string, key: string): void {
    let keys = this.#keysOf(vchannel)
    if (keys === undefined) {
      if (this.#last?.size === 0) this.#vchannels.delete(this.#lastName!)
      keys = new Map()
      this.#vchannels.set(vchannel, keys)
      this.#lastName = vchannel
      this.#last = keys
    }
    keys.set(key, null)
    this.#size++
  }

  release(vchannel: string, key: string): void {
    const keys = this.#keysOf(vchannel)
    const waiters = keys?.get(key)
    if (waiters === undefined) return
    keys!.delete(key)
    this.#size--
    if (keys!.size === 0 && keys !== this.#last) this.#vchannels.delete(vchannel)
    waiters?.settle()
  }

  #keysOf(vchannel: string): HeldKeys | undefined {
    return vchannel === this.#lastName ? this.#last! : this.#vchannels.get(vchannel)
  }
}
