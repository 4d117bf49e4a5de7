/** Time and timers of the connection layer, passed in so that a test or a simulation drives them. */
export interface ConnectionClock {
  /** Milliseconds that only grow; the origin is arbitrary. */
  monotonicMs(): number
  /**
   * Calls back once, after at least `delayMs`. With `keepAlive` the process lives until then: somebody waits for what
   * comes of it, and no socket is open meanwhile.
   */
  after(delayMs: number, callback: () => void, keepAlive?: boolean): { cancel(): void }
}

export const systemClock: ConnectionClock = {
  monotonicMs: () => performance.now(),
  after(delayMs, callback, keepAlive = false) {
    const timer = setTimeout(callback, delayMs)
    if (!keepAlive) timer.unref()
    return { cancel: () => clearTimeout(timer) }
  },
}
