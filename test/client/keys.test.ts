import { afterEach, describe, expect, it } from 'vitest'
import { TidelogError } from '../../src/errors.ts'
import { ModelSetup, text, textOf } from './model-setup.ts'

let setup: ModelSetup
afterEach(() => setup.close())

describe('an append with an idempotency key', () => {
  it('is answered as the first one, and written once', async () => {
    setup = await ModelSetup.start()
    const { client, direct } = setup
    const first = await client.append('a', text('x'), { idempotencyKey: 'k' })
    expect(first.duplicate).toBe(false)
    expect(await direct.append('a', text('y'), { idempotencyKey: 'k' })).toEqual({ ...first, duplicate: true })
    expect(await client.append('b', text('z'), { idempotencyKey: 'k' })).toMatchObject({ duplicate: false })
    expect((await setup.read('a')).map(textOf)).toEqual(['x'])
    const [record] = await setup.read('a')
    expect({ ...record!.properties }).toEqual({})
  })

  it('is sent again when the connection is lost before the answer, with a tick of before its first try', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const before = await client.append('a', text('before'))
    setup.cutAfterAppend()
    const appended = await client.append('a', text('x'), { idempotencyKey: 'k' })
    expect(appended.timeTick).toBeGreaterThan(before.timeTick)
    const [first, second] = node.firstTries
    expect(first).toBe(0n)
    expect(second).toBeGreaterThanOrEqual(before.timeTick)
    expect(second).toBeLessThan(appended.timeTick)
    expect((await setup.read('a')).map(textOf)).toEqual(['before', 'x'])
  })

  it('learns a tick of its group before the first key, so that the first try can be told', async () => {
    setup = await ModelSetup.start(1)
    const { client, node } = setup
    setup.cutAfterAppend(2)
    const appended = await client.append('new', text('x'), { idempotencyKey: 'k' })
    expect(node.firstTries).toHaveLength(3)
    expect(node.firstTries[1]).toBeGreaterThan(0n)
    expect(node.firstTries[2]).toBe(node.firstTries[1])
    expect(node.firstTries[1]).toBeLessThan(appended.timeTick)
  })

  it('keeps the tick of the caller, and says in one frame one tick only', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const { timeTick } = await client.append('a', text('before'))
    await Promise.all([
      client.append('a', text(1), { idempotencyKey: '1' }),
      client.append('a', text(2), { idempotencyKey: '2', firstTriedAt: timeTick }),
      client.append('a', text(3), { idempotencyKey: '3', firstTriedAt: timeTick }),
      client.append('a', text(4)),
    ])
    expect(node.firstTries).toEqual([0n, timeTick])
    expect((await setup.read('a')).map(textOf)).toEqual(['before', '1', '2', '3', '4'])
  })

  it('goes again after TIMEOUT of the node, and its neighbours without a key are unknown', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    await client.append('a', text('before'))
    node.refusals.push(new TidelogError<string>('TIMEOUT', 'not in time', { outcome: 'unknown', retriable: true }))
    const results = await Promise.allSettled([
      client.append('a', text('keyed'), { idempotencyKey: 'k' }),
      client.append('a', text('plain')),
    ])
    expect(results[0]).toMatchObject({ status: 'fulfilled' })
    expect(results[1]).toMatchObject({ reason: { code: 'TIMEOUT', outcome: 'unknown' } })
    expect((await setup.read('a')).map(textOf)).toEqual(['before', 'keyed'])
  })

  it('is unknown at last, whatever the node says of its last try, when an earlier one may be written', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    await client.append('a', text('before'))
    node.refusals.push(
      new TidelogError<string>('IO_FAILED', 'who knows', { outcome: 'unknown', retriable: true }),
      new TidelogError<string>('KEY_FORGOTTEN', 'too long ago', { outcome: 'not-written' }),
    )
    await expect(client.append('a', text('x'), { idempotencyKey: 'k' })).rejects.toMatchObject({
      code: 'KEY_FORGOTTEN',
      outcome: 'unknown',
    })
  })

  it('is written once each over many cuts, in the order of its producer', async () => {
    setup = await ModelSetup.start()
    const { client, proxy } = setup
    const producer = await client.producer('a')
    const tickets = []
    for (let index = 0; index < 1000; index++) {
      tickets.push(await producer.submit(text(index), { idempotencyKey: `k${index}` }))
      if (index % 20 === 0) await new Promise((resolve) => setImmediate(resolve))
      if (index % 150 === 149) proxy.cut()
    }
    const answers = await Promise.all(tickets.map(({ acknowledged }) => acknowledged))
    const read = await setup.read('a')
    expect(read.map(textOf)).toEqual(Array.from({ length: 1000 }, (_, index) => `${index}`))
    expect(answers.map(({ lsn }) => lsn)).toEqual(read.map(({ lsn }) => lsn))
  })
})

describe('a throttled group', () => {
  it('makes submit wait until less is on its way, and lets go when it takes everything again', async () => {
    const events: string[] = []
    setup = await ModelSetup.start(1, { onThrottle: ({ state }) => events.push(state) })
    const { client, node } = setup
    await client.append('a', text('first'))
    const held: (() => void)[] = []
    node.afterAppend = () => new Promise<void>((resolve) => held.push(resolve))
    const producer = await client.producer('a')
    const big = { payload: Buffer.alloc(100_000) }
    await producer.submit(big)
    node.setThrottle({ group: 0, state: 'slow', bytesPerSecond: 1000 })
    await expect.poll(() => events).toEqual(['slow'])
    let room = false
    const submitted = producer.submit(big).then((ticket) => {
      room = true
      return ticket
    })
    await client.status()
    expect(room).toBe(false)
    node.setThrottle({ group: 0, state: 'ok', bytesPerSecond: 0 })
    const { acknowledged } = await submitted
    expect(events).toEqual(['slow', 'ok'])
    node.afterAppend = null
    for (const release of held) release()
    await acknowledged
  })
})
