import { afterEach, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/index.ts'
import { encodeControl } from '../../../src/protocol/control-codec.ts'
import { encodeConsume, encodeResolve } from '../../../src/protocol/control-messages.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, MessageType, writeHeader } from '../../../src/protocol/message.ts'
import { encodeProduced } from '../../../src/protocol/produce-messages.ts'
import { writeBigU64 } from '../../../src/protocol/u64.ts'
import type { ConnectionOptions } from '../../../src/streaming-node/connection/options.ts'
import { MemoryNode, type Served, serve, until } from './memory-node.ts'
import { helloMessage, produceMessage, RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(options: Partial<ConnectionOptions> = {}): Promise<Served> {
  await loadChecksum()
  const node = await MemoryNode.open(2)
  await node.resolve('a', true)
  await node.resolve('b', true)
  const served = await serve(node, options)
  open.push(served)
  return served
}

async function raw(served: Served): Promise<RawClient> {
  const client = await RawClient.connect(served.port)
  open.push(client)
  return client
}

async function greeted(served: Served): Promise<RawClient> {
  const client = await RawClient.greeted(served.port)
  open.push(client)
  return client
}

/** The node still serves others, and holds nothing of the one that is gone. */
async function stillServes(served: Served): Promise<void> {
  await until(() => served.connections.size === 0)
  const client = await RawClient.greeted(served.port)
  client.socket.write(produceMessage(1, [{ vchannel: 'a' }]))
  await client.next(MessageType.produced)
  client.close()
}

describe('a connection ends with a reason', () => {
  it('for garbage, as soon as twelve bytes of it are there', async () => {
    const served = await start()
    const client = await raw(served)
    client.socket.write('GET / HTTP/1.1')
    expect(await client.goodbye()).toMatchObject({ code: 'PROTOCOL_VIOLATION', received: 0 })
    await client.closed()
    await stillServes(served)
  })

  it('for a giant length, from the header alone', async () => {
    const served = await start()
    for (const [type, meta, body] of [
      [MessageType.produce, 48, 0xffff_fff8],
      [MessageType.hello, 0xffff_ffff, 0],
      [MessageType.list, 10, 4096],
      [MessageType.produce, 48, 12],
    ] as const) {
      const client = await raw(served)
      const header = Buffer.alloc(MESSAGE_HEADER_BYTES)
      writeHeader(header, type, 1, 0, body)
      header.writeUInt32LE(meta, 20)
      writeBigU64(header, 0, hash64(header.subarray(8, 40)))
      client.socket.write(header)
      expect((await client.goodbye()).code).toBe('PROTOCOL_VIOLATION')
      await client.closed()
    }
    await stillServes(served)
  })

  it('for each flipped bit of a header and of a control meta', async () => {
    const served = await start()
    const hello = helloMessage()
    for (let bit = 0; bit < hello.length * 8; bit += 7) {
      const client = await raw(served)
      const flipped = Buffer.from(hello)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      client.socket.write(flipped)
      expect((await client.goodbye()).code).toBe('PROTOCOL_VIOLATION')
      client.close()
    }
    await stillServes(served)
  })

  it('for half a message and then silence, and for silence before the hello', async () => {
    const served = await start({ helloTimeoutMs: 60, messageTimeoutMs: 60 })
    const silent = await raw(served)
    expect(await silent.goodbye()).toMatchObject({ code: 'SLOW_CONNECTION' })
    const half = await greeted(served)
    half.socket.write(produceMessage(1, [{ vchannel: 'a', payload: Buffer.alloc(100) }]).subarray(0, 90))
    expect(await half.goodbye()).toMatchObject({ code: 'SLOW_CONNECTION', received: 1 })
    await half.closed()
    await stillServes(served)
  })

  it('for a slow loris: a byte now and then does not keep a message alive', async () => {
    const served = await start({ messageTimeoutMs: 100 })
    const client = await greeted(served)
    const message = produceMessage(1, [{ vchannel: 'a', payload: Buffer.alloc(10_000) }])
    let at = 0
    const timer = setInterval(() => client.socket.write(message.subarray(at, ++at)), 5)
    expect(await client.goodbye()).toMatchObject({ code: 'SLOW_CONNECTION' })
    clearInterval(timer)
    await stillServes(served)
  })

  it('for a client that is silent too long', async () => {
    const served = await start({ idleTimeoutMs: 60 })
    const client = await greeted(served)
    expect(await client.goodbye()).toMatchObject({ code: 'SLOW_CONNECTION' })
    await stillServes(served)
  })

  it('for a version that it does not speak', async () => {
    const served = await start()
    const client = await raw(served)
    client.socket.write(helloMessage({ versionMin: 3, versionMax: 9 }))
    expect(await client.goodbye()).toMatchObject({ code: 'PROTOCOL_VERSION' })
    await client.closed()
    const older = await raw(served)
    older.socket.write(helloMessage({ versionMin: 1, versionMax: 1 }))
    expect(await older.goodbye()).toMatchObject({ code: 'PROTOCOL_VERSION' })
    const newer = await raw(served)
    newer.socket.write(helloMessage({ versionMin: 1, versionMax: 9 }))
    await newer.next(MessageType.welcome)
  })

  it('for messages out of turn: no hello, a second one, what only a node sends, unknown types, request id 0', async () => {
    const served = await start()
    const resolve = encodeResolve({ vchannel: 'a', create: false })
    const range = { firstLsn: 0, lastLsn: 0, firstTimeTick: 1n, lastTimeTick: 1n }
    const first = await raw(served)
    first.socket.write(encodeMessage(MessageType.resolve, 1, resolve))
    expect((await first.goodbye()).code).toBe('PROTOCOL_VIOLATION')
    for (const message of [
      helloMessage(),
      encodeProduced(1, range),
      encodeMessage(99 as MessageType, 1),
      encodeMessage(MessageType.resolve, 0, resolve),
      encodeMessage(MessageType.ping, 0, Buffer.alloc(7)),
      encodeMessage(MessageType.credit, 1, Buffer.alloc(5)),
    ]) {
      const client = await greeted(served)
      client.socket.write(message)
      expect((await client.goodbye()).code).toBe('PROTOCOL_VIOLATION')
    }
    await stillServes(served)
  })

  it('for control metas that are not what they should be, without believing a count in them', async () => {
    const served = await start()
    for (const meta of [
      Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0x81, 0xa1, 0x61, 0xdd, 0x7f, 0xff, 0xff, 0xff]),
      Buffer.from([0x81, 0xa1, 0x61, 0xc7, 0x01, 0x01, 0x00]),
      Buffer.from([0x80, 0x00]),
      Buffer.concat([Buffer.from([0x81, 0xa1, 0x61]), Buffer.alloc(40, 0x91), Buffer.from([0x00])]),
      encodeControl({ vchannel: 7 }),
      encodeControl({ create: true }),
      Buffer.alloc(0),
    ]) {
      const client = await greeted(served)
      client.socket.write(encodeMessage(MessageType.resolve, 1, meta))
      expect((await client.goodbye()).code).toBe('PROTOCOL_VIOLATION')
      client.close()
    }
    await stillServes(served)
  })

  it('for a body with a right hash and wrong rows, or a wrong hash, and answers that frame first', async () => {
    const served = await start()
    const records = [
      { vchannel: 'a', payload: Buffer.from('one'), properties: { k: 'v' } },
      { vchannel: 'a', payload: Buffer.from('two') },
    ]
    const honest = produceMessage(1, records).subarray(88)
    const headLength = honest.readUInt32LE(0)
    const table = headLength - 32
    const spoils: ((body: Buffer) => void)[] = [
      (body) => body.writeUInt32LE(4, table),
      (body) => body.writeUInt32LE(0xffff_ffff, table),
      (body) => body.writeUInt16LE(7, table + 8),
      (body) => body.writeUInt16LE(1, table + 10),
      (body) => body.writeUInt16LE(0x8000, table + 14),
      (body) => body.writeUInt32LE(3, 4),
      (body) => body.writeUInt32LE(0xffff_fff8, 0),
      // A section that has another hash, and properties that lie about their length behind a right one.
      (body) => body.writeUInt8(body[headLength]! ^ 1, headLength),
      (body) => {
        body.writeUInt32LE(0xffff, headLength + 4)
        const length = body.readUInt32LE(32 + 12)
        writeBigU64(body, 32, hash64(body.subarray(headLength, headLength + length)))
      },
      (body) => body.writeUInt8(1, body.length - 1),
    ]
    for (const spoil of spoils) {
      const client = await greeted(served)
      let bodyHash = 0n
      const change = (body: Buffer) => {
        spoil(body)
        bodyHash = hash64(body.subarray(0, headLength))
      }
      produceMessage(2, records, { change })
      client.socket.write(
        Buffer.concat([
          produceMessage(1, records),
          produceMessage(2, records, { change: spoil, bodyHash }),
          produceMessage(3, records),
        ]),
      )
      await client.next(MessageType.produced)
      expect(await client.error()).toMatchObject({ requestId: 2, code: 'INVALID_BODY', outcome: 'not-written' })
      expect(await client.goodbye()).toMatchObject({ code: 'INVALID_BODY', received: 2 })
      await client.closed()
    }
    expect(served.node.nextLsn(0)).toBe(2 * spoils.length)
    await stillServes(served)
  })

  it('for more producers than it keeps', async () => {
    const served = await start({ producersMax: 8 })
    const client = await greeted(served)
    // One whose frames are answered is not kept.
    for (let producer = 1; producer <= 20; producer++) {
      client.socket.write(produceMessage(producer, [{ vchannel: 'a' }], { producer }))
      await client.next(MessageType.produced)
    }
    // One that has failed is: what follows in its generation fails too.
    for (let producer = 21; producer <= 28; producer++) {
      client.socket.write(produceMessage(producer, [{ vchannel: 'a', type: 1 }], { producer }))
      expect((await client.error()).code).toBe('INVALID_BODY')
    }
    client.socket.write(produceMessage(29, [{ vchannel: 'a' }], { producer: 28 }))
    expect((await client.error()).code).toBe('FAILED_BEFORE')
    client.socket.write(produceMessage(30, [{ vchannel: 'a' }], { producer: 30 }))
    expect((await client.goodbye()).code).toBe('PROTOCOL_VIOLATION')
    expect(served.node.nextLsn(0)).toBe(20)
  })
})

