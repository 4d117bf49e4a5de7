/**
 * How much lies in the quarantine of each log of a data directory. It grows when a log is opened or repaired, and only
 * people remove something: so it is measured once a minute, and not when somebody asks.
 */
import { type Environment, quarantineOf } from '../../native-free-storage/index.ts'

const INTERVAL_MS = 60_000

export class QuarantineWatch {
  readonly #environment: Environment
  readonly #directories: readonly string[]
  readonly #bytes: (number | undefined)[] = []
  #timer: { cancel(): void } | null = null
  #closed = false

  /** Begins to measure: `directories` of logs. */
  constructor(environment: Environment, directories: readonly string[]) {
    this.#environment = environment
    this.#directories = directories
    void this.#measure()
  }

  /** Of the log with this index; undefined while it is not known, or cannot be read. */
  bytes(index: number): number | undefined {
    return this.#bytes[index]
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
  }

  async #measure(): Promise<void> {
    for (const [index, directory] of this.#directories.entries()) {
      if (this.#closed) return
      this.#bytes[index] = await quarantineOf(this.#environment, directory).then(
        ({ bytes }) => bytes,
        () => undefined,
      )
    }
    if (!this.#closed) this.#timer = this.#environment.clock.after(INTERVAL_MS, () => void this.#measure())
  }
}
