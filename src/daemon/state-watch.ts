/** Notes in the log when a pchannel becomes stalled or failed, and when it is well again. */
import type { LogStoreStatus } from '../log-store/log-store.ts'
import type { Logger } from '../observability/logger.ts'

const INTERVAL_MS = 1_000

/** Looks once a second, with `look` before; gives the function that ends it. Does not keep the process alive. */
export function watchStates(
  states: () => readonly LogStoreStatus[],
  look: () => void,
  clock: { after(delayMs: number, callback: () => void): { cancel(): void } },
  logger: Logger,
): () => void {
  let before = states().map(({ state }) => state)
  let timer = clock.after(INTERVAL_MS, check)
  function check(): void {
    look()
    const now = states()
    for (const [pchannel, { state, message }] of now.entries()) {
      if (state === before[pchannel]) continue
      if (state === 'failed') logger.error('pchannel failed; the others go on', { pchannel, message })
      else if (state === 'stalled') logger.warn('pchannel is stalled', { pchannel, message })
      else if (before[pchannel] === 'stalled') logger.info('pchannel goes on', { pchannel })
    }
    before = now.map(({ state }) => state)
    timer = clock.after(INTERVAL_MS, check)
  }
  return () => timer.cancel()
}
