// Streams the words of one vchannel, over crashes of the daemon.
//
// The client library reconnects, and sends again by itself what it knows was not written. What it cannot know it answers
// with the outcome `unknown`: the frame had left when the connection broke. Until the log has deduplication, that is for
// the producer to find out, and this is how: when everything that was under way has settled, it reads the vchannel from
// its last acknowledged record to the end. A word that stands there is durable, and counts as acknowledged with the LSN
// and tick that it has there; one that does not is sent again.
//
// What that guarantees: no acknowledged word is missing or changed. Not more: had the connection broken with the daemon
// alive, a frame could be written after the end was read, and its words would stand there twice. A daemon that was
// killed writes nothing any more, so here none should; the read-back counts.

/** A word fails at most so often before the lane gives up: each kill of the daemon costs one or two. */
const TRIES_MAX = 100
const END_READ_LIMIT_MS = 60_000

/**
 * @typedef {{ id: number, word: string, vector: Buffer }} Word
 * @typedef {import('tidelog').AppendRecord} AppendRecord
 */

export class WordLane {
  #client
  #vchannel
  #producer
  #toRecord
  #onAcknowledged
  #lastLsn = -1
  #unsettled = 0
  /** @type {{ word: Word, tries: number, isUnknown: boolean }[]} */
  #failed = []
  /** @type {(() => void) | null} */
  #onSettled = null
  /** Appends that were answered `unknown`, how many of them stood in the log, and how many words were sent again. */
  counts = { unknown: 0, foundWritten: 0, sentAgain: 0 }

  /**
   * @param {import('tidelog').Client} client
   * @param {import('tidelog').Producer} producer
   * @param {(word: Word) => AppendRecord} toRecord
   * @param {(id: number, lsn: number, timeTick: bigint) => void} onAcknowledged
   */
  constructor(client, producer, toRecord, onAcknowledged) {
    this.#client = client
    this.#vchannel = producer.vchannel
    this.#producer = producer
    this.#toRecord = toRecord
    this.#onAcknowledged = onAcknowledged
  }

  /** Settles when there is room for the next one: memory stays bounded. */
  /** @param {Word} word */
  async push(word) {
    if (this.#failed.length > 0) await this.#recover()
    await this.#submit(word, 0)
  }

  /** Settles when every word that was pushed is acknowledged. */
  async finish() {
    do {
      await this.#settled()
      await this.#recover()
    } while (this.#unsettled > 0 || this.#failed.length > 0)
  }

  /** @param {Word} word @param {number} tries */
  async #submit(word, tries) {
    const { acknowledged } = await this.#producer.submit(this.#toRecord(word))
    this.#unsettled++
    acknowledged.then(
      ({ lsn, timeTick }) => this.#acknowledged(word, lsn, timeTick),
      (error) => {
        const isUnknown = error.outcome !== 'not-written'
        if (isUnknown) this.counts.unknown++
        this.#failed.push({ word, tries: tries + 1, isUnknown })
        this.#lower()
      },
    )
  }

  /** @param {Word} word @param {number} lsn @param {bigint} timeTick */
  #acknowledged(word, lsn, timeTick) {
    this.#lastLsn = Math.max(this.#lastLsn, lsn)
    this.#onAcknowledged(word.id, lsn, timeTick)
    this.#lower()
  }

  #lower() {
    this.#unsettled--
    if (this.#unsettled === 0) this.#onSettled?.()
  }

  /** Each append has a deadline in the client, so this ends. */
  async #settled() {
    if (this.#unsettled === 0) return
    await /** @type {Promise<void>} */ (
      new Promise((resolve) => {
        this.#onSettled = resolve
      })
    )
    this.#onSettled = null
  }

  async #recover() {
    await this.#settled()
    const failed = this.#failed.sort((left, right) => left.word.id - right.word.id)
    this.#failed = []
    const unknown = new Map(failed.filter(({ isUnknown }) => isUnknown).map(({ word }) => [String(word.id), word]))
    const written = unknown.size > 0 ? await this.#readEnd(unknown) : new Set()
    for (const { word, tries } of failed) {
      if (written.has(word.id)) continue
      if (tries >= TRIES_MAX) throw new Error(`the word ${JSON.stringify(word.word)} failed ${tries} times`)
      this.counts.sentAgain++
      await this.#submit(word, tries)
    }
  }

  /**
   * Which of these words stand in the vchannel behind its last acknowledged record.
   * @param {Map<string, Word>} unknown
   * @returns {Promise<Set<number>>}
   */
  async #readEnd(unknown) {
    /** @type {Set<number>} */
    const written = new Set()
    const end = this.#client.consume(this.#vchannel, {
      from: this.#lastLsn < 0 ? 'earliest' : { lsn: this.#lastLsn + 1 },
      untilCaughtUp: true,
      signal: AbortSignal.timeout(END_READ_LIMIT_MS),
    })
    for await (const { lsn, timeTick, properties } of end) {
      const word = unknown.get(properties.id ?? '')
      if (word === undefined || written.has(word.id)) continue
      written.add(word.id)
      this.counts.foundWritten++
      this.#lastLsn = Math.max(this.#lastLsn, lsn)
      this.#onAcknowledged(word.id, lsn, timeTick)
    }
    return written
  }
}
