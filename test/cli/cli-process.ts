/** The command line as people run it: child processes of `node bin/tidelog.js`, and a daemon of them on free ports. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const binPath = fileURLToPath(new URL('../../bin/tidelog.js', import.meta.url))

/** No child outlives a test that hangs. */
const deadlineMs = 50_000

export interface CliResult {
  stdout: Buffer
  stderr: string
  status: number | null
  signal: NodeJS.Signals | null
  /** Standard output as lines of JSON. */
  json(): Record<string, unknown>[]
}

export interface CliOptions {
  input?: string | Uint8Array | undefined
  env?: Record<string, string | undefined>
  /** Run as soon as the child runs. */
  onStart?: (child: ChildProcess) => void
}

/** Runs one command to its end. Without `input` its standard input is empty. */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const child = startCli(args, options.env)
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout!.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr!.on('data', (chunk: Buffer) => {
    stderr += chunk
  })
  // A command that fails early does not read all of its input.
  child.stdin!.on('error', () => {})
  child.stdin!.end(options.input ?? '')
  options.onStart?.(child)
  const [status, signal] = await exitOf(child)
  const all = Buffer.concat(stdout)
  return { stdout: all, stderr, status, signal, json: () => jsonLines(all.toString()) }
}

/** Starts a command; its standard streams are pipes. Killed when the test's time is over. */
export function startCli(args: readonly string[], env: Record<string, string | undefined> = {}): ChildProcess {
  const child = spawn(process.execPath, [binPath, ...args], { env: childEnvironment(env) })
  const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs)
  exits.set(
    child,
    new Promise((resolve) => {
      child.once('close', (status, signal) => {
        clearTimeout(timer)
        resolve([status, signal])
      })
    }),
  )
  return child
}

type Exit = [status: number | null, signal: NodeJS.Signals | null]

const exits = new WeakMap<ChildProcess, Promise<Exit>>()

/** How a child of `startCli` ended, also when it has ended long ago. */
export function exitOf(child: ChildProcess): Promise<Exit> {
  return exits.get(child)!
}

export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

/** Settles with what was printed so far when `until` says that it is enough. Rejects when the output ends before. */
export function printed(child: ChildProcess, until: (text: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const onData = (chunk: Buffer) => {
      text += chunk
      if (!until(text)) return
      child.stdout!.off('data', onData)
      resolve(text)
    }
    child.stdout!.on('data', onData)
    child.stdout!.once('end', () => reject(new Error(`the output ended with: ${text}`)))
  })
}

export interface DaemonProcess {
  readonly child: ChildProcess
  /** `tcp://127.0.0.1:PORT` */
  readonly address: string
  readonly data: string
  /** Environment that points a command at it. */
  readonly env: { TIDELOG_SERVER: string }
  kill(signal?: NodeJS.Signals): Promise<number | null>
}

/** A daemon on a free port of loopback, with its data in a new directory or in `data`. */
export async function startDaemonProcess(options: { data?: string; flags?: string[] } = {}): Promise<DaemonProcess> {
  const data = options.data ?? (await temporaryDirectory())
  const writeMode = process.env.TIDELOG_TEST_WRITE_MODE
  const writeDepth = process.env.TIDELOG_TEST_WRITE_DEPTH
  const child = spawn(
    process.execPath,
    [
      binPath,
      'serve',
      '--json',
      ...['--data', data, '--listen', '127.0.0.1:0', '--http', 'none', '--log-level', 'warn'],
      ...['--disk-warn-percent', '100', '--disk-refuse-percent', '100'],
      ...(writeMode ? ['--write-mode', writeMode] : []),
      ...(writeDepth ? ['--write-depth', writeDepth] : []),
      ...(options.flags ?? []),
    ],
    { env: childEnvironment({}), stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const { listen } = JSON.parse(await printed(child, (text) => text.includes('\n')))
  const closed = once(child, 'close')
  return {
    child,
    address: listen,
    data,
    env: { TIDELOG_SERVER: listen },
    async kill(signal = 'SIGTERM') {
      child.kill(signal)
      return (await closed)[0]
    },
  }
}

const directories: string[] = []

/** Removed by `removeTemporaryDirectories`. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-cli-'))
  directories.push(directory)
  return directory
}

export async function removeTemporaryDirectories(): Promise<void> {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true })
}

function childEnvironment(env: Record<string, string | undefined>): NodeJS.ProcessEnv {
  return { ...process.env, TIDELOG_SERVER: undefined, NO_COLOR: undefined, FORCE_COLOR: undefined, ...env }
}
