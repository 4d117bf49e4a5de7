/** A node for tests: the real server side of the protocol on a real socket, over the log store in memory. */

import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { TidelogError } from '../../../src/errors.ts'
import type { EncodedBody, LogStore, LogStoreOpener } from '../../../src/log-store/log-store.ts'
import { MemoryLogs, type MemoryLogsOptions } from '../../../src/log-store/memory.ts'
import type { Throttle } from '../../../src/protocol/wal-messages.ts'
import type { ConnectionOptions } from '../../../src/streaming-node/connection/options.ts'
import { type Connection, serveConnection } from '../../../src/streaming-node/connection/serve-connection.ts'
import type {
  AppendBodyOptions,
  GroupStatus,
  LogReader,
  NodeService,
  PlacedAppend,
  VchannelInfo,
} from '../../../src/streaming-node/node-service.ts'
import type { UnitResult } from '../../../src/wal/pipeline/interceptor.ts'
import { Wal } from '../../../src/wal/wal.ts'

export class MemoryNode implements NodeService {
  accepting = true
  timeTickIntervalMs = 5
  readonly logs: LogStore[]
  readonly wals: Wal[]
  /** Called before each append: a test refuses or delays with it. */
  beforeAppend: ((group: number, body: EncodedBody, barrierTick: bigint) => Promise<void> | void) | null = null
  readonly #known = new Map<string, VchannelInfo>()

  readonly #opener: LogStoreOpener

  constructor(logs: LogStore[], wals: Wal[], opener: LogStoreOpener) {
    this.logs = logs
    this.wals = wals
    this.#opener = opener
  }

  static async open(groups = 2, options: MemoryLogsOptions = {}): Promise<MemoryNode> {
    const opener = new MemoryLogs(options).opener()
    const logs: LogStore[] = []
    for (let group = 0; group < groups; group++) logs.push(await opener.open(`p${group}`, 1))
    const wals = await Promise.all(logs.map((log) => Wal.open(log, { timeTickIntervalMs: 5 })))
    return new MemoryNode(logs, wals, opener)
  }

  async resolve(vchannel: string, create: boolean): Promise<VchannelInfo> {
    let info = this.#known.get(vchannel)
    if (info === undefined) {
      if (!create) throw new TidelogError<string>('VCHANNEL_UNKNOWN', `there is no vchannel ${vchannel}`)
      info = { name: vchannel, group: this.#known.size % this.logs.length, createdMs: 1 }
      this.#known.set(vchannel, info)
    }
    return info
  }

  vchannels(): readonly VchannelInfo[] {
    return [...this.#known.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  append(group: number, body: EncodedBody, options: AppendBodyOptions): PlacedAppend {
    return { entered: null, settled: this.#append(group, body, options) }
  }

  async #append(group: number, body: EncodedBody, options: AppendBodyOptions): Promise<UnitResult> {
    for (const name of body.head.vchannels) {
      if (this.#known.get(name)?.group !== group) {
        throw new TidelogError<string>('INVALID_BODY', `vchannel ${name} is not of group ${group}`, {
          outcome: 'not-written',
        })
      }
    }
    const wait = this.beforeAppend?.(group, body, options.barrierTick ?? 0n)
    if (wait !== undefined) await wait
    const { transactionIndex, ...rest } = options
    const placed = this.wals[group]!.appendBody(body, { ...rest, transactionIndex: transactionIndex ?? undefined })
    return await placed.settled
  }

  space(): null {
    return null
  }

  reader(group: number): LogReader {
    return this.logs[group]!
  }

  confirmed(group: number, atLeast: bigint, signal: AbortSignal): Promise<bigint> {
    return this.wals[group]!.confirmed({ atLeast, signal })
  }

  throttle(group: number): Throttle {
    return { group, state: 'ok', bytesPerSecond: 0 }
  }

  onThrottle(): () => void {
    return () => {}
  }

  nextLsn(group: number): number {
    return this.logs[group]!.nextLsn
  }

  firstLsn(group: number): number {
    return this.logs[group]!.firstLsn
  }

  changed(group: number): Promise<void> {
    return this.logs[group]!.changed()
  }

  watermark(group: number, shared?: bigint): bigint {
    return this.logs[group]!.watermark(shared)
  }

  stirs(group: number): number {
    return this.logs[group]!.stirs ?? Number.NaN
  }

  get anyStirs(): number {
    return this.#opener.stirs ?? Number.NaN
  }

  sharedTick(): bigint {
    return this.#opener.sharedTick?.() ?? 0n
  }

  status(): readonly GroupStatus[] {
    return this.logs.map((log, group) => ({
      ...log.status(),
      group,
      name: `p${group}`,
      ownerTerm: log.ownerTerm,
      firstLsn: log.firstLsn,
      nextLsn: log.nextLsn,
      watermark: log.watermark(),
      vchannels: [...this.#known.values()].filter((info) => info.group === group).length,
      transactions: 0,
      throttle: 'ok',
    }))
  }

  async truncateBefore(vchannel: string, lsn: number): Promise<{ firstLsn: number }> {
    const { group } = await this.resolve(vchannel, false)
    await this.logs[group]!.truncateBefore(lsn)
    return { firstLsn: this.firstLsn(group) }
  }
}

export interface Served<Node extends NodeService = MemoryNode> {
  node: Node
  port: number
  address: string
  /** Connections that are open. */
  connections: Set<Connection>
  sockets: Set<Socket>
  close(): Promise<void>
}

/** `listen`: a port of the loopback, 0 for any, or the path of a Unix socket. */
export async function serve<Node extends NodeService>(
  node: Node,
  options: Partial<ConnectionOptions> = {},
  listen: number | string = 0,
): Promise<Served<Node>> {
  const connections = new Set<Connection>()
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    const connection = serveConnection(socket, node, options)
    connections.add(connection)
    sockets.add(socket)
    void connection.closed.then(() => {
      connections.delete(connection)
      sockets.delete(socket)
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    if (typeof listen === 'string') server.listen(listen, resolve)
    else server.listen(listen, '127.0.0.1', resolve)
  })
  const port = typeof listen === 'string' ? 0 : (server.address() as AddressInfo).port
  return {
    node,
    port,
    address: typeof listen === 'string' ? `unix:${listen}` : `tcp://127.0.0.1:${port}`,
    connections,
    sockets,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const connection of connections) connection.destroy()
      await closed
    },
  }
}

/** Settles when `test` is true; asks again at each turn of the event loop. */
export async function until(test: () => boolean, timeoutMs = 10_000): Promise<void> {
  const late = Date.now() + timeoutMs
  while (!test()) {
    if (Date.now() > late) throw new Error('what was waited for did not come')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
