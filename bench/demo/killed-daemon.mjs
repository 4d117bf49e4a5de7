// A daemon that is killed and started again on the same port and data, and how long that takes.
import { DaemonProcess } from '../harness/daemon-process.mjs'

const START_LIMIT_MS = 60_000

/**
 * Times in milliseconds from the SIGKILL on; null until it has happened.
 * @typedef {{ words: number, killedMs: number, goneMs: number, listeningMs: number | null, acknowledgedMs: number | null }} Kill
 */

export class KilledDaemon {
  #data
  #listen = ''
  /** @type {DaemonProcess} */
  #process
  /** @type {Promise<void>} */
  #restarting = Promise.resolve()
  /** Whether a connection was made since the last kill: what is acknowledged before that came from the killed one. */
  #connected = true
  /** @type {(error: unknown) => void} */
  #fail = () => {}
  /** @type {Kill[]} */
  kills = []
  /** Rejects as soon as the daemon has not come back, and else never settles. */
  /** @type {Promise<never>} */
  failed = new Promise((_, reject) => {
    this.#fail = reject
  })

  /** @param {string} data */
  constructor(data) {
    this.#data = data
    this.#process = new DaemonProcess(data)
    this.failed.catch(() => {})
  }

  /** @returns {Promise<string>} the address for clients */
  async start() {
    const { address, listen } = await this.#process.listening(START_LIMIT_MS)
    this.#listen = listen
    return address
  }

  /** One after the other, however close together they are asked for. */
  /** @param {() => number} acknowledgedWords */
  kill(acknowledgedWords) {
    this.#restarting = this.#restarting.then(() => this.#killNow(acknowledgedWords()))
    this.#restarting.catch(this.#fail)
  }

  /** Settles when every kill that was asked for is over; rejects when the daemon did not come back. */
  async restarted() {
    await this.#restarting
  }

  connected() {
    this.#connected = true
  }

  acknowledged() {
    const kill = this.kills.at(-1)
    if (kill === undefined || kill.acknowledgedMs !== null || !this.#connected) return
    kill.acknowledgedMs = performance.now() - kill.killedMs
  }

  async stop() {
    await this.#restarting
    await this.#process.stop()
  }

  /** @param {number} words */
  async #killNow(words) {
    const killedMs = performance.now()
    this.#connected = false
    const gone = this.#process.kill()
    /** @type {Kill} */
    const kill = { words, killedMs, goneMs: 0, listeningMs: null, acknowledgedMs: null }
    this.kills.push(kill)
    await gone
    kill.goneMs = performance.now() - killedMs
    this.#process = new DaemonProcess(this.#data, { listen: this.#listen })
    await this.#process.listening(START_LIMIT_MS)
    kill.listeningMs = performance.now() - killedMs
  }
}
