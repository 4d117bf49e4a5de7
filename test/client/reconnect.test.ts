import { afterEach, describe, expect, it } from 'vitest'
import { connect } from '../../src/client/connect.ts'
import type { Client, ClientOptions, ConnectionEvent, ConsumedRecord } from '../../src/client/types.ts'
import type { TidelogError } from '../../src/errors.ts'
import { CuttingProxy } from '../streaming-node/connection/cutting-proxy.ts'
import { MemoryNode, type Served, serve, until } from '../streaming-node/connection/memory-node.ts'

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

interface Setup {
  node: MemoryNode
  served: Served
  proxy: CuttingProxy
  client: Client
  direct: Client
}

async function start(groups: number, options: ClientOptions = {}): Promise<Setup> {
  const node = await MemoryNode.open(groups)
  const served = await serve(node)
  open.push(served)
  const proxy = await CuttingProxy.start(served.port)
  open.push(proxy)
  const client = await connect(proxy.address, { backoffMs: 1, backoffMaxMs: 20, random: () => 0.5, ...options })
  open.push(client)
  const direct = await connect(served.address)
  open.push(direct)
  return { node, served, proxy, client, direct }
}

const number = (record: ConsumedRecord) => Number(Buffer.from(record.payload).toString())
const numbered = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ payload: Buffer.from(`${from + index}`) }))

