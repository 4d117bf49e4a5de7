/** Notes in the log when a pchannel, or the log of the vchannels, becomes stalled or failed, and when it is well again. */
import type { LogStoreStatus } from '../log-store/log-store.ts'
import type { Logger } from '../observability/logger.ts'

const INTERVAL_MS = 1_000

export interface WatchedStates {
  /** By number. */
  pchannels(): readonly LogStoreStatus[]
  catalog(): LogStoreStatus
  /** Called before each look: finds out what only shows when somebody looks. */
  look(): void
}

/** Looks once a second; gives the function that ends it. Does not keep the process alive. */
export function watchStates(
  watched: WatchedStates,
  clock: { after(delayMs: number, callback: () => void): { cancel(): void } },
  logger: Logger,
): () => void {
  const states = () => [...watched.pchannels(), watched.catalog()]
  let before = states().map(({ state }) => state)
  let timer = clock.after(INTERVAL_MS, check)
  function check(): void {
    watched.look()
    const now = states()
    for (const [index, { state, message }] of now.entries()) {
      if (state === before[index]) continue
      const isCatalog = index === now.length - 1
      const what = isCatalog ? 'the log of the vchannels' : 'pchannel'
      const which = isCatalog ? {} : { pchannel: index }
      const meanwhile = isCatalog ? 'none can be created, everything else goes on' : 'the others go on'
      if (state === 'failed') logger.error(`${what} failed; ${meanwhile}`, { ...which, message })
      else if (state === 'stalled') logger.warn(`${what} is stalled`, { ...which, message })
      else if (before[index] === 'stalled') logger.info(`${what} goes on`, which)
    }
    before = now.map(({ state }) => state)
    timer = clock.after(INTERVAL_MS, check)
  }
  return () => timer.cancel()
}
