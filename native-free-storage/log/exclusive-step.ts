/**
 * Steps that no flush may overtake: carry-over, begin, roll, cut, lease. One at a time, each within a deadline. What one
 * throws, and what does not answer, ends the writer.
 */
import type { Timer } from '../environment.ts'
import { assert, type TidelogError } from '../errors.ts'
import { asFailure, diskDoesNotAnswer } from './append-errors.ts'
import type { WriterSettings } from './writer-start.ts'

/** A step that takes this many deadlines of a write ends the writer. */
const STEP_DEADLINES = 3

export class ExclusiveStep {
  readonly #settings: WriterSettings
  readonly #onFailure: (error: TidelogError) => void
  readonly #onEnd: () => void
  #isRunning = false

  constructor(settings: WriterSettings, onFailure: (error: TidelogError) => void, onEnd: () => void) {
    this.#settings = settings
    this.#onFailure = onFailure
    this.#onEnd = onEnd
  }

  get isRunning(): boolean {
    return this.#isRunning
  }

  run(step: Promise<void>): void {
    assert(!this.#isRunning, 'one step at a time')
    this.#isRunning = true
    const { directory } = this.#settings
    const late = this.#afterDeadline(() => this.#onFailure(diskDoesNotAnswer(directory)))
    step
      .catch((error) => this.#onFailure(asFailure(error, directory)))
      .finally(() => {
        late.cancel()
        this.#isRunning = false
        this.#onEnd()
      })
  }

  /** A step of the closing, as long as a step of the work may take; TIMEOUT when the disk does not answer. */
  async withinDeadline(step: Promise<void>): Promise<void> {
    let late: Timer | undefined
    const deadline = new Promise<never>((_, reject) => {
      late = this.#afterDeadline(() => reject(diskDoesNotAnswer(this.#settings.directory)))
    })
    try {
      await Promise.race([step, deadline])
    } finally {
      late?.cancel()
    }
  }

  #afterDeadline(callback: () => void): Timer {
    const { environment, writeDeadlineMs } = this.#settings
    return environment.clock.after(STEP_DEADLINES * writeDeadlineMs, callback)
  }
}
