/** A model node, a proxy that a test cuts, and clients on both sides of it. */
import { connect } from '../../src/client/connect.ts'
import type { Client, ClientOptions, ConsumedRecord, ConsumeOptions } from '../../src/client/types.ts'
import { CuttingProxy } from '../streaming-node/connection/cutting-proxy.ts'
import { ModelNode, serveModel } from './model-node.ts'

export class ModelSetup {
  readonly node: ModelNode
  readonly proxy: CuttingProxy
  /** Through the proxy. */
  readonly client: Client
  readonly direct: Client
  readonly #address: string
  readonly #open: { close(): Promise<void> }[]

  private constructor(
    node: ModelNode,
    proxy: CuttingProxy,
    clients: { client: Client; direct: Client },
    address: string,
    open: { close(): Promise<void> }[],
  ) {
    this.node = node
    this.proxy = proxy
    this.client = clients.client
    this.direct = clients.direct
    this.#address = address
    this.#open = open
  }

  static async start(groups = 1, options: ClientOptions = {}): Promise<ModelSetup> {
    const node = await ModelNode.open(groups)
    const served = await serveModel(node)
    const proxy = await CuttingProxy.start(served.port)
    const client = await connect(proxy.address, { ...quick, ...options })
    const direct = await connect(served.address)
    return new ModelSetup(node, proxy, { client, direct }, served.address, [served, proxy, client, direct])
  }

  /** Another client, past the proxy. */
  async another(options: ClientOptions = {}): Promise<Client> {
    const client = await connect(this.#address, options)
    this.#open.push(client)
    return client
  }

  /** The node goes and comes: connections end, and what was open in it is rolled back. */
  async restart(): Promise<void> {
    const served = await serveModel(this.node)
    this.#open.push(served)
    this.proxy.port = served.port
    await this.node.restart()
    this.proxy.cut()
  }

  /** Cuts every connection when the next frame was written, before it is answered. */
  cutAfterAppend(times = 1): void {
    let left = times
    this.node.afterAppend = () => {
      if (left-- > 0) this.proxy.cut()
    }
  }

  async read(vchannels: string | string[], options: ConsumeOptions = {}): Promise<ConsumedRecord[]> {
    const records: ConsumedRecord[] = []
    for await (const record of this.direct.consume(vchannels, { untilCaughtUp: true, ...options })) records.push(record)
    return records
  }

  async close(): Promise<void> {
    for (const each of this.#open.splice(0).reverse()) await each.close()
  }
}

const quick: ClientOptions = { backoffMs: 1, backoffMaxMs: 20, random: () => 0.5 }

export function text(value: string | number): { payload: Buffer } {
  return { payload: Buffer.from(String(value)) }
}

export function textOf({ payload }: ConsumedRecord): string {
  return Buffer.from(payload).toString()
}
