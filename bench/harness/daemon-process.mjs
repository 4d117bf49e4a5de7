// The daemon and the offline commands as their users run them: child processes of `node bin/tidelog.js`.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { within } from './deadline.mjs'

export const binPath = fileURLToPath(new URL('../../bin/tidelog.js', import.meta.url))

const STOP_LIMIT_MS = 60_000
const VERIFY_LIMIT_MS = 600_000
const STDERR_KEPT_BYTES = 16_384

/** Children that still run, so that none outlives its parent's failure. */
/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set()

/**
 * A child that is killed when this process ends.
 * @template {import('node:child_process').ChildProcess} Child
 * @param {Child} child
 * @returns {Child}
 */
export function keepTrack(child) {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** Ends every child at once. */
export function killChildren() {
  for (const child of running) child.kill('SIGKILL')
}
process.once('exit', killChildren)

/** @returns {NodeJS.ProcessEnv} without what would point a command somewhere else */
function plainEnvironment() {
  const environment = { ...process.env }
  for (const name of Object.keys(environment)) {
    if (name.startsWith('TIDELOG_') && !name.startsWith('TIDELOG_TEST_')) delete environment[name]
  }
  delete environment.FORCE_COLOR
  return environment
}

export class DaemonProcess {
  #child
  /** @type {Promise<[number | null, NodeJS.Signals | null]>} */
  #exited
  #stdout = ''
  #stderr = ''

  /**
   * @param {string} data
   * @param {{ listen?: string, flags?: string[], entry?: string[] }} options `listen`: HOST:PORT; a free port of
   *   loopback when left out. `entry`: a script that takes the flags of `serve`, with what stands before them
   */
  constructor(data, { listen = '127.0.0.1:0', flags = [], entry = [binPath, 'serve', '--json'] } = {}) {
    const args = [...entry, '--data', data, '--listen', listen, '--http', 'none', '--log-level', 'warn', ...flags]
    this.#child = keepTrack(
      spawn(process.execPath, args, { env: plainEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] }),
    )
    this.#child.stderr.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT_BYTES)
    })
    this.#exited = new Promise((resolve) => {
      this.#child.once('close', (status, signal) => resolve([status, signal]))
    })
  }

  get pid() {
    return this.#child.pid
  }

  /** The end of what it wrote on standard error. */
  get stderr() {
    return this.#stderr
  }

  get hasExited() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /**
   * Settles when it listens.
   * @param {number} limitMs
   * @returns {Promise<{ address: string, listen: string }>} `listen`: HOST:PORT, to start the next one on
   */
  async listening(limitMs) {
    const line = new Promise((resolve, reject) => {
      this.#child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
        this.#stdout = (this.#stdout + text).slice(-STDERR_KEPT_BYTES)
        if (this.#stdout.includes('\n')) resolve(this.#stdout)
      })
      void this.#exited.then(([status, signal]) => {
        reject(new Error(`the daemon ended before it listened (status ${status}, signal ${signal}): ${this.#stderr}`))
      })
    })
    const { listen: address } = JSON.parse(await within(line, limitMs, 'the start of the daemon'))
    return { address, listen: address.slice('tcp://'.length) }
  }

  /** No handler of the daemon runs; settles when the process is gone. */
  async kill() {
    this.#child.kill('SIGKILL')
    return await within(this.#exited, STOP_LIMIT_MS, 'the end of the killed daemon')
  }

  /** SIGTERM: it drains and seals. Throws when it did not end with 0. */
  async stop() {
    this.#child.kill('SIGTERM')
    const [status, signal] = await within(this.#exited, STOP_LIMIT_MS, 'the stop of the daemon')
    if (status !== 0) throw new Error(`the daemon stopped with status ${status}, signal ${signal}: ${this.#stderr}`)
  }
}

/**
 * @typedef {{ code: string, severity: string, file: string | null, position: number | null, lsnFrom: number | null,
 *   lsnTo: number | null, acknowledged: string, message: string }} Finding
 * @typedef {{ clean: boolean, logs: { path: string, firstLsn: number, lastLsn: number, records: number, bytes: number,
 *   findings: Finding[] }[] }} VerifyReport
 */

/**
 * Runs `verify` on a data directory.
 * @param {string} data
 * @returns {Promise<{ status: number | null, report: VerifyReport, tookMs: number }>} throws when it printed no report
 */
export async function verifyFiles(data) {
  const startedMs = performance.now()
  const child = keepTrack(
    spawn(process.execPath, [binPath, 'verify', data, '--json'], {
      env: plainEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  )
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const [status] = await within(once(child, 'close'), VERIFY_LIMIT_MS, 'verify')
  try {
    return { status, report: JSON.parse(stdout), tookMs: performance.now() - startedMs }
  } catch (cause) {
    throw new Error(`verify printed no report (status ${status}): ${stderr}`, { cause })
  }
}

/**
 * What is wrong with the files in the words of `verify`; what a crash leaves behind by right is no finding here.
 * @param {{ status: number | null, report: VerifyReport }} result
 * @returns {string[]}
 */
export function verifyProblems({ status, report }) {
  const problems = report.logs.flatMap(({ path, findings }) =>
    findings
      .filter(({ severity }) => severity !== 'info')
      .map(
        ({ code, severity, file, position, lsnFrom, lsnTo, acknowledged, message }) =>
          `verify: ${severity} ${code} in ${path} ${file}@${position}, LSN ${lsnFrom}..${lsnTo}, acknowledged ${acknowledged}: ${message}`,
      ),
  )
  if (status !== 0) problems.push(`verify ended with status ${status}`)
  return problems
}
