/**
 * The daemon: a streaming node on a data directory, its listeners, its health and metrics; started, drained and
 * stopped as one.
 */
import type { Server as HttpServer } from 'node:http'
import { resolve } from 'node:path'
import {
  type Environment,
  nodeEnvironment,
  openSpaceWatch,
  type SpaceStatus,
  type SpaceWatch,
} from '../../native-free-storage/index.ts'
import { type DataDirectory, openDataDirectory } from '../log-store/data-directory.ts'
import { LocalLogs } from '../log-store/local.ts'
import { QuarantineWatch } from '../log-store/quarantine-watch.ts'
import { type Logger, silentLogger } from '../observability/logger.ts'
import { DaemonMetrics } from '../observability/metrics.ts'
import { BODY_BYTES_MAX } from '../protocol/limits.ts'
import { StreamingNode } from '../streaming-node/node.ts'
import type { GroupStatus } from '../streaming-node/node-service.ts'
import { createHealthServer } from './http-server.ts'
import { kernelLock } from './kernel-lock.ts'
import { Listeners, listenOnLoopback } from './listeners.ts'
import { closeToOthers, makeDataDirectory } from './prepare-directory.ts'
import { type DaemonConfig, defaultConfig } from './settings.ts'
import { logSpace, spaceLimits } from './space.ts'
import { watchStates } from './state-watch.ts'
import { formatHostPort, type HostPort } from './units.ts'
import { packageVersion } from './version.ts'
import { walOptions } from './wal-options.ts'
import { settlesWithin } from './within.ts'

export interface DaemonAddresses {
  /** With the real port. */
  tcp: HostPort
  /** Path of the Unix socket. */
  socket: string | null
  http: HostPort | null
}

export interface DaemonOptions {
  /** Default: the real system, with the kernel's lock where it can be had. */
  environment?: Environment | undefined
  /** Default: silent. */
  logger?: Logger | undefined
}

export interface StopResult {
  /** Whether all that was taken was settled and every log sealed within the bound. */
  clean: boolean
}

export interface Daemon {
  readonly addresses: Readonly<DaemonAddresses>
  /** Absolute path of the data directory. */
  readonly data: string
  readonly pchannels: number
  status(): readonly GroupStatus[]
  /** The room on the file system of the data; null before the start and after it failed. */
  space(): SpaceStatus | null
  /**
   * Not ready any more; new records are refused (DRAINING, retriable, not written), new connections are not taken;
   * settles when everything that was taken is settled. Idempotent.
   */
  drain(): Promise<void>
  /**
   * Drains, says goodbye to clients, seals every log and gives everything back; all of it bounded by `drainTimeoutMs`
   * and a second for sealing. Never rejects. Idempotent.
   */
  stop(): Promise<StopResult>
}

/** For sealing, when draining has used up its time. */
const SEAL_MS_MIN = 1_000
/** Given back at the end: sockets that are only closed, files that are only let go. */
const RELEASE_MS_MAX = 1_000

/**
 * Starts a daemon; what `config` leaves out has its default. When it settles, all of its listeners take connections.
 *
 * @throws TidelogError LOCKED (another daemon has the directory), CONFIG_INVALID, HOST_NOT_LOOPBACK, ADDRESS_IN_USE,
 *   DATA_DIRECTORY_INVALID, FORMAT_UNKNOWN, DIRECTORY_UNFIT, PLATFORM_UNSUPPORTED, DISK_FULL, IO_FAILED, and what
 *   opening the catalog throws. Nothing is left open then.
 */
export async function startDaemon(config: Partial<DaemonConfig> = {}, options: DaemonOptions = {}): Promise<Daemon> {
  const { environment = nodeEnvironment({ kernelLock: kernelLock() }), logger = silentLogger } = options
  const started = new RunningDaemon({ ...defaultConfig(), ...config }, environment, logger)
  try {
    await started.start()
  } catch (error) {
    await started.stop()
    throw error
  }
  return started
}

