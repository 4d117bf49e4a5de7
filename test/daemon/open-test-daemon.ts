import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { connect } from '../../src/client/connect.ts'
import type { Client, ClientOptions } from '../../src/client/types.ts'
import { type Daemon, type DaemonOptions, startDaemon } from '../../src/daemon/daemon.ts'
import type { DaemonConfig } from '../../src/daemon/settings.ts'

const KIB = 1024

/** Free ports, small files, no probe; what the gate's other runs set comes from the environment. */
export const testConfig: Partial<DaemonConfig> = {
  listen: { host: '127.0.0.1', port: 0 },
  http: { host: '127.0.0.1', port: 0 },
  writeMode: (process.env.TIDELOG_TEST_WRITE_MODE as DaemonConfig['writeMode'] | undefined) ?? 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
  segmentBytes: 1024 * KIB,
  poolBytes: 8192 * KIB,
  cacheBytes: 4096 * KIB,
  // However full the disk is on which the tests run.
  diskWarnPercent: 100,
  diskRefusePercent: 100,
}

/** A directory of one test, and everything that was opened on it: closed and removed by `dispose`. */
export class DaemonFixture {
  readonly directory: string
  readonly data: string
  readonly #daemons: Daemon[] = []
  readonly #clients: Client[] = []

  private constructor(directory: string) {
    this.directory = directory
    this.data = join(directory, 'data')
  }

  static async create(): Promise<DaemonFixture> {
    return new DaemonFixture(await mkdtemp(join(tmpdir(), 'tidelog-daemon-')))
  }

  async start(config: Partial<DaemonConfig> = {}, options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = await startDaemon({ ...testConfig, data: this.data, ...config }, options)
    this.#daemons.push(daemon)
    return daemon
  }

  async connect(daemon: Daemon): Promise<Client> {
    const client = await connect(tcpAddress(daemon))
    this.#clients.push(client)
    return client
  }

  async connectTo(address: string, options: ClientOptions = {}): Promise<Client> {
    const client = await connect(address, { waitForServerMs: 10_000, ...options })
    this.#clients.push(client)
    return client
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()))
    await Promise.all(this.#daemons.map((daemon) => daemon.stop()))
    await rm(this.directory, { recursive: true, force: true })
  }
}

export function tcpAddress(daemon: Daemon): string {
  const { host, port } = daemon.addresses.tcp
  return `tcp://${host}:${port}`
}

/** GET on the daemon's HTTP port. */
export function get(daemon: Daemon, path: string, host?: string): Promise<{ status: number; body: string }> {
  const { port } = daemon.addresses.http!
  return httpGet(port, path, host)
}

export function httpGet(
  port: number,
  path: string,
  host = `127.0.0.1:${port}`,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, headers: { host }, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, body }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

/** Asks again at each turn of the event loop until `good`; fails after 30 s. */
export async function until<T>(ask: () => Promise<T>, good: (answer: T) => boolean): Promise<T> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const answer = await ask()
    if (good(answer)) return answer
    if (performance.now() > deadline) throw new Error(`not within 30 s; the last answer: ${inspect(answer)}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** The payloads of a vchannel as text, up to its end. */
export async function textsOf(client: Client, vchannel: string): Promise<string[]> {
  const texts: string[] = []
  for await (const { payload } of client.consume(vchannel, { untilCaughtUp: true })) {
    texts.push(Buffer.from(payload).toString())
  }
  return texts
}

export function text(value: string): { payload: Buffer } {
  return { payload: Buffer.from(value) }
}
