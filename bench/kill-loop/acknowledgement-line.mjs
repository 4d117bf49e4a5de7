// What the load tells the ledger, one JSON array a line: [what, lane, first number, count, LSN, tick, code].

/**
 * - `a`: acknowledged, with the LSN and tick of the first; the others have the ones behind
 * - `u`, `n`: failed with the outcome `unknown` or `not-written`, with the code of the error
 * @typedef {{ what: 'a' | 'u' | 'n', lane: number, first: number, count: number, lsn: number, tick: bigint, code: string }} Outcome
 */

/** Gathers what is settled in one turn of the event loop into runs, and writes each as a line. */
export class OutcomeWriter {
  #stream
  /** @type {(Outcome | undefined)[]} by lane */
  #runs = []
  #scheduled = false

  /** @param {import('node:stream').Writable} stream */
  constructor(stream) {
    this.#stream = stream
  }

  /** Settles when the ledger keeps up. */
  async room() {
    while (this.#stream.writableNeedDrain) await new Promise((resolve) => this.#stream.once('drain', resolve))
  }

  /** @param {Outcome} outcome */
  write(outcome) {
    const run = this.#runs[outcome.lane]
    if (run !== undefined && continues(run, outcome)) run.count += outcome.count
    else {
      if (run !== undefined) this.#stream.write(lineOf(run))
      this.#runs[outcome.lane] = { ...outcome }
    }
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  async end() {
    this.#flush()
    await new Promise((resolve) => this.#stream.end(() => resolve(undefined)))
  }

  #flush() {
    this.#scheduled = false
    for (const run of this.#runs) if (run !== undefined) this.#stream.write(lineOf(run))
    this.#runs = []
  }
}

/** Batches that failed stay apart: each is there whole or not at all. */
/** @param {Outcome} run @param {Outcome} next @returns {boolean} */
function continues(run, next) {
  return (
    run.what === 'a' &&
    next.what === 'a' &&
    next.first === run.first + run.count &&
    next.lsn === run.lsn + run.count &&
    next.tick === run.tick + BigInt(run.count)
  )
}

/** @param {Outcome} outcome @returns {string} */
function lineOf({ what, lane, first, count, lsn, tick, code }) {
  return `${JSON.stringify([what, lane, first, count, lsn, String(tick), code])}\n`
}

/** @param {string} line @returns {Outcome} */
export function parseLine(line) {
  const [what, lane, first, count, lsn, tick, code] = JSON.parse(line)
  return { what, lane, first, count, lsn, tick: BigInt(tick), code }
}
