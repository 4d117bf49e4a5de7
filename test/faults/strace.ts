/** Faults of system calls in a process that runs, by `strace`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
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
