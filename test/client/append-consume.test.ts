import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { connect } from '../../src/client/connect.ts'
import type { Client, ConsumedRecord, RecordStream } from '../../src/client/types.ts'
import { MemoryNode, type Served, serve, until } from '../streaming-node/connection/memory-node.ts'

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(groups = 2): Promise<{ served: Served; client: Client; node: MemoryNode }> {
  const node = await MemoryNode.open(groups)
  const served = await serve(node)
  open.push(served)
  const client = await connect(served.address)
  open.push(client)
  return { served, client, node }
}

async function collect(stream: RecordStream): Promise<ConsumedRecord[]> {
  const records: ConsumedRecord[] = []
  for await (const record of stream) records.push(record)
  return records
}

const text = (record: ConsumedRecord) => Buffer.from(record.payload).toString()

describe('the client', () => {
  it('appends single records and reads them back with everything they had', async () => {
    const { client } = await start()
    const first = await client.append('orders', {
      type: 2,
      properties: { word: 'gezeiten', ümläut: '✓' },
      payload: Buffer.from('one'),
    })
    const second = await client.append('orders', { payload: Buffer.from('two') })
    await client.append('orders', { payload: null })
    await client.append('orders', {})
    expect(first.lsn).toBe(0)
    expect(second.lsn).toBe(1)
    expect(second.timeTick).toBeGreaterThan(first.timeTick)
    const records = await collect(client.consume(['orders'], { untilCaughtUp: true }))
    expect(records.map((record) => record.lsn)).toEqual([0, 1, 2, 3])
    expect(records[0]).toMatchObject({ vchannel: 'orders', type: 2, timeTick: first.timeTick, isNull: false })
    expect({ ...records[0]!.properties }).toEqual({ word: 'gezeiten', ümläut: '✓' })
    expect(records.map(text)).toEqual(['one', 'two', '', ''])
    expect(records.map((record) => record.isNull)).toEqual([false, false, true, false])
  })

  it('keeps a batch together as one frame', async () => {
    const { client, node } = await start(1)
    const records = Array.from({ length: 1000 }, (_, index) => ({ payload: Buffer.from(`${index}`) }))
    const range = await client.appendBatch('orders', records)
    expect(range).toMatchObject({ firstLsn: 0, lastLsn: 999 })
    expect(range.lastTimeTick - range.firstTimeTick).toBe(999n)
    expect(node.nextLsn(0)).toBe(1000)
    const read = await collect(client.consume('orders', { untilCaughtUp: true }))
    expect(read.map(text)).toEqual(records.map((record) => record.payload.toString()))
  })

  it('gathers concurrent appends of several vchannels, each in the order of the calls', async () => {
    const { client, node } = await start(1)
    let frames = 0
    node.beforeAppend = () => {
      frames++
    }
    const names = ['a', 'b', 'c']
    await Promise.all(
      Array.from({ length: 3000 }, (_, index) =>
        client.append(names[index % 3]!, { payload: Buffer.from(`${Math.floor(index / 3)}`) }),
      ),
    )
    expect(frames).toBeLessThan(100)
    for (const name of names) {
      const read = await collect(client.consume([name], { untilCaughtUp: true }))
      expect(read.map(text)).toEqual(Array.from({ length: 1000 }, (_, index) => `${index}`))
    }
  })

  it('merges several groups, each in its own order', async () => {
    const { client } = await start(3)
    for (const name of ['a', 'b', 'c']) {
      await client.appendBatch(
        name,
        Array.from({ length: 500 }, (_, index) => ({ payload: Buffer.from(`${index}`) })),
      )
    }
    const read = await collect(client.consume(['a', 'b', 'c'], { untilCaughtUp: true }))
    expect(read.length).toBe(1500)
    for (const name of ['a', 'b', 'c']) {
      const own = read.filter((record) => record.vchannel === name)
      expect(own.map((record) => record.lsn)).toEqual(Array.from({ length: 500 }, (_, index) => index))
    }
  })

  it('ends at what was durable when it began, also where nothing is', async () => {
    const { client } = await start()
    await client.createVchannel('empty')
    expect(await collect(client.consume(['empty'], { untilCaughtUp: true }))).toEqual([])
    await client.append('other', {})
    await client.append('third', {})
    expect(await collect(client.consume(['empty', 'other'], { untilCaughtUp: true }))).toHaveLength(1)
  })

  it('begins at an LSN, a tick, the latest; filters types; stops at a limit', async () => {
    const { client } = await start(1)
    const appended = await client.appendBatch(
      'a',
      Array.from({ length: 10 }, (_, index) => ({ type: index % 2 === 0 ? 2 : 3, payload: Buffer.from(`${index}`) })),
    )
    const lsns = async (options: Parameters<Client['consume']>[1]) =>
      (await collect(client.consume(['a'], { untilCaughtUp: true, ...options }))).map((record) => record.lsn)
    expect(await lsns({ from: { lsn: 7 } })).toEqual([7, 8, 9])
    expect(await lsns({ from: { timeTick: appended.firstTimeTick + 8n } })).toEqual([8, 9])
    expect(await lsns({ from: 'latest' })).toEqual([])
    expect(await lsns({ types: [3] })).toEqual([1, 3, 5, 7, 9])
    expect(await lsns({ limit: 4 })).toEqual([0, 1, 2, 3])
    expect(await lsns({ limit: 0 })).toEqual([])
  })

  it('follows: what is appended later arrives, pushed', async () => {
    const { client } = await start(1)
    await client.append('a', { payload: Buffer.from('0') })
    const stream = client.consume(['a'])[Symbol.asyncIterator]()
    expect(text((await stream.next()).value!)).toBe('0')
    for (let index = 1; index < 50; index++) {
      const next = stream.next()
      await client.append('a', { payload: Buffer.from(`${index}`) })
      expect(text((await next).value!)).toBe(`${index}`)
    }
    await stream.return!()
  })

  it('lets go of the server side when an iteration is left', async () => {
    const { client } = await start(1)
    await client.append('a', {})
    for (let round = 0; round < 50; round++) {
      for await (const record of client.consume(['a'])) {
        expect(record.lsn).toBe(0)
        break
      }
    }
    expect((await client.status()).groups).toHaveLength(1)
  })

  it('ends an iteration by its signal, with ABORTED', async () => {
    const { client } = await start(1)
    await client.append('a', {})
    const abort = new AbortController()
    const seen: number[] = []
    await expect(async () => {
      for await (const record of client.consume(['a'], { signal: abort.signal })) {
        seen.push(record.lsn)
        setImmediate(() => abort.abort(new Error('enough')))
      }
    }).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } })
    expect(seen).toEqual([0])
  })

  it('answers VCHANNEL_UNKNOWN, and creates only when asked', async () => {
    const { client } = await start()
    await expect(collect(client.consume(['nobody'], { untilCaughtUp: true }))).rejects.toMatchObject({
      code: 'VCHANNEL_UNKNOWN',
    })
    expect(await client.vchannels()).toEqual([])
    const made = await client.createVchannel('somebody')
    expect(await client.vchannel('somebody')).toEqual(made)
    expect(await client.vchannels()).toEqual([made])
  })

  it('lists more vchannels than one message holds', async () => {
    const { client, node } = await start()
    for (let index = 0; index < 3000; index++)
      await node.resolve(`v${`${index}`.padStart(5, '0')}${'x'.repeat(200)}`, true)
    const listed = await client.vchannels()
    expect(listed).toHaveLength(3000)
    expect(listed).toEqual(node.vchannels())
  })

  it('reports status with ticks as bigints', async () => {
    const { client } = await start(3)
    await client.append('a', {})
    const { groups, server } = await client.status()
    expect(server).toBe('tidelog')
    expect(groups.map((group) => group.nextLsn)).toEqual([1, 0, 0])
    expect(groups[0]!.watermark).toBeTypeOf('bigint')
  })

  it('truncates, and says so to a reader that comes too late', async () => {
    const { client } = await start(1)
    await client.appendBatch(
      'a',
      Array.from({ length: 10 }, () => ({})),
    )
    await client.appendBatch(
      'a',
      Array.from({ length: 10 }, () => ({})),
    )
    expect(await client.truncate('a', 10)).toEqual({ firstLsn: 10 })
    await expect(collect(client.consume(['a'], { from: { lsn: 3 }, untilCaughtUp: true }))).rejects.toMatchObject({
      code: 'POSITION_TRUNCATED',
      lsn: 10,
    })
    const left = await collect(client.consume(['a'], { untilCaughtUp: true }))
    expect(left.map((record) => record.lsn)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19])
  })

  it('publishes a watermark that covers every record it has delivered, and goes on when nothing happens', async () => {
    const { client } = await start(2)
    const a = await client.append('a', {})
    await client.append('b', {})
    const stream = client.consume(['a', 'b'])
    const iterator = stream[Symbol.asyncIterator]()
    await iterator.next()
    await iterator.next()
    const waiting = iterator.next()
    await stream.reached(a.timeTick + 1n)
    const before = stream.watermark()
    await stream.reached(before + 1n)
    expect(stream.watermark()).toBeGreaterThan(before)
    await iterator.return!()
    expect(await waiting).toEqual({ done: true, value: undefined })
  })

  it('refuses bad arguments before anything is sent', async () => {
    const { client, node } = await start()
    const refused = (promise: Promise<unknown>, code = 'INVALID_ARGUMENT') =>
      expect(promise).rejects.toMatchObject({ code, outcome: 'not-written' })
    await refused(client.append('', {}))
    await refused(client.append('a\nb', {}))
    await refused(client.append('x'.repeat(256), {}), 'LIMIT_EXCEEDED')
    await refused(client.append('a', { type: 70_000 }))
    await refused(client.append('a', { type: 1 }))
    await refused(client.append('a', { properties: { _tt: '1' } }))
    await refused(client.append('a', { properties: { k: '\ud800' } }))
    await refused(client.append('a', { payload: 'text' as unknown as Uint8Array }))
    await refused(client.append('a', { payload: Buffer.alloc(17 * 1024 * 1024) }), 'LIMIT_EXCEEDED')
    await refused(client.appendBatch('a', []))
    await refused(client.appendBatch('a', [{ type: 7 }, {}]))
    await refused(client.append('a', {}, { idempotencyKey: '' }))
    await refused(client.append('a', {}, { idempotencyKey: 'k'.repeat(257) }), 'LIMIT_EXCEEDED')
    await refused(client.append('a', {}, { firstTriedAt: -1n }))
    await refused(client.producer('a', { id: '' }))
    await refused(client.begin('a', { keepaliveMs: -1 }))
    const producer = await client.producer('a')
    await refused(producer.submitBatch(Array.from({ length: 65_537 }, () => ({}))), 'LIMIT_EXCEEDED')
    await expect(connect('http://127.0.0.1:1')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(node.vchannels()).toEqual([])
  })

  it('says at once that nobody listens, or waits when it is told to', async () => {
    const node = await MemoryNode.open()
    const served = await serve(node)
    await served.close()
    await expect(connect(served.address)).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE', retriable: true })
    const waiting = connect(served.address, { waitForServerMs: 10_000, backoffMs: 1 })
    open.push(await serve(node, {}, served.port))
    open.push(await waiting)
  })

  it('speaks through a Unix socket', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tidelog-'))
    open.push({ close: () => rm(directory, { recursive: true }) })
    const served = await serve(await MemoryNode.open(1), {}, join(directory, 'node.sock'))
    open.push(served)
    const client = await connect(served.address)
    open.push(client)
    await client.append('a', { payload: Buffer.from('one') })
    expect((await collect(client.consume('a', { untilCaughtUp: true }))).map(text)).toEqual(['one'])
  })

  it('takes one signal for any number of appends, without a warning of a leak', async () => {
    const { client } = await start(1)
    const warnings: string[] = []
    const onWarning = (warning: Error) => warnings.push(warning.message)
    process.on('warning', onWarning)
    const { signal } = new AbortController()
    await Promise.all(Array.from({ length: 500 }, () => client.append('a', {}, { signal })))
    const producer = await client.producer('a')
    for (let index = 0; index < 100; index++) await producer.submitBatch([{}], { signal })
    await producer.flush()
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })

  it('settles everything when it is closed', async () => {
    const { client, node } = await start(1)
    await client.append('a', {})
    let release: (() => void) | null = null
    node.beforeAppend = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    const iterator = client.consume(['a'])[Symbol.asyncIterator]()
    await iterator.next()
    const next = iterator.next()
    const append = client.append('a', {})
    await until(() => release !== null)
    const closed = client.close()
    setImmediate(() => release!())
    await closed
    await append
    expect(await next).toEqual({ done: true, value: undefined })
    await expect(client.append('a', {})).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    await expect(client.vchannels()).rejects.toMatchObject({ code: 'CLOSED' })
    await client.close()
  })
})
