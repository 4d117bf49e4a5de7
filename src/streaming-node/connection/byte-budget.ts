/** What all connections of a node may hold together: each is bounded by itself, and there may be many. */
export class ByteBudget {
  readonly bytesMax: number
  #heldBytes = 0
  readonly #waiting = new Set<() => void>()

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get isFull(): boolean {
    return this.#heldBytes > this.bytesMax
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  take(bytes: number): void {
    this.#heldBytes += bytes
  }

  give(bytes: number): void {
    const wasFull = this.isFull
    this.#heldBytes -= bytes
    if (!wasFull || this.isFull) return
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  /** Calls `wake` once, when there is room again. The same function waits only once. */
  whenRoom(wake: () => void): void {
    this.#waiting.add(wake)
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake)
  }
}
