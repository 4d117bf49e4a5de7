/** CONFIRM, THROTTLE and exclusive messages over a real socket, on a node with its pchannels in memory. */
import { afterEach, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { MemoryLogs } from '../../../src/log-store/memory.ts'
import { encodeMessage, MessageType } from '../../../src/protocol/message.ts'
import { decodeProduced } from '../../../src/protocol/produce-messages.ts'
import { decodeConfirmed, decodeThrottle, encodeConfirm } from '../../../src/protocol/wal-messages.ts'
import type { ConnectionOptions } from '../../../src/streaming-node/connection/options.ts'
import { type NodeOptions, StreamingNode } from '../../../src/streaming-node/node.ts'
import { Admission } from '../../../src/wal/pipeline/admission.ts'
import { ManualClock } from '../../wal/manual-clock.ts'
import { type Served, serve, until } from './memory-node.ts'
import { produceMessage, RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

interface Started {
  node: StreamingNode
  served: Served<StreamingNode>
  client: RawClient
  /** Lets the next write of the pchannel settle. */
  release: () => void
  /** Frames of each write of that pchannel. */
  writes: number[]
}

async function start(
  options: Partial<NodeOptions> = {},
  connection: Partial<ConnectionOptions> = {},
  held = false,
): Promise<Started> {
  await loadChecksum()
  const waiting: (() => void)[] = []
  const writes: number[] = []
  const commit = (pchannel: string, frames: number) => {
    if (!held || pchannel !== '0') return Promise.resolve()
    writes.push(frames)
    return new Promise<void>((resolve) => waiting.push(resolve))
  }
  const node = await StreamingNode.open({
    stores: new MemoryLogs({ commit }).opener(),
    pchannels: 2,
    timeTickIntervalMs: 1,
    ...options,
  })
  open.push(node)
  await node.resolve('a', true)
  const served = await serve(node, connection)
  open.push(served)
  const client = await RawClient.greeted(served.port)
  open.push(client)
  return { node, served, client, release: () => waiting.shift()?.(), writes }
}

const confirm = (id: number, atLeast: bigint, waitMs = 60_000, group = 0) =>
  encodeMessage(MessageType.confirm, id, encodeConfirm({ group, atLeast, waitMs }))

/** A tick so far ahead that no clock reaches it here. */
const FAR = 1n << 63n

describe('CONFIRM', () => {
  it('is answered at once with the watermark, and when a tick has passed, within an interval of it', async () => {
    const { client } = await start()
    client.socket.write(confirm(1, 0n))
    const now = decodeConfirmed((await client.next(MessageType.confirmed)).meta)
    expect(now).toBeGreaterThan(0n)
    // 50 ms ahead: nothing is written, and the answer comes all the same.
    const later = now + (50n << 18n)
    client.socket.write(confirm(2, later))
    const message = await client.next(MessageType.confirmed)
    expect(message.requestId).toBe(2)
    expect(decodeConfirmed(message.meta)).toBeGreaterThanOrEqual(later)
  })

  it('waits for a write that is under way, and for no other group', async () => {
    const { node, client, release } = await start({}, {}, true)
    client.socket.write(produceMessage(1, [{ vchannel: 'a' }]))
    await until(() => node.watermark(0) < node.watermark(1))
    const tick = node.watermark(1)
    client.socket.write(Buffer.concat([confirm(2, tick), confirm(3, tick, 60_000, 1)]))
    expect((await client.next(MessageType.confirmed)).requestId).toBe(3)
    expect(client.messages.some(({ requestId }) => requestId === 2)).toBe(false)
    release()
    expect((await client.next(MessageType.produced)).requestId).toBe(1)
    expect((await client.next(MessageType.confirmed)).requestId).toBe(2)
  })

  it('ends with TIMEOUT, with a bound on those who wait, and with the connection', async () => {
    const { client, served } = await start({}, { confirmsMax: 2 })
    client.socket.write(confirm(1, FAR, 0))
    expect(await client.error()).toMatchObject({ requestId: 1, code: 'TIMEOUT', retriable: true })
    client.socket.write(confirm(2, FAR, 20))
    expect(await client.error()).toMatchObject({ requestId: 2, code: 'TIMEOUT' })
    client.socket.write(Buffer.concat([confirm(3, FAR), confirm(4, FAR), confirm(5, FAR)]))
    expect(await client.error()).toMatchObject({ requestId: 5, code: 'LIMIT_EXCEEDED' })
    for (const connection of served.connections) connection.end('DRAINING', 'the node stops')
    expect([await client.error(), await client.error()].map(({ requestId, code }) => [requestId, code])).toEqual([
      [3, 'CLOSED'],
      [4, 'CLOSED'],
    ])
    expect(await client.goodbye()).toMatchObject({ code: 'DRAINING', received: 6 })
  })

  it('of a group that is not there is refused', async () => {
    const { client } = await start()
    client.socket.write(confirm(1, 1n, 1_000, 9))
    expect(await client.error()).toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('THROTTLE', () => {
  const throttles = (client: RawClient) =>
    client.messages.filter(({ type }) => type === MessageType.throttle).map(({ meta }) => decodeThrottle(meta))

  it('tells those who write to a group, and nobody else, what it takes; refused frames can be sent again', async () => {
    const clock = new ManualClock()
    const wal = { clock, admission: { bytesPerSecond: 1_000, burstBytes: 1_000, delayMsMax: 100 } }
    const { client, served } = await start({ wal })
    const reader = await RawClient.greeted(served.port)
    open.push(reader)
    const big = [{ vchannel: 'a', payload: Buffer.alloc(900) }]
    client.socket.write(produceMessage(1, big))
    expect((await client.next(MessageType.produced)).requestId).toBe(1)
    expect(throttles(client)).toEqual([])
    client.socket.write(produceMessage(2, big))
    expect(await client.error()).toMatchObject({ code: 'RATE_LIMITED', outcome: 'not-written', retriable: true })
    await until(() => throttles(client).length === 1)
    expect(throttles(client)).toEqual([{ group: 0, state: 'refusing', bytesPerSecond: 1_000 }])
    // One that comes now is told with its first frame.
    const late = await RawClient.greeted(served.port)
    open.push(late)
    late.socket.write(produceMessage(1, big))
    await late.error()
    await until(() => throttles(late).length === 1)
    await clock.advance(10_000)
    await until(() => throttles(client).length === 2)
    expect(throttles(client)[1]).toEqual({ group: 0, state: 'ok', bytesPerSecond: 0 })
    client.socket.write(produceMessage(3, big, { generation: 2 }))
    expect((await client.next(MessageType.produced)).requestId).toBe(3)
    expect(throttles(reader)).toEqual([])
  })

  it('tells of a bound that all groups share', async () => {
    const clock = new ManualClock()
    const nodeAdmission = new Admission(clock, 'the node', { bytesPerSecond: 1_000, burstBytes: 1_000, delayMsMax: 1 })
    const { client } = await start({ wal: { clock, nodeAdmission } })
    client.socket.write(produceMessage(1, [{ vchannel: 'a', payload: Buffer.alloc(900) }]))
    await client.next(MessageType.produced)
    client.socket.write(produceMessage(2, [{ vchannel: 'a', payload: Buffer.alloc(900) }]))
    await client.error()
    await until(() => throttles(client).length === 1)
    expect(throttles(client)[0]).toMatchObject({ group: 0, state: 'refusing' })
  })
})

describe('an exclusive message', () => {
  it('waits for what is under way, and what comes behind it waits for it, in order', async () => {
    const { client, release, writes } = await start({}, {}, true)
    // Three producers of their own: no lane keeps them in order.
    client.socket.write(
      Buffer.concat([
        produceMessage(1, [{ vchannel: 'a' }], { producer: 1 }),
        produceMessage(2, [{ vchannel: 'a', type: 9 }], { producer: 2 }),
        produceMessage(3, [{ vchannel: 'a' }], { producer: 3 }),
      ]),
    )
    const lsns: number[][] = []
    for (let index = 0; index < 3; index++) {
      await until(() => {
        release()
        return client.messages.some(({ type }) => type === MessageType.produced)
      })
      const { requestId, meta } = await client.next(MessageType.produced)
      lsns.push([requestId, decodeProduced(meta).firstLsn])
    }
    // Each in a write of its own, though all three came at once.
    expect(writes).toEqual([1, 1, 1])
    expect(lsns).toEqual([
      [1, 0],
      [2, 1],
      [3, 2],
    ])
  })
})
