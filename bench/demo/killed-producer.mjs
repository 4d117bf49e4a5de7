// The process that produces, killed and started again: it goes on by the id of its producers.
import { startChild } from './child.mjs'
import { vchannels } from './words.mjs'

export class KilledProducer {
  #args
  #onMessage
  /** @type {ReturnType<typeof startChild> | null} */
  #child = null
  /** @type {() => void} */
  #onDone = () => {}
  /** @type {(error: unknown) => void} */
  #onFailed = () => {}
  /** @type {Promise<void>} */
  #finished
  /** How many words of each vchannel the log had when the process was begun, one entry a beginning. */
  /** @type {number[][]} */
  resumed = []

  /**
   * @param {string} address
   * @param {number} words
   * @param {{ onConnected: () => void, onAcknowledged: (id: number, lsn: number, timeTick: bigint) => void }} events
   */
  constructor(address, words, events) {
    this.#args = [address, String(words)]
    this.#onMessage = (/** @type {any} */ { connected, resumed, acknowledged }) => {
      if (connected) events.onConnected()
      if (resumed) this.resumed.push(resumed)
      if (!acknowledged) return
      for (const [index, id] of acknowledged.ids.entries()) {
        events.onAcknowledged(id, acknowledged.lsns[index], BigInt(acknowledged.ticks[index]))
      }
    }
    this.#finished = new Promise((resolve, reject) => {
      this.#onDone = resolve
      this.#onFailed = reject
    })
    this.#finished.catch(() => {})
  }

  start() {
    const child = startChild('produce.mjs', this.#args, (message) => {
      if (this.#child === child) this.#onMessage(message)
    })
    this.#child = child
    child.ended.then(
      () => this.#onDone(),
      // One that was killed is no longer the one that counts.
      (error) => {
        if (this.#child === child) this.#onFailed(error)
      },
    )
  }

  /** SIGKILL; what it had acknowledged and not told of yet is known by the producers alone. */
  kill() {
    const child = this.#child
    if (child === null) return
    this.#child = null
    child.kill()
    child.ended.catch(() => this.start())
  }

  /** Settles when all words are durable. */
  finished() {
    return this.#finished
  }

  /** @param {number} id @returns {boolean} whether a process that was begun later was told that the log had this word */
  wasThere(id) {
    const lane = id % vchannels.length
    const sequence = Math.floor(id / vchannels.length) + 1
    return this.resumed.some((lastSequences) => sequence <= (lastSequences[lane] ?? 0))
  }
}
