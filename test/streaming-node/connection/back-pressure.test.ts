import { afterEach, describe, expect, it } from 'vitest'
import { connect } from '../../../src/client/connect.ts'
import { encodeConsume } from '../../../src/protocol/control-messages.ts'
import { encodeMessage, MessageType } from '../../../src/protocol/message.ts'
import { ByteBudget } from '../../../src/streaming-node/connection/byte-budget.ts'
import {
  type ConnectionMetrics,
  type ConnectionOptions,
  silentMetrics,
} from '../../../src/streaming-node/connection/options.ts'
import { MemoryNode, type Served, serve, until } from './memory-node.ts'
import { produceMessage, RawClient } from './raw-client.ts'

const KiB = 1024
const MiB = 1024 * KiB

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

class Counters {
  sent = 0
  received = 0
  readonly closedWith: string[] = []
  readonly metrics: ConnectionMetrics = {
    ...silentMetrics,
    connectionClosed: (code) => {
      this.closedWith.push(code)
    },
    bytesSent: (bytes) => {
      this.sent += bytes
    },
    bytesReceived: (bytes) => {
      this.received += bytes
    },
  }
}

async function start(
  options: Partial<ConnectionOptions> = {},
): Promise<{ node: MemoryNode; served: Served; counters: Counters }> {
  const node = await MemoryNode.open(1)
  const counters = new Counters()
  const served = await serve(node, { ...options, metrics: counters.metrics })
  open.push(served)
  return { node, served, counters }
}

/** 32 MiB in frames of 64 KiB. */
async function fill(served: Served): Promise<void> {
  const client = await connect(served.address)
  const records = Array.from({ length: 64 }, () => ({ payload: Buffer.alloc(KiB) }))
  const producer = await client.producer('a')
  for (let index = 0; index < 512; index++) await producer.submitBatch(records)
  await producer.flush()
  await client.close()
}

/** Turns of the event loop in which nothing was sent any more. */
async function quiet(count: () => number): Promise<void> {
  let last = -1
  let turns = 0
  await until(() => {
    turns = count() === last ? turns + 1 : 0
    last = count()
    return turns > 200
  })
}

describe('memory is bounded', () => {
  it('on the client when the consumer is slow: no more comes than its window and one frame', async () => {
    const { served, counters } = await start()
    await fill(served)
    const client = await connect(served.address, { consumeBytes: 256 * KiB })
    open.push(client)
    const before = counters.sent
    const iterator = client.consume(['a'])[Symbol.asyncIterator]()
    await iterator.next()
    await quiet(() => counters.sent)
    expect(counters.sent - before).toBeLessThan(256 * KiB + 2 * 70 * KiB)
    for (let index = 1; index < 64 * 100; index++) await iterator.next()
    await quiet(() => counters.sent)
    expect(counters.sent - before).toBeLessThan(100 * 70 * KiB + 256 * KiB + 2 * 70 * KiB)
    await iterator.return!()
  })

  it('on the node when a client with endless credit does not read', async () => {
    const { served } = await start({ writeBufferBytes: 256 * KiB })
    await fill(served)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    raw.socket.pause()
    const consume = { group: 0, vchannels: ['a'], from: 'earliest' as const, bytes: 1e15, frames: 1e9 }
    raw.socket.write(encodeMessage(MessageType.consume, 1, encodeConsume(consume)))
    let most = 0
    let last = 0
    let turns = 0
    await until(() => {
      for (const { writableLength, bytesWritten } of served.sockets) {
        most = Math.max(most, writableLength)
        turns = bytesWritten === last ? turns + 1 : 0
        last = bytesWritten
      }
      return turns > 200
    })
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThan(256 * KiB + 2 * 70 * KiB)
  })

  it('on the node when a producer is faster than the log: it stops reading', async () => {
    const { node, served, counters } = await start({ produceBytesMax: 512 * KiB })
    await node.resolve('a', true)
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    node.beforeAppend = () => released
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    const total = 400
    for (let id = 1; id <= total; id++) {
      raw.socket.write(produceMessage(id, [{ vchannel: 'a', payload: Buffer.alloc(100 * KiB) }]))
    }
    await quiet(() => counters.received)
    expect(counters.received).toBeLessThan(MiB)
    release()
    for (let id = 1; id <= total; id++) await raw.next(MessageType.produced)
    expect(node.nextLsn(0)).toBe(total)
  })

  it('on the node for all producers together: many may not hold what one may, and none is starved', async () => {
    const produceBudget = new ByteBudget(MiB)
    const { node, served, counters } = await start({ produceBudget })
    await node.resolve('a', true)
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    node.beforeAppend = () => released
    const clients = await Promise.all(Array.from({ length: 10 }, () => RawClient.greeted(served.port)))
    open.push(...clients)
    for (const raw of clients) {
      for (let id = 1; id <= 40; id++) {
        raw.socket.write(produceMessage(id, [{ vchannel: 'a', payload: Buffer.alloc(100 * KiB) }]))
      }
    }
    await quiet(() => counters.received)
    // One frame and what a socket had read already, for each beyond the budget.
    expect(counters.received).toBeLessThan(MiB + 10 * 256 * KiB)
    expect(produceBudget.isFull).toBe(true)
    release()
    for (const raw of clients) for (let id = 1; id <= 40; id++) await raw.next(MessageType.produced)
    expect(node.nextLsn(0)).toBe(400)
    expect(produceBudget.heldBytes).toBe(0)
  })

  it('on the client when the log is slow: submit waits, and what does not wait is refused', async () => {
    const { node, served } = await start()
    const client = await connect(served.address, { submitBytes: 64 * KiB, queueBytes: 128 * KiB })
    open.push(client)
    await client.append('a', {})
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    node.beforeAppend = () => released
    const producer = await client.producer('a')
    let submitted = 0
    const submitting = (async () => {
      for (let index = 0; index < 200; index++) {
        await producer.submit({ payload: Buffer.alloc(KiB) })
        submitted++
      }
    })()
    await quiet(() => submitted)
    expect(submitted).toBeLessThanOrEqual(64)
    const appends = Array.from({ length: 200 }, () => client.append('a', { payload: Buffer.alloc(KiB) }))
    const refused = await Promise.race(appends.map((append) => append.catch((error) => error)))
    expect(refused).toMatchObject({ code: 'QUEUE_FULL', outcome: 'not-written', retriable: true })
    release()
    await Promise.allSettled(appends)
    await submitting
    await producer.flush()
    expect(submitted).toBe(200)
  })

  it('ends a connection whose client never reads, with SLOW_CONNECTION', async () => {
    const { served, counters } = await start({ writeBufferBytes: 64 * KiB, writeStallTimeoutMs: 50 })
    await fill(served)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    raw.socket.pause()
    const consume = { group: 0, vchannels: ['a'], from: 'earliest' as const, bytes: 1e15, frames: 1e9 }
    raw.socket.write(encodeMessage(MessageType.consume, 1, encodeConsume(consume)))
    await until(() => counters.closedWith.includes('SLOW_CONNECTION'))
  })
})
