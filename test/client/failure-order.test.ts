import { afterEach, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { connect } from '../../src/client/connect.ts'
import type { Client } from '../../src/client/types.ts'
import { TidelogError } from '../../src/errors.ts'
import { MessageType } from '../../src/protocol/message.ts'
import { MemoryNode, type Served, serve, until } from '../streaming-node/connection/memory-node.ts'
import { produceMessage, RawClient } from '../streaming-node/connection/raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(groups = 1): Promise<{ node: MemoryNode; served: Served; client: Client }> {
  await loadChecksum()
  const node = await MemoryNode.open(groups)
  const served = await serve(node)
  open.push(served)
  const client = await connect(served.address, { backoffMs: 1 })
  open.push(client)
  return { node, served, client }
}

const refusal = (retriable: boolean) => new TidelogError('DISK_FULL', 'no room', { outcome: 'not-written', retriable })

describe('the node', () => {
  it('fails what comes behind a failed frame on its vchannels, in order, until the next generation', async () => {
    const { node, served } = await start()
    for (const name of ['a', 'b', 'c']) await node.resolve(name, true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    node.beforeAppend = (_, body) => {
      if (body.head.vchannels.includes('b') && body.head.recordCount === 1) throw refusal(true)
    }
    const a = { vchannel: 'a' }
    const b = { vchannel: 'b' }
    const c = { vchannel: 'c' }
    raw.socket.write(
      Buffer.concat([
        produceMessage(1, [a]),
        produceMessage(2, [b]), // fails
        produceMessage(3, [a]), // another vchannel: goes
        produceMessage(4, [a, b]), // holds b: fails, and a with it
        produceMessage(5, [a]), // fails for that
        produceMessage(6, [c]), // goes
        produceMessage(7, [b, b], { producer: 2 }), // another producer: goes
        produceMessage(8, [b, b], { generation: 2 }), // a new generation: goes
        produceMessage(9, [a], { generation: 2 }),
      ]),
    )
    await until(() => raw.messages.length === 9)
    const answers = raw.messages.map(({ type, requestId }) => [requestId, type === MessageType.produced])
    expect(answers.filter(([id]) => id !== 7)).toEqual([
      [1, true],
      [2, false],
      [3, true],
      [4, false],
      [5, false],
      [6, true],
      [8, true],
      [9, true],
    ])
    expect(answers).toContainEqual([7, true])
    const codes = []
    for (let index = 0; index < 3; index++) codes.push((await raw.error()).code)
    expect(codes).toEqual(['DISK_FULL', 'FAILED_BEFORE', 'FAILED_BEFORE'])
    expect(node.nextLsn(0)).toBe(8)
  })

  it('lets nothing slip past a frame that is refused later than at once', async () => {
    const { node, served } = await start()
    await node.resolve('a', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    let calls = 0
    node.beforeAppend = async () => {
      calls++
      if (calls !== 1) return
      // As many microtasks as a refusal in the depths may take.
      for (let depth = 0; depth < 20; depth++) await null
      throw refusal(true)
    }
    raw.socket.write(Buffer.concat([1, 2, 3, 4].map((id) => produceMessage(id, [{ vchannel: 'a' }]))))
    const codes = []
    for (let index = 0; index < 4; index++) codes.push((await raw.error()).code)
    expect(codes).toEqual(['DISK_FULL', 'FAILED_BEFORE', 'FAILED_BEFORE', 'FAILED_BEFORE'])
    expect(calls).toBe(1)
    expect(node.nextLsn(0)).toBe(0)
  })

  it('answers a frame with a barrier before the next one goes to the log', async () => {
    const { node, served } = await start()
    await node.resolve('a', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    const far = (BigInt(Date.now()) + 3_600_000n) << 18n
    raw.socket.write(
      Buffer.concat([
        produceMessage(1, [{ vchannel: 'a' }]),
        produceMessage(2, [{ vchannel: 'a' }], { barrierTick: far }),
        produceMessage(3, [{ vchannel: 'a' }]),
      ]),
    )
    await raw.next(MessageType.produced)
    expect(await raw.error()).toMatchObject({ requestId: 2, code: 'TICK_TOO_FAR_AHEAD', outcome: 'not-written' })
    expect(await raw.error()).toMatchObject({ requestId: 3, code: 'FAILED_BEFORE' })
    expect(node.nextLsn(0)).toBe(1)
  })

  it('refuses produce while it drains, and answers what it took before', async () => {
    const { node, served } = await start()
    await node.resolve('a', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    let release: (() => void) | null = null
    node.beforeAppend = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    raw.socket.write(produceMessage(1, [{ vchannel: 'a' }]))
    await until(() => release !== null)
    node.accepting = false
    raw.socket.write(produceMessage(2, [{ vchannel: 'a' }]))
    for (const connection of served.connections) setImmediate(() => connection.end('DRAINING', 'going'))
    setTimeout(() => release!(), 20)
    await raw.next(MessageType.produced)
    const goodbye = await raw.goodbye()
    expect(goodbye.code).toBe('DRAINING')
  })
})

describe('the client', () => {
  it('sends again what was refused for now, in order, and nothing twice', async () => {
    const { node, client } = await start()
    let refused = 0
    node.beforeAppend = () => {
      if (refused < 5 && Math.random() < 0.5) {
        refused++
        throw refusal(true)
      }
    }
    const producer = await client.producer('a')
    const tickets = []
    for (let index = 0; index < 500; index++) {
      tickets.push(await producer.submit({ payload: Buffer.from(`${index}`) }))
      if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await producer.flush()
    const lsns = await Promise.all(tickets.map(async (ticket) => (await ticket.acknowledged).lsn))
    expect(lsns).toEqual(Array.from({ length: 500 }, (_, index) => index))
  })

  it('fails what a producer submitted behind a record that failed for good, in order, and then goes on', async () => {
    const { node, client } = await start()
    await client.append('a', {})
    let release = () => {}
    let held = 0
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    node.beforeAppend = async () => {
      held++
      await released
      throw new TidelogError('POISONED', 'a write failed', { outcome: 'unknown' })
    }
    const producer = await client.producer('a')
    const other = client.append('a', { payload: Buffer.from('other') }).catch((error: TidelogError) => error)
    const order: string[] = []
    const tickets = []
    for (let index = 0; index < 10; index++) {
      const ticket = await producer.submit({ payload: Buffer.from(`${index}`) })
      tickets.push(ticket)
      ticket.acknowledged.catch((error: TidelogError<string>) => order.push(`${index} ${error.code} ${error.outcome}`))
      if (index === 2) await until(() => held > 0)
    }
    node.beforeAppend = null
    release()
    await expect(producer.flush()).rejects.toMatchObject({ code: 'POISONED', outcome: 'unknown' })
    const unknown = order.filter((line) => line.endsWith('unknown')).length
    expect(unknown).toBeGreaterThanOrEqual(1)
    expect(order).toEqual(
      tickets.map((_, index) => (index < unknown ? `${index} POISONED unknown` : `${index} FAILED_BEFORE not-written`)),
    )
    await other
    const next = await (await producer.submit({ payload: Buffer.from('next') })).acknowledged
    expect(next.lsn).toBeGreaterThan(0)
    await producer.close()
    await expect(producer.submit({})).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('lets one record that is refused for good fail alone', async () => {
    const { node, client } = await start()
    await client.append('a', {})
    node.beforeAppend = (_, body) => {
      const bad = [...Array(body.head.recordCount).keys()].some((row) => body.head.type(row) === 666)
      if (bad) throw new TidelogError('LIMIT_EXCEEDED', 'not this one', { outcome: 'not-written' })
    }
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => client.append('a', { type: index === 7 ? 666 : 2 })),
    )
    expect(results.map((result) => result.status)).toEqual(
      Array.from({ length: 20 }, (_, index) => (index === 7 ? 'rejected' : 'fulfilled')),
    )
    expect(node.nextLsn(0)).toBe(20)
  })

  it('aborts: not written before it is sent, unknown afterwards', async () => {
    const { node, client } = await start()
    await client.append('a', {})
    await expect(client.append('a', {}, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
      outcome: 'not-written',
    })
    let release: (() => void) | null = null
    node.beforeAppend = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    const abort = new AbortController()
    const sent = client.append('a', {}, { signal: abort.signal })
    await until(() => release !== null)
    abort.abort()
    await expect(sent).rejects.toMatchObject({ code: 'ABORTED', outcome: 'unknown' })
    node.beforeAppend = null
    release!()
    await client.append('a', {})
    expect(node.nextLsn(0)).toBe(3)
  })
})