describe('a request is refused, and the connection goes on', () => {
  it('for what only the node may write', async () => {
    const served = await start()
    const client = await greeted(served)
    const refused = [
      [{ vchannel: 'a', properties: { _tt: '1' } }],
      [{ vchannel: 'a' }, { vchannel: 'a', properties: { ok: '1', _v: '2' } }],
      [{ vchannel: 'a', type: 1 }],
      [{ vchannel: 'a', type: 901 }],
      [{ vchannel: '' }],
      [{ vchannel: 'b' }],
      [{ vchannel: 'nobody' }],
    ]
    let generation = 1
    for (const records of refused) {
      client.socket.write(produceMessage(generation, records, { generation }))
      expect(await client.error()).toMatchObject({
        requestId: generation,
        code: 'INVALID_BODY',
        outcome: 'not-written',
      })
      generation++
    }
    client.socket.write(produceMessage(100, [{ vchannel: 'a', properties: { a_: '1' } }], { generation }))
    await client.next(MessageType.produced)
    expect(served.node.nextLsn(0)).toBe(1)
  })

  it('for names with control characters, empty or too long ones, and consumers of another group', async () => {
    const served = await start()
    const client = await greeted(served)
    for (const vchannel of ['', 'a\nb', 'a\u007f', 'x'.repeat(256)]) {
      client.socket.write(encodeMessage(MessageType.resolve, 1, encodeResolve({ vchannel, create: true })))
      expect(await client.error()).toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    const consume = { group: 1, vchannels: ['a'], from: 'earliest' as const, bytes: 1, frames: 1 }
    client.socket.write(encodeMessage(MessageType.consume, 2, encodeConsume(consume)))
    expect(await client.error()).toMatchObject({ requestId: 2, code: 'INVALID_ARGUMENT' })
    client.socket.write(encodeMessage(MessageType.consume, 2, encodeConsume({ ...consume, vchannels: ['nobody'] })))
    expect(await client.error()).toMatchObject({ requestId: 2, code: 'VCHANNEL_UNKNOWN' })
    expect(served.node.vchannels()).toHaveLength(2)
  })

  it('for more consumers than it keeps', async () => {
    const served = await start({ consumersMax: 2 })
    const client = await greeted(served)
    const meta = encodeConsume({ group: 0, vchannels: ['a'], from: 'earliest', bytes: 1, frames: 1 })
    for (const id of [1, 2, 3]) client.socket.write(encodeMessage(MessageType.consume, id, meta))
    expect(await client.error()).toMatchObject({ requestId: 3, code: 'LIMIT_EXCEEDED' })
    client.socket.write(encodeMessage(MessageType.consumeStop, 1))
    await client.next(MessageType.consumeEnd)
    client.socket.write(encodeMessage(MessageType.consume, 4, meta))
    for (const _ of [1, 2, 4]) await client.next(MessageType.consuming)
  })
})

describe('noise', () => {
  it('of any kind ends connections and nothing else', async () => {
    const served = await start({ messageTimeoutMs: 200, helloTimeoutMs: 200 })
    let seed = 42
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff
      return seed / 0x8000_0000
    }
    const honest = [
      produceMessage(1, [{ vchannel: 'a', payload: Buffer.alloc(50) }]),
      encodeMessage(MessageType.list, 2, encodeControl({ after: '', limit: 10 })),
      encodeMessage(MessageType.status, 3, encodeControl({ offset: 0 })),
      encodeMessage(
        MessageType.consume,
        4,
        encodeConsume({ group: 0, vchannels: ['a'], from: 'earliest', bytes: 1e6, frames: 100 }),
      ),
    ]
    for (let round = 0; round < 100; round++) {
      const client = await RawClient.greeted(served.port)
      const message = Buffer.from(honest[Math.floor(random() * honest.length)]!)
      const flips = 1 + Math.floor(random() * 4)
      for (let flip = 0; flip < flips; flip++)
        message[Math.floor(random() * message.length)]! ^= 1 << Math.floor(random() * 8)
      client.socket.write(message)
      client.socket.end()
      await client.closed()
    }
    await stillServes(served)
  })
})
