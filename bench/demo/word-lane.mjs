// Streams the words of one vchannel through a producer with an identity: exactly once.
//
// Word n of the lane, counted from 1, has sequence n. So a lane that is begun again, in another process after the first
// one was killed, leaves out what the log has already: `lastSequence` of the producer says how many words that is. What
// becomes ambiguous on the way (a lost connection, a daemon that was killed) is the client library's matter: it keeps
// what it has sent until it is answered, and sends it again as it was.

/**
 * @typedef {{ id: number, word: string, vector: Buffer }} Word
 * @typedef {import('tidelog').AppendRecord} AppendRecord
 */

export class WordLane {
  #producer
  #toRecord
  #onAcknowledged
  /** Words that the log had when the producer was opened. */
  #known
  #pushed = 0
  /** @type {unknown} */
  #failure

  /**
   * @param {import('tidelog').IdentifiedProducer} producer
   * @param {(word: Word) => AppendRecord} toRecord
   * @param {(id: number, lsn: number, timeTick: bigint) => void} onAcknowledged
   */
  constructor(producer, toRecord, onAcknowledged) {
    this.#producer = producer
    this.#toRecord = toRecord
    this.#onAcknowledged = onAcknowledged
    this.#known = producer.lastSequence
  }

  /** Settles when there is room for the next one: memory stays bounded. */
  /** @param {Word} word */
  async push(word) {
    if (this.#failure !== undefined) throw this.#failure
    this.#pushed++
    if (this.#pushed <= this.#known) return
    const { acknowledged } = await this.#producer.submit(this.#toRecord(word))
    acknowledged.then(
      ({ lsn, timeTick }) => this.#onAcknowledged(word.id, lsn, timeTick),
      (error) => {
        this.#failure ??= error
      },
    )
  }

  /** Settles when every word that was pushed is durable; rejects when one is not. */
  async finish() {
    await this.#producer.close()
  }
}
