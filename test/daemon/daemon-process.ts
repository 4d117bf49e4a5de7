import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const program = join(import.meta.dirname, '..', '..', 'bin', 'tidelog.js')

/** A daemon in a process of its own: what is built in dist/. */
export class DaemonProcess {
  readonly child: ChildProcess
  /** `tcp://HOST:PORT` */
  readonly listen: string
  readonly httpPort: number
  #stderr = ''

  private constructor(child: ChildProcess, where: { listen: string; http: string }) {
    this.child = child
    this.listen = where.listen
    this.httpPort = Number(new URL(where.http).port)
  }

  /** Settles when it listens. Rejects with what it wrote on stderr when it ends before. */
  static async start(data: string, ...flags: string[]): Promise<DaemonProcess> {
    const { TIDELOG_TEST_WRITE_MODE: mode = 'dsync', TIDELOG_TEST_WRITE_DEPTH: depth = '2' } = process.env
    const all = ['serve', '--json', '--data', data, '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0']
    all.push('--write-mode', mode, '--write-depth', depth, '--segment-bytes', '1MiB')
    all.push('--disk-warn-percent', '100', '--disk-refuse-percent', '100', ...flags)
    const child = spawn(process.execPath, [program, ...all], { stdio: ['ignore', 'pipe', 'pipe'] })
    let stderr = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      stderr += chunk.toString()
    })
    const line = new Promise<string>((resolve, reject) => {
      createInterface(child.stdout!).once('line', resolve)
      child.once('close', (code) => reject(new Error(`the daemon ended with ${code}: ${stderr}`)))
    })
    const daemon = new DaemonProcess(child, JSON.parse(await line))
    child.stderr!.on('data', (chunk: Buffer) => {
      daemon.#stderr += chunk.toString()
    })
    return daemon
  }

  /** What it has written since it listens. */
  get stderr(): string {
    return this.#stderr
  }

  /** Sends a signal and gives how the process ended. */
  async end(signal: NodeJS.Signals): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exit = once(this.child, 'exit')
      this.child.kill(signal)
      await exit
    }
    return { code: this.child.exitCode, signal: this.child.signalCode }
  }
}
