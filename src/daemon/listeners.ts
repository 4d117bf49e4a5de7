/** The sockets on which a daemon takes connections for its node: TCP on loopback, and a Unix socket. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { TidelogError } from '../errors.ts'
import type { Logger } from '../observability/logger.ts'
import type { ConnectionOptions } from '../streaming-node/connection/options.ts'
import { type Connection, serveConnection } from '../streaming-node/connection/serve-connection.ts'
import type { NodeService } from '../streaming-node/node-service.ts'
import { formatHostPort, type HostPort, isLoopbackHost } from './units.ts'
import { listenOnUnixSocket } from './unix-socket.ts'
import { settlesWithin } from './within.ts'

const BACKLOG = 511

export interface ListenersOptions {
  service: NodeService
  connectionsMax: number
  connection: Partial<ConnectionOptions>
  logger: Logger
}

export class Listeners {
  readonly #options: ListenersOptions
  readonly #servers: Server[] = []
  readonly #connections = new Set<Connection>()
  #releaseSocketName: (() => Promise<void>) | null = null

  constructor(options: ListenersOptions) {
    this.#options = options
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Gives the address that it listens on: of port 0 the real one. @throws as `listenOnLoopback`. */
  async openTcp(address: HostPort): Promise<HostPort> {
    const server = this.#createServer()
    const bound = await listenOnLoopback(server, address)
    this.#servers.push(server)
    return bound
  }

  /** @throws TidelogError as `listenOnUnixSocket`. */
  async openUnix(path: string): Promise<void> {
    const server = this.#createServer()
    this.#releaseSocketName = await listenOnUnixSocket(server, path)
    this.#servers.push(server)
  }

  /** No new connection is taken, and the name of the Unix socket is free. Idempotent. */
  async stopListening(): Promise<void> {
    // Without waiting for the connections, which `end` ends.
    for (const server of this.#servers.splice(0)) server.close()
    const release = this.#releaseSocketName
    this.#releaseSocketName = null
    await release?.().catch((error: unknown) => {
      this.#options.logger.warn('the name of the socket could not be removed', { error })
    })
  }

  /** Says goodbye on each connection, once what was taken is answered; what is left after `timeoutMs` is cut off. */
  async end(timeoutMs: number): Promise<boolean> {
    const all = [...this.#connections]
    for (const connection of all) connection.end('DRAINING', 'the daemon is stopping; try again at its next start')
    const ended = await settlesWithin(Promise.all(all.map((connection) => connection.closed)), timeoutMs)
    for (const connection of this.#connections) connection.destroy()
    return ended
  }

  #createServer(): Server {
    return createServer((socket) => this.#accept(socket))
  }

  #accept(socket: Socket): void {
    const { service, connectionsMax, connection: options, logger } = this.#options
    if (this.#connections.size >= connectionsMax) {
      logger.warn('a connection was refused: there are as many as connections-max allows', { connectionsMax })
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    const connection = serveConnection(socket, service, options)
    this.#connections.add(connection)
    void connection.closed.then(() => this.#connections.delete(connection))
  }
}

/**
 * Binds `server` to a loopback address and gives the real one.
 *
 * @throws TidelogError HOST_NOT_LOOPBACK (also when a name turns out to be another address), ADDRESS_IN_USE, IO_FAILED.
 */
export async function listenOnLoopback(server: Server, address: HostPort): Promise<HostPort> {
  const { host, port } = address
  const shown = formatHostPort(address)
  if (!isLoopbackHost(host)) throw notLoopback(shown)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port, backlog: BACKLOG, exclusive: true }, () => {
        server.removeListener('error', reject)
        resolve()
      })
    })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') {
      throw new TidelogError('ADDRESS_IN_USE', `something else listens on ${shown}; stop it, or choose another port`, {
        cause,
      })
    }
    throw new TidelogError('IO_FAILED', `cannot listen on ${shown} (${code})`, { cause })
  }
  const bound = server.address() as AddressInfo
  if (!isLoopbackHost(bound.address)) {
    await new Promise((resolve) => server.close(resolve))
    throw notLoopback(`${shown}, which is ${bound.address} here,`)
  }
  return { host: bound.address, port: bound.port }
}

function notLoopback(shown: string): TidelogError<'HOST_NOT_LOOPBACK'> {
  return new TidelogError(
    'HOST_NOT_LOOPBACK',
    `${shown} can be reached by others. Connections are neither encrypted nor authenticated, so only loopback is allowed: 127.0.0.1, ::1 or localhost.`,
  )
}
