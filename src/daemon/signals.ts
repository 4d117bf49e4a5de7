/** SIGTERM and SIGINT: the first drains and stops, the second stops at once. */
import type { Logger } from '../observability/logger.ts'
import type { Daemon } from './daemon.ts'

const signals = ['SIGTERM', 'SIGINT'] as const

/** What is used of the process. */
export interface SignalSource {
  on(signal: (typeof signals)[number], listener: (signal: string) => void): unknown
  off(signal: (typeof signals)[number], listener: (signal: string) => void): unknown
  exit(code: number): void
}

/** Of a stop at once: what was under way is recovered at the next start. */
const INTERRUPTED = 130

/**
 * Settles when a signal has stopped the daemon, with the exit code: 0 when all was drained and sealed within the bound,
 * 1 when it was not. A second signal ends the process with 130.
 */
export function stopOnSignals(daemon: Daemon, logger: Logger, source: SignalSource = process): Promise<number> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (signal: string) => {
      if (asked) {
        logger.warn('stopping at once', { signal })
        source.exit(INTERRUPTED)
        return
      }
      asked = true
      logger.info('draining; a second signal stops at once', { signal })
      void daemon.stop().then(({ clean }) => {
        for (const name of signals) source.off(name, onSignal)
        resolve(clean ? 0 : 1)
      })
    }
    for (const name of signals) source.on(name, onSignal)
  })
}