describe('a consumer whose connection is cut', () => {
  it('goes on where it was, without loss and without anything twice, wherever the cut falls', async () => {
    const { proxy, client, direct } = await start(2)
    const total = 4000
    for (let at = 0; at < total; at += 100) {
      await direct.appendBatch('a', numbered(at, 100))
      await direct.appendBatch('b', numbered(at, 100))
    }
    // Cuts in the middle of headers, metas, heads and sections.
    let cutAt = 701
    proxy.cutAfter = () => {
      cutAt = 600 + ((cutAt * 7) % 9001)
      return cutAt
    }
    proxy.cut()
    const seen: Record<string, number[]> = { a: [], b: [] }
    const lsns: Record<string, number[]> = { a: [], b: [] }
    for await (const record of client.consume(['a', 'b'], { untilCaughtUp: true })) {
      seen[record.vchannel]!.push(number(record))
      lsns[record.vchannel]!.push(record.lsn)
    }
    expect(proxy.connections).toBeGreaterThan(10)
    const all = Array.from({ length: total }, (_, index) => index)
    expect(seen.a).toEqual(all)
    expect(seen.b).toEqual(all)
    expect(lsns.a).toEqual(all)
  })

  it('follows through cuts while records are appended', async () => {
    const { proxy, client, direct } = await start(1)
    await direct.createVchannel('a')
    const seen: number[] = []
    const reading = (async () => {
      for await (const record of client.consume(['a'], { from: 'latest', limit: 500 })) seen.push(number(record))
    })()
    await until(() => proxy.connections > 0)
    // "latest" is what it was when the consumer began: appends come only once it has.
    const stream = client.consume(['a'], { from: 'latest' })
    void stream[Symbol.asyncIterator]().next()
    await stream.reached(1n)
    for (let index = 0; index < 500; index++) {
      await direct.append('a', { payload: Buffer.from(`${index}`) })
      if (index % 50 === 49) proxy.cut()
    }
    await reading
    expect(seen).toEqual(Array.from({ length: 500 }, (_, index) => index))
  })

  it('is given up with SERVER_UNREACHABLE when nobody comes back', async () => {
    const { proxy, client, direct } = await start(1, { reconnectTimeoutMs: 80 })
    await direct.append('a', {})
    const iterator = client.consume(['a'])[Symbol.asyncIterator]()
    await iterator.next()
    proxy.refuses = true
    proxy.cut()
    await expect(iterator.next()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' })
    proxy.refuses = false
    // The client itself is not broken.
    expect((await client.status()).groups).toHaveLength(1)
  })

  it('resumes after the node has said goodbye and another one has taken its place', async () => {
    const { node, served, proxy, client, direct } = await start(1)
    await direct.appendBatch('a', numbered(0, 10))
    const iterator = client.consume(['a'])[Symbol.asyncIterator]()
    for (let index = 0; index < 10; index++) expect(number((await iterator.next()).value!)).toBe(index)
    const again = await serve(node)
    open.push(again)
    proxy.port = again.port
    for (const connection of served.connections) connection.end('DRAINING', 'the node is going down')
    const next = iterator.next()
    const other = await connect(again.address)
    open.push(other)
    await other.append('a', { payload: Buffer.from('10') })
    expect(number((await next).value!)).toBe(10)
  })
})

describe('an append whose connection is cut', () => {
  it('is unknown when it was sent, and what was not sent goes on the next connection', async () => {
    const { node, proxy, client } = await start(1)
    await client.append('a', { payload: Buffer.from('first') })
    let release: (() => void) | null = null
    node.beforeAppend = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    const sent = client.append('a', { payload: Buffer.from('sent') })
    await until(() => release !== null)
    const outcome = sent.catch((error: TidelogError) => error)
    proxy.cut()
    expect(await outcome).toMatchObject({ code: 'CONNECTION_LOST', outcome: 'unknown' })
    node.beforeAppend = null
    release!()
    const next = await client.append('a', { payload: Buffer.from('next') })
    expect(next.lsn).toBeGreaterThan(0)
  })

  it('never loses an acknowledged record and never writes a "not written" one, over many cuts', async () => {
    const { proxy, client, direct } = await start(1)
    const fates: ('acknowledged' | 'unknown' | 'not-written')[] = []
    const waiting: Promise<void>[] = []
    for (let index = 0; index < 2000; index++) {
      const settled = client.append('a', { payload: Buffer.from(`${index}`) }).then(
        () => {
          fates[index] = 'acknowledged'
        },
        (error: TidelogError) => {
          fates[index] = error.outcome!
        },
      )
      waiting.push(settled)
      if (index % 20 === 0) await new Promise((resolve) => setImmediate(resolve))
      if (index % 300 === 299) proxy.cut()
    }
    await Promise.all(waiting)
    const written = new Map<number, number>()
    for await (const record of direct.consume(['a'], { untilCaughtUp: true })) {
      written.set(number(record), (written.get(number(record)) ?? 0) + 1)
    }
    for (const [index, fate] of fates.entries()) {
      if (fate === 'acknowledged') expect(written.get(index)).toBe(1)
      if (fate === 'not-written') expect(written.get(index)).toBeUndefined()
      expect(written.get(index) ?? 0).toBeLessThanOrEqual(1)
    }
    expect(fates.filter((fate) => fate === 'acknowledged').length).toBeGreaterThan(100)
  })

  it('goes again by itself where the goodbye says that it was not received', async () => {
    const { node, served, proxy, client } = await start(1)
    await client.append('a', {})
    const again = await serve(node)
    open.push(again)
    proxy.port = again.port
    // The node goes while records are on their way: none of them may be unknown.
    const appends = Array.from({ length: 200 }, async (_, index) => {
      await new Promise((resolve) => setImmediate(resolve))
      if (index === 100) for (const connection of served.connections) connection.end('DRAINING', 'going')
      return await client.append('a', { payload: Buffer.from(`${index}`) })
    })
    const lsns = (await Promise.all(appends)).map((appended) => appended.lsn)
    expect(new Set(lsns).size).toBe(200)
    expect(node.nextLsn(0)).toBe(201)
  })

  it('is late with TIMEOUT and not written when nobody comes back in time', async () => {
    let lost = false
    const onConnection = ({ state }: ConnectionEvent) => {
      lost = state === 'lost'
    }
    const { proxy, client } = await start(1, { appendTimeoutMs: 60, onConnection })
    await client.append('a', {})
    proxy.refuses = true
    proxy.cut()
    await until(() => lost)
    await expect(client.append('a', {})).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'not-written',
      retriable: true,
    })
  })

  it('is late with TIMEOUT and unknown when the node does not answer', async () => {
    const { node, client } = await start(1, { appendTimeoutMs: 60 })
    await client.append('a', {})
    let release: (() => void) | null = null
    node.beforeAppend = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    await expect(client.append('a', {})).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' })
    node.beforeAppend = null
    release!()
    await client.append('a', {})
    expect(node.nextLsn(0)).toBe(3)
  })
})
