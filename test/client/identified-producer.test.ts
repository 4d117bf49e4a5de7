import { afterEach, describe, expect, it } from 'vitest'
import { TidelogError } from '../../src/errors.ts'
import { budget } from '../budget.ts'
import { ModelSetup, text, textOf } from './model-setup.ts'

let setup: ModelSetup
afterEach(() => setup.close())

const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index}`)

describe('a producer with an identity', () => {
  it('gives its records sequences from 1 on, and goes on behind the last one when it is opened again', async () => {
    setup = await ModelSetup.start()
    const { client, direct } = setup
    const producer = await client.producer('a', { id: 'loader' })
    expect(producer).toMatchObject({ id: 'loader', vchannel: 'a', epoch: 1, lastSequence: 0, windowLost: false })
    expect(await producer.append(text('one'))).toMatchObject({ sequence: 1, duplicate: false, lsn: 0 })
    const { acknowledged } = await producer.submitBatch([text('two'), text('three')])
    expect(await acknowledged).toMatchObject({ firstLsn: 1, lastLsn: 2, transaction: null })
    expect(producer.lastSequence).toBe(3)
    await producer.close()
    const again = await direct.producer('a', { id: 'loader' })
    expect(again).toMatchObject({ epoch: 2, lastSequence: 3 })
    expect(await again.append(text('four'))).toMatchObject({ sequence: 4 })
    expect((await setup.read('a')).map(textOf)).toEqual(['one', 'two', 'three', 'four'])
    expect(await client.producers()).toMatchObject([{ id: 'loader', vchannel: 'a', epoch: 2, lastSequence: 4 }])
  })

  it('answers a repeat as the first was, and refuses a gap before it is sent', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const producer = await client.producer('a', { id: 'loader' })
    const first = await producer.append(text('one'), { sequence: 1 })
    expect(first.duplicate).toBe(false)
    await producer.append(text('two'), { sequence: 2 })
    expect(await producer.append(text('one'), { sequence: 1 })).toEqual({ ...first, duplicate: true })
    await expect(producer.append(text('four'), { sequence: 4 })).rejects.toMatchObject({
      code: 'SEQUENCE_GAP',
      outcome: 'not-written',
    })
    expect(await producer.append(text('three'))).toMatchObject({ sequence: 3 })
    expect((await setup.read('a')).map(textOf)).toEqual(['one', 'two', 'three'])
  })

  it('writes each record once over connections that are lost before the answer, and over restarts', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const producer = await client.producer('a', { id: 'loader' })
    let frames = 0
    node.afterAppend = async () => {
      frames++
      if (frames % 7 === 1) setup.proxy.cut()
      if (frames % 11 === 3) await setup.restart()
    }
    const tickets = []
    const count = budget({ small: 800, ci: 4000 })
    for (const number of numbers(count)) {
      tickets.push(await producer.submit(text(number)))
      if (tickets.length % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    const answers = await Promise.all(tickets.map(({ acknowledged }) => acknowledged))
    await producer.close()
    expect(frames).toBeGreaterThan(5)
    const read = await setup.read('a')
    expect(read.map(textOf)).toEqual(numbers(count))
    expect(answers.map(({ lsn }) => lsn)).toEqual(read.map(({ lsn }) => lsn))
    expect(answers.some(({ duplicate }) => duplicate)).toBe(false)
    expect(producer.epoch).toBe(1)
    expect(producer.lastSequence).toBe(count)
  })

  it('goes on over a connection that is lost before anything was sent', async () => {
    setup = await ModelSetup.start()
    const { client, proxy } = setup
    const producer = await client.producer('a', { id: 'loader' })
    proxy.refuses = true
    proxy.cut()
    const append = producer.append(text('one'))
    await client.status({ signal: AbortSignal.timeout(30) }).catch(() => {})
    proxy.refuses = false
    expect(await append).toMatchObject({ sequence: 1 })
    expect((await setup.read('a')).map(textOf)).toEqual(['one'])
  })

  it('goes on over ambiguous failures and refusals that pass', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const producer = await client.producer('a', { id: 'loader' })
    node.refusals.push(
      new TidelogError<string>('IO_FAILED', 'who knows', { outcome: 'unknown' }),
      new TidelogError<string>('POISONED', 'the log has failed', { outcome: 'not-written' }),
      new TidelogError<string>('RATE_LIMITED', 'too fast', { outcome: 'not-written', retriable: true }),
    )
    const answers = await Promise.all(numbers(100).map((number) => producer.append(text(number))))
    expect(answers.map(({ sequence }) => sequence)).toEqual(numbers(100).map((number) => Number(number) + 1))
    expect((await setup.read('a')).map(textOf)).toEqual(numbers(100))
  })

  it('ends when another one is opened with its id: what was not written is told from what may be', async () => {
    setup = await ModelSetup.start()
    const { client, direct, node } = setup
    const producer = await client.producer('a', { id: 'loader' })
    await producer.append(text('one'))
    node.afterAppend = async () => {
      node.afterAppend = null
      await direct.producer('a', { id: 'loader' })
      setup.proxy.cut()
    }
    const results = await Promise.allSettled([
      producer.append(text('two')),
      new Promise((resolve) => setImmediate(resolve)).then(() => producer.append(text('three'))),
    ])
    expect(results[0]).toMatchObject({ reason: { code: 'PRODUCER_FENCED', outcome: 'unknown' } })
    expect(results[1]).toMatchObject({ reason: { code: 'PRODUCER_FENCED' } })
    await expect(producer.append(text('four'))).rejects.toMatchObject({
      code: 'PRODUCER_FENCED',
      outcome: 'not-written',
    })
    const newer = await direct.producer('a', { id: 'loader' })
    expect((await setup.read('a')).map(textOf)).toEqual(['one', 'two', 'three'].slice(0, newer.lastSequence))
  })

  it('fails a record that is refused for good, and those behind it; later ones take its sequence', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const producer = await client.producer('a', { id: 'loader' })
    await producer.append(text('one'))
    node.refusals.push(new TidelogError<string>('INVALID_BODY', 'not this one', { outcome: 'not-written' }))
    const refused = await producer.submit(text('two'))
    const behind = await producer.submit(text('three'))
    const why = await refused.acknowledged.catch((error: TidelogError<string>) => error)
    if (why instanceof TidelogError) {
      expect(why).toMatchObject({ code: 'INVALID_BODY', outcome: 'not-written' })
      await expect(behind.acknowledged).rejects.toMatchObject({ code: 'FAILED_BEFORE', outcome: 'not-written' })
      await expect(producer.flush()).rejects.toMatchObject({ code: 'INVALID_BODY' })
      expect(await producer.append(text('four'))).toMatchObject({ sequence: 2 })
    } else {
      // Both stood in the refused frame, and went alone: neither was at fault.
      expect(await behind.acknowledged).toMatchObject({ lsn: why.lsn + 1 })
      expect(await producer.append(text('four'))).toMatchObject({ sequence: 4 })
    }
    const alone = new TidelogError<string>('INVALID_BODY', 'not this one', { outcome: 'not-written' })
    node.refusals.push(alone)
    const next = producer.lastSequence + 1
    await expect(producer.append(text('five'))).rejects.toMatchObject({ code: 'INVALID_BODY' })
    expect(await producer.append(text('six'))).toMatchObject({ sequence: next })
  })

  it('is late with the outcome unknown when nobody answers, and is at its end', async () => {
    setup = await ModelSetup.start(1, { appendTimeoutMs: 80 })
    const { client, node } = setup
    const producer = await client.producer('a', { id: 'loader' })
    const held: (() => void)[] = []
    node.afterAppend = () => new Promise<void>((resolve) => held.push(resolve))
    await expect(producer.append(text('one'))).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' })
    await expect(producer.append(text('two'))).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-written' })
    node.afterAppend = null
    for (const release of held) release()
    const again = await client.producer('a', { id: 'loader' })
    expect(again.lastSequence).toBe(1)
    expect(await again.append(text('two'))).toMatchObject({ sequence: 2 })
    expect((await setup.read('a')).map(textOf)).toEqual(['one', 'two'])
  })

  it('drops a record that is aborted before it was sent, without a gap', async () => {
    setup = await ModelSetup.start()
    const { client, proxy } = setup
    const producer = await client.producer('a', { id: 'loader' })
    proxy.refuses = true
    proxy.cut()
    const abort = new AbortController()
    const aborted = producer.append(text('one'), { signal: abort.signal })
    abort.abort()
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written' })
    const next = producer.append(text('two'))
    proxy.refuses = false
    expect(await next).toMatchObject({ sequence: 1 })
  })

  it('says that the node cannot tell whether it was there before', async () => {
    setup = await ModelSetup.start()
    setup.node.windowLost = true
    expect(await setup.client.producer('a', { id: 'loader' })).toMatchObject({ windowLost: true, lastSequence: 0 })
  })
})