class RunningDaemon implements Daemon {
  readonly data: string
  readonly #config: DaemonConfig
  readonly #environment: Environment
  readonly #logger: Logger
  #addresses: DaemonAddresses = { tcp: { host: '', port: 0 }, socket: null, http: null }
  #directory: DataDirectory | null = null
  #logs: LocalLogs | null = null
  #node: StreamingNode | null = null
  #listeners: Listeners | null = null
  #http: HttpServer | null = null
  #space: SpaceWatch | null = null
  #quarantine: QuarantineWatch | null = null
  #endWatch: (() => void) | null = null
  #draining: Promise<void> | null = null
  #stopping: Promise<StopResult> | null = null

  constructor(config: DaemonConfig, environment: Environment, logger: Logger) {
    this.#config = config
    this.#environment = environment
    this.#logger = logger
    this.data = resolve(config.data)
  }

  get addresses(): Readonly<DaemonAddresses> {
    return this.#addresses
  }

  get pchannels(): number {
    return this.#directory?.descriptor.pchannels ?? 0
  }

  status(): readonly GroupStatus[] {
    return this.#node?.status() ?? []
  }

  space(): SpaceStatus | null {
    return this.#space?.status() ?? null
  }

  async start(): Promise<void> {
    const config = this.#config
    const environment = this.#environment
    const logger = this.#logger
    await makeDataDirectory(this.data)
    this.#directory = await openDataDirectory(environment, this.data, config)
    await closeToOthers(this.data, logger)
    this.#space = await openSpaceWatch(environment, this.data, spaceLimits(config), {
      onChange: (status, before) => {
        logSpace(logger, status, before)
        this.#logs?.setRefusing(status.state === 'refusing')
      },
    })
    this.#logs = await LocalLogs.begin(environment, this.data, config)
    this.#logs.setRefusing(this.#space.state === 'refusing')
    const { mode, depth, reason } = this.#logs.writeWay
    logger.info('data directory opened', {
      data: this.data,
      pchannels: this.pchannels,
      writeMode: mode,
      writeDepth: depth,
    })
    logger.debug('way to write chosen', { reason })
    const metrics = this.#createMetrics(this.#logs, this.#space)
    this.#node = await StreamingNode.open({
      stores: this.#logs,
      pchannels: this.pchannels,
      timeTickIntervalMs: config.timeTickIntervalMs,
      vchannelsMax: config.vchannelsMax,
      observer: metrics,
      admission: this.#space,
      wal: walOptions(config, environment.clock),
      logger,
      clock: environment.clock,
    })
    const node = this.#node
    // Behind the opening of the logs, which puts into quarantine what it does not know.
    this.#quarantine = new QuarantineWatch(
      environment,
      Array.from({ length: this.pchannels }, (_, pchannel) => `${this.data}/pchannels/${pchannel}`),
    )
    const logs = this.#logs
    this.#endWatch = watchStates(
      { pchannels: () => node.states(), catalog: () => node.catalogStatus(), look: () => logs.look() },
      environment.clock,
      logger,
    )
    await this.#listen(node, metrics)
    const { tcp, socket, http } = this.#addresses
    logger.info('ready', {
      listen: formatHostPort(tcp),
      socket: socket ?? undefined,
      http: http === null ? undefined : formatHostPort(http),
    })
  }

  drain(): Promise<void> {
    this.#draining ??= this.#drain()
    return this.#draining
  }

  stop(): Promise<StopResult> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #listen(node: StreamingNode, metrics: DaemonMetrics): Promise<void> {
    const { listen, socket, http, connectionsMax, recordBytesMax } = this.#config
    this.#listeners = new Listeners({
      service: node,
      connectionsMax,
      logger: this.#logger,
      connection: {
        serverName: `tidelog ${packageVersion()}`,
        metrics,
        onNote: (message) => this.#logger.debug('connection', { message }),
        recordBytesMax,
        // One record of the greatest size fits, with its head.
        bodyBytesMax: Math.max(BODY_BYTES_MAX, recordBytesMax + 1024 * 1024),
      },
    })
    // Health first: whoever sees the port of the log open finds the daemon healthy.
    if (http !== null) {
      this.#http = createHealthServer({
        readiness: () => this.#readiness(),
        groups: () => this.status(),
        space: () => this.space(),
        catalog: () => this.#node?.catalogStatus() ?? null,
        metrics: async () => ({ contentType: metrics.contentType, body: await metrics.render() }),
        onResponse: (status) => metrics.httpRequest(status),
      })
      this.#addresses = { ...this.#addresses, http: await listenOnLoopback(this.#http, http) }
    }
    if (socket !== null) {
      const path = resolve(socket)
      await this.#listeners.openUnix(path)
      this.#addresses = { ...this.#addresses, socket: path }
    }
    this.#addresses = { ...this.#addresses, tcp: await this.#listeners.openTcp(listen) }
  }

  #createMetrics(logs: LocalLogs, space: SpaceWatch): DaemonMetrics {
    return new DaemonMetrics({
      version: packageVersion(),
      groups: () => this.status(),
      logFigures: (pchannel) => {
        const statistics = logs.logStatistics(String(pchannel))
        if (statistics === undefined) return undefined
        const { flushes, flushMs, rolls, cuts, heldBytes } = statistics
        return { flushes, flushSeconds: flushMs / 1000, rolls, cuts, queuedBytes: heldBytes }
      },
      walFigures: (pchannel) => this.#node?.walFigures(pchannel) ?? undefined,
      quarantinedBytes: (pchannel) => this.#quarantine?.bytes(pchannel),
      pool: () => logs.poolStatistics(),
      cacheUsedBytes: () => logs.cacheUsedBytes,
      space: () => space.status(),
      ready: () => this.#readiness() === 'ready',
    })
  }

  #readiness(): 'ready' | 'starting' | 'draining' | 'failed' {
    if (this.#draining !== null || this.#stopping !== null) return 'draining'
    if (this.#node === null || this.#addresses.tcp.port === 0) return 'starting'
    return this.#node.states().some(({ state }) => state !== 'failed') ? 'ready' : 'failed'
  }

  async #drain(): Promise<void> {
    const drained = this.#node?.drain()
    await this.#listeners?.stopListening()
    await drained
  }

  async #stop(): Promise<StopResult> {
    const startMs = performance.now()
    const leftMs = () => Math.max(0, this.#config.drainTimeoutMs - (performance.now() - startMs))
    let clean = true
    const step = async (what: string, work: () => Promise<boolean>) => {
      try {
        if (await work()) return
        this.#logger.error('stopping all the same', { unfinished: what })
      } catch (error) {
        this.#logger.error('stopping all the same', { failed: what, error })
      }
      clean = false
    }
    this.#endWatch?.()
    this.#quarantine?.close()
    this.#space?.close()
    await step('draining', () => settlesWithin(this.drain(), leftMs()))
    await step('goodbye to clients', async () => (await this.#listeners?.end(leftMs())) ?? true)
    await step('sealing the logs', () =>
      settlesWithin(this.#node?.close() ?? Promise.resolve(), Math.max(SEAL_MS_MIN, leftMs())),
    )
    // What is not sealed is recovered at the next start; a lock of a process that ended is taken over.
    if (clean) await step('letting go of the data directory', () => settlesWithin(this.#release(), RELEASE_MS_MAX))
    await step('closing HTTP', () => settlesWithin(this.#closeHttp(), RELEASE_MS_MAX))
    if (this.#addresses.tcp.port !== 0) this.#logger.info('stopped', { clean })
    return { clean }
  }

  async #release(): Promise<void> {
    await this.#logs?.close()
    await this.#directory?.release()
  }

  async #closeHttp(): Promise<void> {
    const http = this.#http
    if (http === null || !http.listening) return
    await new Promise<void>((resolve) => {
      http.close(() => resolve())
      http.closeAllConnections()
    })
  }
}
