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

/** Of a stop that did not get through within its bound. */
const UNCLEAN = 1
/** Of a stop at once: what was under way is recovered at the next start. */
const INTERRUPTED = 130

/**
 * Settles with 0 when a signal has stopped the daemon and all was drained and sealed within the bound. Else it ends the
 * process with 1, and at a second signal with 130.
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
        // What is stuck in the system would keep the process alive.
        if (!clean) source.exit(UNCLEAN)
        resolve(clean ? 0 : UNCLEAN)
      })
    }
    for (const name of signals) source.on(name, onSignal)
  })
}
