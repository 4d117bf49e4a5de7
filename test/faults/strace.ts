/** Faults of system calls in a process that runs, by `strace`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { within } from '../../bench/harness/deadline.mjs'

const ATTACH_LIMIT_MS = 20_000

export interface Injection {
  /** System calls. */
  calls: readonly string[]
  /** What `strace -e inject=` says behind the calls: `error=EIO:when=2+`. */
  fault: string
  /** Only for calls that are given this path, or a descriptor of it. */
  path?: string | undefined
}

/** Faults in force since it settled, until `detach`. */
export class Strace {
  readonly #child: ChildProcess
  readonly #said: { text: string }

  private constructor(child: ChildProcess, said: { text: string }) {
    this.#child = child
    this.#said = said
  }

  /** For every thread of the process. */
  static async attach(pid: number, { calls, fault, path }: Injection): Promise<Strace> {
    const names = calls.join(',')
    const filter = path === undefined ? [] : ['-P', path]
    const args = ['-f', '-p', String(pid), ...filter, '-e', `trace=${names}`, '-e', `inject=${names}:${fault}`]
    const child = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
    const said = { text: '' }
    const attached = new Promise<void>((resolve, reject) => {
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        said.text = (said.text + text).slice(-65_536)
        if (/^strace: Process \d+ attached/m.test(said.text)) resolve()
      })
      child.once('error', reject)
      child.once('close', () => reject(new Error(`strace ended: ${said.text}`)))
    })
    await within(attached, ATTACH_LIMIT_MS, 'the start of strace')
    return new Strace(child, said)
  }

  /** The calls that were seen, as strace writes them. */
  get lines(): string[] {
    return this.#said.text.split('\n').filter((line) => line.includes('('))
  }

  /** How often the fault was injected. */
  get injected(): number {
    return this.lines.filter((line) => line.includes('(INJECTED')).length
  }

  /** The process goes on as if nothing had been. Idempotent. */
  async detach(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'close')
    this.#child.kill('SIGTERM')
    await within(ended, ATTACH_LIMIT_MS, 'the end of strace')
  }
}

/** The paths under a directory that a process has open. */
export function openPaths(pid: number, directory: string): string[] {
  const paths = new Set<string>()
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const path = readlinkSync(`/proc/${pid}/fd/${name}`)
      if (path.startsWith(`${directory}/`)) paths.add(path)
    } catch {
      // Closed in between.
    }
  }
  return [...paths].sort()
}

const program = join(import.meta.dirname, '..', '..', 'bin', 'tidelog.js')
const START_LIMIT_MS = 60_000

/** A daemon in which a system call fails with EIO, from the n-th on, counted from the start of the process. */
export class FaultyStart {
  /** Null: it ended before it listened. */
  readonly listen: string | null
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, listen: string | null) {
    this.#child = child
    this.listen = listen
  }

  static async start(data: string, { call, n, mode }: { call: string; n: number; mode: string }): Promise<FaultyStart> {
    // With -D the tracer is a grandchild: this child is the daemon itself.
    const faults = ['-D', '-f', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:error=EIO:when=${n}+`]
    const flags = ['--data', data, '--listen', '127.0.0.1:0', '--http', 'none', '--log-level', 'error']
    const args = [...faults, process.execPath, program, 'serve', '--json', ...flags, '--write-mode', mode]
    args.push('--write-depth', process.env.TIDELOG_TEST_WRITE_DEPTH ?? '2', '--drain-timeout', '2s')
    const child = spawn('strace', args, { stdio: ['ignore', 'pipe', 'ignore'] })
    const line = new Promise<string | null>((resolve, reject) => {
      createInterface(child.stdout!).once('line', resolve)
      child.once('error', reject)
      child.once('close', () => resolve(null))
    })
    try {
      const said = await within(line, START_LIMIT_MS, 'the start of a daemon with faults')
      return new FaultyStart(child, said === null ? null : JSON.parse(said).listen)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
  }

  /** In order, as far as it goes: its disk fails. Idempotent. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'close')
    this.#child.kill('SIGTERM')
    try {
      await within(ended, START_LIMIT_MS, 'the end of a daemon with faults')
    } finally {
      this.#child.kill('SIGKILL')
    }
  }
}
