// One data directory's life: a load and a ledger that stay, and a daemon that is killed under them round after round.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DaemonProcess, keepTrack, verifyFiles, verifyProblems } from '../harness/daemon-process.mjs'
import { pause, within } from '../harness/deadline.mjs'
import { vchannels } from './lanes.mjs'

const START_LIMIT_MS = 60_000
const COMMAND_LIMIT_MS = 180_000
const LOAD_END_LIMIT_MS = 90_000
const PCHANNELS = 3
const lossyDaemon = fileURLToPath(new URL('lossy-daemon.mjs', import.meta.url))

/**
 * @typedef {{ acknowledgedRecords: number, unknownRecords: number, notWrittenRecords: number, problemCount: number,
 *   problems: string[], records: number, tookMs: number }} LedgerReport
 * @typedef {{ listeningMs: number, verifyMs: number, lookMs: number, records: number, problems: string[] }} RoundResult
 */

export class Epoch {
  #directory
  #data
  #random
  #durability
  #lossy
  #listen = ''
  /** @type {DaemonProcess | null} */
  #daemon = null
  /** @type {import('node:child_process').ChildProcess | null} */
  #ledger = null
  /** @type {import('node:child_process').ChildProcess | null} */
  #load = null
  /** @type {LedgerReport | null} */
  report = null
  kills = 0

  /**
   * @param {string} directory not there yet
   * @param {{ random: import('../harness/random.mjs').Random, durability: 'disk' | 'os',
   *   lossy: Omit<import('./lossy-disk.mjs').LossyOptions, 'seed'> | null }} options `lossy`: unsynced writes are lost
   */
  constructor(directory, { random, durability, lossy }) {
    this.#directory = directory
    this.#data = join(directory, 'data')
    this.#random = random
    this.#durability = durability
    this.#lossy = lossy
  }

  /** @param {readonly string[]} flags of the first daemon @param {number} bytesPerSecond of the load */
  async start(flags, bytesPerSecond) {
    await mkdir(this.#directory, { recursive: true })
    const { address, listen } = await this.#startDaemon(flags)
    this.#listen = listen
    const seed = this.#random.next()
    const ledger = join(this.#directory, 'ledger.sock')
    this.#ledger = startScript('ledger.mjs', { seed, address, ledger })
    const [report] = await within(once(this.#ledger, 'message'), START_LIMIT_MS, 'the start of the ledger')
    this.report = report
    this.#load = startScript('load.mjs', { seed, address, ledger, bytesPerSecond })
  }

  /**
   * Kills the daemon now, looks at the files at rest, starts the daemon again with these flags and compares everything.
   * @param {readonly string[]} flags
   * @param {{ killInRecoveryMs: number | null }} options killed once more, so long after its start
   * @returns {Promise<RoundResult>}
   */
  async round(flags, { killInRecoveryMs }) {
    const problems = await this.#killAndVerify()
    if (killInRecoveryMs !== null) {
      this.#daemon = this.#newDaemon(flags)
      await pause(killInRecoveryMs)
      problems.push(...(await this.#killAndVerify()))
    }
    const startedMs = performance.now()
    try {
      await this.#startDaemon(flags)
    } catch (error) {
      problems.push(`the daemon does not start any more: ${/** @type {Error} */ (error).message}`)
      return { listeningMs: 0, verifyMs: this.#verifyMs, lookMs: 0, records: 0, problems }
    }
    const listeningMs = performance.now() - startedMs
    const { records, tookMs } = await this.#ask('look')
    if (this.#random.chance(0.25)) {
      await this.#ask('truncate', { vchannel: this.#random.pick(vchannels), part: this.#random.between(0, 100) / 100 })
    }
    return { listeningMs, verifyMs: this.#verifyMs, lookMs: tookMs, records, problems }
  }

  #verifyMs = 0

  /** Lets the load come to its end, compares a last time, stops the daemon in order and verifies what it sealed. */
  /** @returns {Promise<string[]>} problems */
  async finish() {
    const load = /** @type {import('node:child_process').ChildProcess} */ (this.#load)
    const ended = once(load, 'exit')
    load.send('stop')
    const [status] = await within(ended, LOAD_END_LIMIT_MS, 'the end of the load')
    const problems = status === 0 ? [] : [`the load ended with status ${status}`]
    const ledger = /** @type {import('node:child_process').ChildProcess} */ (this.#ledger)
    const ledgerEnded = once(ledger, 'exit')
    await this.#ask('finish')
    await within(ledgerEnded, LOAD_END_LIMIT_MS, 'the end of the ledger')
    await this.#daemon?.stop()
    problems.push(...verifyProblems(await verifyFiles(this.#data)))
    return problems
  }

  async remove() {
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  /** @param {readonly string[]} flags */
  async #startDaemon(flags) {
    this.#daemon = this.#newDaemon(flags)
    return await this.#daemon.listening(START_LIMIT_MS)
  }

  /** @param {readonly string[]} flags */
  #newDaemon(flags) {
    const lossy = this.#lossy === null ? null : { ...this.#lossy, seed: this.#random.next() }
    return new DaemonProcess(this.#data, {
      ...(this.#listen === '' ? {} : { listen: this.#listen }),
      ...(lossy === null ? {} : { entry: [lossyDaemon, JSON.stringify(lossy)] }),
      flags: ['--pchannels', String(PCHANNELS), '--durability', this.#durability, ...flags],
    })
  }

  async #killAndVerify() {
    this.kills++
    await this.#daemon?.kill()
    const verified = await verifyFiles(this.#data)
    this.#verifyMs = verified.tookMs
    return verifyProblems(verified)
  }

  /** @param {string} command @param {object} [argument] @returns {Promise<LedgerReport>} */
  async #ask(command, argument = {}) {
    const ledger = /** @type {import('node:child_process').ChildProcess} */ (this.#ledger)
    if (this.#load?.exitCode) throw new Error(`the load ended with status ${this.#load.exitCode}`)
    const aborter = new AbortController()
    const answer = once(ledger, 'message', aborter)
    const ended = once(ledger, 'exit', aborter).then(([status]) => {
      throw new Error(`the ledger ended with status ${status}`)
    })
    ledger.send({ command, argument })
    try {
      const [report] = await within(Promise.race([answer, ended]), COMMAND_LIMIT_MS, `the ledger's ${command}`)
      this.report = report
      return report
    } finally {
      aborter.abort()
      await Promise.allSettled([answer, ended])
    }
  }
}

/** @param {string} file @param {object} config @returns {import('node:child_process').ChildProcess} */
function startScript(file, config) {
  return keepTrack(fork(fileURLToPath(new URL(file, import.meta.url)), [JSON.stringify(config)]))
}
