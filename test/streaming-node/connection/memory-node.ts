/** A node for tests: the real server side of the protocol on a real socket, over the log store in memory. */

import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { TidelogError } from '../../../src/errors.ts'
import type { EncodedBody, LogStore, LogStoreOpener } from '../../../src/log-store/log-store.ts'
import { MemoryLogs, type MemoryLogsOptions } from '../../../src/log-store/memory.ts'
import type {
  ProducerOpened,
  Throttle,
  TxnBegun,
  TxnEnded,
  WireProducer,
  WireTransaction,
} from '../../../src/protocol/wal-messages.ts'
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
import { Pchannel } from '../../../src/streaming-node/pchannel.ts'
import type { UnitResult } from '../../../src/wal/pipeline/interceptor.ts'

export class MemoryNode implements NodeService {
  accepting = true
  timeTickIntervalMs = 5
  readonly logs: LogStore[]
  readonly pchannels: Pchannel[]
  /** Called before each append: a test refuses or delays with it. */
  beforeAppend: ((group: number, body: EncodedBody, barrierTick: bigint) => Promise<void> | void) | null = null
  readonly #known = new Map<string, VchannelInfo>()

  readonly #opener: LogStoreOpener

  constructor(logs: LogStore[], pchannels: Pchannel[], opener: LogStoreOpener) {
    this.logs = logs
    this.pchannels = pchannels
    this.#opener = opener
  }

  static async open(groups = 2, options: MemoryLogsOptions = {}): Promise<MemoryNode> {
    const opener = new MemoryLogs(options).opener()
    const logs: LogStore[] = []
    const pchannels: Pchannel[] = []
    for (let group = 0; group < groups; group++) {
      const keeping = {
        open: async () => {
          logs[group] = await opener.open(`p${group}`, 1)
          return logs[group]!
        },
      }
      pchannels[group] = await Pchannel.open(keeping, group, 1, {
        observer: { appended: () => {}, appendFailed: () => {}, repeated: () => {} },
        admission: null,
        wal: { timeTickIntervalMs: 5 },
        nowMs: () => Date.now(),
        monotonicMs: () => performance.now(),
      })
    }
    return new MemoryNode(logs, pchannels, opener)
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
    const placed = this.pchannels[group]!.append(body, options)
    return await placed.settled
  }

  space(): null {
    return null
  }

  reader(group: number): LogReader {
    return this.logs[group]!
  }

  confirmed(group: number, atLeast: bigint, signal: AbortSignal): Promise<bigint> {
    return this.pchannels[group]!.confirmed(atLeast, signal)
  }

  async begin(vchannel: string, keepaliveMs: number): Promise<TxnBegun> {
    return await this.pchannels[(await this.resolve(vchannel, false)).group]!.begin(vchannel, keepaliveMs)
  }

  async end(group: number, transaction: number, options: { commit: boolean; bodies: number }): Promise<TxnEnded> {
    return await this.pchannels[group]!.end(transaction, options)
  }

  transactions(): readonly WireTransaction[] {
    return this.pchannels.flatMap((pchannel) => pchannel.transactions())
  }

  async openProducer(vchannel: string, id: string, epoch: number | null): Promise<ProducerOpened> {
    return await this.pchannels[(await this.resolve(vchannel, false)).group]!.openProducer(vchannel, id, epoch)
  }

  producers(): readonly WireProducer[] {
    return this.pchannels.flatMap((pchannel) => pchannel.producers())
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
    await this.pchannels[group]!.truncateBefore(lsn)
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
