import { afterEach, describe, expect, it } from 'vitest'
import { connect } from '../../../src/client/connect.ts'
import { decodeCaughtUp, decodeFrame, decodeTick, encodeCredit } from '../../../src/protocol/consume-messages.ts'
import { encodeConsume } from '../../../src/protocol/control-messages.ts'
import { encodeMessage, type Message, MessageType } from '../../../src/protocol/message.ts'
import { MemoryNode, type Served, serve, until } from './memory-node.ts'
import { RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(groups = 1): Promise<{ node: MemoryNode; served: Served }> {
  const node = await MemoryNode.open(groups, { commit: () => new Promise((resolve) => setImmediate(resolve)) })
  node.timeTickIntervalMs = 1
  const served = await serve(node)
  open.push(served)
  return { node, served }
}

const consume = (id: number, group: number, vchannels: string[], bytes = 1e12, frames = 1e9) =>
  encodeMessage(MessageType.consume, id, encodeConsume({ group, vchannels, from: 'earliest', bytes, frames }))

interface Seen {
  /** Highest tick of a record that stood before the message. */
  records: bigint
  tick: bigint
}

/** What the messages promise to one consumer, each with what it had been sent by then. */
function promises(messages: readonly Message[], consumer: number, group: number): { seen: Seen[]; frames: number } {
  const seen: Seen[] = []
  let records = 0n
  let covered = false
  let frames = 0
  for (const { type, requestId, meta, body } of messages) {
    if (type === MessageType.frame && requestId === consumer) {
      const { baseTimeTick, recordCount } = decodeFrame(meta, body.length)
      records = baseTimeTick + BigInt(recordCount - 1)
      frames++
    } else if (type === MessageType.caughtUp && requestId === consumer) {
      covered = true
      seen.push({ records, tick: decodeCaughtUp(meta).timeTick })
    } else if (type === MessageType.tick) {
      const { groups, others, leftOut } = decodeTick(meta)
      if (leftOut.includes(consumer)) covered = false
      const tick = groups.find((each) => each.group === group)?.timeTick ?? others
      if (covered && tick > 0n) seen.push({ records, tick })
    }
  }
  return { seen, frames }
}

function expectHonest(seen: readonly Seen[], ticks: readonly bigint[]): void {
  let last = 0n
  for (const { records, tick } of seen) {
    expect(tick >= last).toBe(true)
    last = tick
    const due = ticks.filter((each) => each <= tick).at(-1) ?? 0n
    expect(records >= due).toBe(true)
  }
}

describe('a tick', () => {
  it('never overtakes a record of its consumer, under load, for each of several consumers', async () => {
    const { node, served } = await start(2)
    await node.resolve('a', true)
    await node.resolve('b', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    // The fourth is caught up while there is nothing, and has credit for five frames.
    const all = [consume(1, 0, ['a']), consume(2, 1, ['b']), consume(3, 0, ['a']), consume(4, 0, ['a'], 1e6, 5)]
    raw.socket.write(Buffer.concat(all))
    const client = await connect(served.address)
    open.push(client)
    const ticks: Record<string, bigint[]> = { a: [], b: [] }
    const append = async (name: string) => {
      for (let index = 0; index < 300; index++) {
        ticks[name]!.push((await client.append(name, { payload: Buffer.alloc(100) })).timeTick)
        if (index % 30 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      }
    }
    await Promise.all([append('a'), append('b')])
    const last = (name: string) => ticks[name]!.at(-1)!
    const settled = (id: number, group: number, name: string) =>
      promises(raw.messages, id, group).seen.some(({ tick }) => tick >= last(name))
    await until(() => settled(1, 0, 'a') && settled(2, 1, 'b') && settled(3, 0, 'a'))
    for (const [id, group, name] of [
      [1, 0, 'a'],
      [2, 1, 'b'],
      [3, 0, 'a'],
    ] as const) {
      const { seen, frames } = promises(raw.messages, id, group)
      expect(frames).toBeGreaterThan(10)
      expect(seen.length).toBeGreaterThan(3)
      expectHonest(seen, ticks[name]!)
    }
    // It has been told of no tick of a record that waits for its credit.
    const behind = promises(raw.messages, 4, 0)
    expect(behind.frames).toBe(5)
    expect(behind.seen.length).toBeGreaterThan(0)
    expectHonest(behind.seen, ticks.a!)
  })

  it('is one message for all groups and consumers that are caught up', async () => {
    const { node, served } = await start(2)
    await node.resolve('a', true)
    await node.resolve('b', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    const ids = Array.from({ length: 20 }, (_, index) => index + 1)
    raw.socket.write(Buffer.concat(ids.map((id) => consume(id, id % 2, [id % 2 === 0 ? 'a' : 'b']))))
    const told = () => {
      return raw.messages.filter(({ type }) => type === MessageType.tick).map(({ meta }) => decodeTick(meta))
    }
    await until(() => told().length > 5)
    let last = 0n
    for (const { groups, others, leftOut } of told()) {
      expect([groups, leftOut]).toEqual([[], []])
      expect(others).toBeGreaterThan(last)
      last = others
    }
    for (const id of ids) expect(promises(raw.messages, id, id % 2).seen.length).toBeGreaterThan(4)
  })

  it('of the quiet groups says nothing about one in which a write is under way', async () => {
    let held: (() => void) | null = null
    const commit = (pchannel: string) =>
      pchannel === 'p0' ? new Promise<void>((resolve) => (held = resolve)) : Promise.resolve()
    const node = await MemoryNode.open(2, { commit })
    node.timeTickIntervalMs = 1
    const served = await serve(node)
    open.push(served)
    await node.resolve('a', true)
    await node.resolve('b', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    raw.socket.write(Buffer.concat([consume(1, 0, ['a']), consume(2, 1, ['b'])]))
    await until(() => promises(raw.messages, 1, 0).seen.length > 1 && promises(raw.messages, 2, 1).seen.length > 1)
    const client = await connect(served.address)
    open.push(client)
    const appended = client.append('a', {})
    await until(() => held !== null)
    const before = raw.messages.length
    const since = () => raw.messages.slice(before).filter(({ type }) => type === MessageType.tick)
    await until(() => since().length > 5)
    const ticks = since().map(({ meta }) => decodeTick(meta))
    // What was under way when the write began may say it last.
    for (const { groups, others } of ticks.slice(2)) {
      expect(groups.map(({ group }) => group)).toEqual([0])
      expect(others).toBeGreaterThan(groups[0]!.timeTick)
    }
    held!()
    const { timeTick } = await appended
    expectHonest(promises(raw.messages, 1, 0).seen, [timeTick])
    await until(() => promises(raw.messages, 1, 0).seen.some(({ tick }) => tick >= timeTick))
    expectHonest(promises(raw.messages, 1, 0).seen, [timeTick])
  })

  it('comes no more often than the most frequent consumer of its connection asks', async () => {
    const { node, served } = await start()
    await node.resolve('a', true)
    const [thin, full] = [await RawClient.greeted(served.port), await RawClient.greeted(served.port)]
    open.push(thin, full)
    const request = { group: 0, vchannels: ['a'], from: 'earliest', bytes: 1e12, frames: 1e9 } as const
    const ask = (id: number, ticksEveryMs?: number) =>
      encodeMessage(
        MessageType.consume,
        id,
        encodeConsume({ ...request, vchannels: [...request.vchannels], ticksEveryMs }),
      )
    const ticksOf = (client: RawClient) => client.messages.filter(({ type }) => type === MessageType.tick).length
    thin.socket.write(ask(1, 60_000))
    full.socket.write(ask(1, 0))
    await until(() => ticksOf(full) > 20)
    expect(ticksOf(thin)).toBe(0)
    // One that wants them all is heard at once, though the next one was due in a minute.
    thin.socket.write(ask(2))
    await until(() => ticksOf(thin) > 3)
  })

  it('leaves out a consumer that is held back, until it has caught up again', async () => {
    const { node, served } = await start()
    await node.resolve('a', true)
    const raw = await RawClient.greeted(served.port)
    open.push(raw)
    raw.socket.write(Buffer.concat([consume(1, 0, ['a'], 1e12, 3), consume(2, 0, ['a'])]))
    const client = await connect(served.address)
    open.push(client)
    const ticks: bigint[] = []
    for (let index = 0; index < 10; index++) ticks.push((await client.append('a', {})).timeTick)
    await until(() => promises(raw.messages, 2, 0).seen.some(({ tick }) => tick >= ticks[9]!))
    await until(() =>
      raw.messages.some(({ type, meta }) => type === MessageType.tick && decodeTick(meta).leftOut.includes(1)),
    )
    const before = promises(raw.messages, 1, 0)
    expect(before.frames).toBe(3)
    expectHonest(before.seen, ticks)
    raw.socket.write(encodeCredit(1, { bytes: 0, frames: 100 }))
    await until(() => promises(raw.messages, 1, 0).seen.some(({ tick }) => tick >= ticks[9]!))
    expectHonest(promises(raw.messages, 1, 0).seen, ticks)
    expect(promises(raw.messages, 1, 0).frames).toBe(10)
  })
})
