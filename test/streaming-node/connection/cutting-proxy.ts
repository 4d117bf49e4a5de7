/** A proxy between client and node that a test cuts: at once, or after so many bytes of one direction. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class CuttingProxy {
  readonly address: string
  readonly #server: Server
  readonly #pairs = new Set<[Socket, Socket]>()
  /** After how many bytes from the node a new connection is cut; null: never. */
  cutAfter: () => number | null = () => null
  /** New connections are closed at once. */
  refuses = false
  connections = 0
  port: number

  private constructor(server: Server, address: string, port: number) {
    this.#server = server
    this.address = address
    this.port = port
  }

  static async start(port: number): Promise<CuttingProxy> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const proxy = new CuttingProxy(server, `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`, port)
    server.on('connection', (client) => proxy.#accept(client))
    return proxy
  }

  #accept(client: Socket): void {
    this.connections++
    client.on('error', () => {})
    if (this.refuses) {
      client.destroy()
      return
    }
    const node = connect(this.port, '127.0.0.1')
    node.on('error', () => {})
    const pair: [Socket, Socket] = [client, node]
    this.#pairs.add(pair)
    const cut = () => {
      this.#pairs.delete(pair)
      client.destroy()
      node.destroy()
    }
    const forward = (from: Socket, to: Socket, limit: number | null) => {
      let left = limit
      from.on('data', (chunk: Buffer) => {
        if (left !== null && chunk.length >= left) {
          to.write(chunk.subarray(0, left), cut)
          left = 0
          return
        }
        if (left !== null) left -= chunk.length
        if (!to.write(chunk)) {
          from.pause()
          to.once('drain', () => from.resume())
        }
      })
      from.on('close', cut)
    }
    forward(client, node, null)
    forward(node, client, this.cutAfter())
  }

  /** Cuts every connection that is open. */
  cut(): void {
    for (const [client, node] of this.#pairs) {
      client.destroy()
      node.destroy()
    }
    this.#pairs.clear()
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.cut()
    await closed
  }
}
