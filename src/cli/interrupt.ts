/**
 * Ctrl-C: the first asks the command to stop, the second stops it at once. Watched only from the first use of `signal`:
 * the daemon handles its signals itself.
 */
import { ExitCode } from './exit-codes.ts'

export class Interrupt {
  readonly #controller = new AbortController()
  #watching = false

  /** Aborted by SIGINT. */
  get signal(): AbortSignal {
    if (!this.#watching) {
      this.#watching = true
      process.on('SIGINT', this.#onSignal)
    }
    return this.#controller.signal
  }

  get happened(): boolean {
    return this.#controller.signal.aborted
  }

  /** Ends the watch, so that nothing keeps the process from ending. */
  release(): void {
    process.off('SIGINT', this.#onSignal)
  }

  readonly #onSignal = () => {
    if (this.#controller.signal.aborted) process.exit(ExitCode.interrupted)
    this.#controller.abort(new Error('interrupted'))
  }
}
