/**
 * One listener a signal, however many wait for it: a signal shared by thousands of appends is no leak, and leaving costs
 * the same for the first and the last.
 */
interface Listeners {
  callbacks: Set<() => void>
  listener: () => void
}

const known = new WeakMap<AbortSignal, Listeners>()

/** Calls back once when the signal aborts; it has not yet. Returns what takes the callback back. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let listeners = known.get(signal)
  if (listeners === undefined) {
    const callbacks = new Set<() => void>()
    const listener = () => {
      known.delete(signal)
      for (const each of [...callbacks]) each()
    }
    listeners = { callbacks, listener }
    known.set(signal, listeners)
    signal.addEventListener('abort', listener, { once: true })
  }
  const { callbacks, listener } = listeners
  callbacks.add(callback)
  return () => {
    if (!callbacks.delete(callback) || callbacks.size > 0) return
    signal.removeEventListener('abort', listener)
    known.delete(signal)
  }
}
