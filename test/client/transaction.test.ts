import { afterEach, describe, expect, it } from 'vitest'
import { TidelogError } from '../../src/errors.ts'
import { budget } from '../budget.ts'
import { ModelSetup, text, textOf } from './model-setup.ts'

let setup: ModelSetup
afterEach(() => setup.close())

const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index}`)

describe('a transaction of a client', () => {
  it('is visible at its commit, with its tick, and each record with its own LSN', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const txn = await client.begin('a', { keepaliveMs: 7_000 })
    expect(txn).toMatchObject({ vchannel: 'a', keepaliveMs: 7_000 })
    const first = await txn.append(text('one'))
    const plain = await client.append('a', text('plain'))
    const second = await txn.append(text('two'))
    expect((await setup.read('a')).map(textOf)).toEqual(['plain'])
    const committed = await txn.commit()
    expect(await txn.commit()).toEqual(committed)
    const read = await setup.read('a')
    expect(read.map(textOf)).toEqual(['plain', 'one', 'two'])
    expect(read.map(({ lsn }) => lsn)).toEqual([plain.lsn, first.lsn, second.lsn])
    expect(read.map(({ transaction }) => transaction)).toEqual([null, txn.id, txn.id])
    expect(read.slice(1).map(({ timeTick }) => timeTick)).toEqual([committed.timeTick, committed.timeTick])
    expect(read.map(({ position }) => position)).toEqual([
      { lsn: plain.lsn + 1 },
      { lsn: committed.lsn, skip: 1 },
      { lsn: committed.lsn + 1 },
    ])
    await expect(txn.append(text('late'))).rejects.toMatchObject({ code: 'TRANSACTION_STATE', outcome: 'not-written' })
    await expect(txn.rollback()).rejects.toMatchObject({ code: 'TRANSACTION_STATE' })
  })

  it('leaves nothing when it is rolled back, or left', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    await txn.rollback()
    await txn.rollback()
    await expect(txn.commit()).rejects.toMatchObject({ code: 'TRANSACTION_STATE' })
    const left = await client.begin('a')
    await left.append(text('two'))
    await left[Symbol.asyncDispose]()
    expect(await setup.read('a')).toEqual([])
    expect(await client.transactions()).toEqual([])
  })

  it('commits what was appended before, acknowledged or not; an empty one too', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const txn = await client.begin('a')
    const appends = numbers(500).map((number) => txn.append(text(number)))
    await txn.commit()
    await Promise.all(appends)
    expect((await setup.read('a')).map(textOf)).toEqual(numbers(500))
    await (await client.begin('a')).commit()
    expect(await setup.read('a')).toHaveLength(500)
  })

  it('goes on over a connection that is lost before the answer, with every record once', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const txn = await client.begin('a')
    setup.cutAfterAppend(3)
    const answers = await Promise.all(numbers(300).map((number) => txn.append(text(number))))
    await txn.commit()
    const read = await setup.read('a')
    expect(read.map(textOf)).toEqual(numbers(300))
    expect(answers.map(({ lsn }) => lsn)).toEqual(read.map(({ lsn }) => lsn))
  })

  it('goes on over a connection that is lost before anything was sent', async () => {
    setup = await ModelSetup.start()
    const { client, proxy } = setup
    const txn = await client.begin('a')
    proxy.cut()
    await txn.append(text('one'))
    proxy.cut()
    await txn.commit()
    expect((await setup.read('a')).map(textOf)).toEqual(['one'])
  })

  it('is committed once when the answer to the commit is lost', async () => {
    setup = await ModelSetup.start()
    const { client, node, proxy } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    let cuts = 3
    node.afterEnd = () => {
      if (cuts-- > 0) proxy.cut()
    }
    const { lsn } = await txn.commit()
    expect(node.nextLsn(0)).toBe(lsn + 1)
    expect((await setup.read('a')).map(textOf)).toEqual(['one'])
  })

  it('has committed when the node was started again between the commit and its answer', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    node.afterEnd = async () => {
      node.afterEnd = null
      await setup.restart()
    }
    await txn.commit()
    expect((await setup.read('a')).map(textOf)).toEqual(['one'])
  })

  it('does not outlive a restart of the node, and says so', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    await setup.restart()
    await expect(txn.append(text('two'))).rejects.toMatchObject({ code: 'TRANSACTION_EXPIRED', outcome: 'not-written' })
    await expect(txn.commit()).rejects.toMatchObject({ code: 'TRANSACTION_EXPIRED', outcome: 'not-written' })
    const other = await client.begin('a')
    await setup.restart()
    await expect(other.commit()).rejects.toMatchObject({ code: 'TRANSACTION_ABORTED', outcome: 'not-written' })
    expect(await setup.read('a')).toEqual([])
  })

  it('ends with the first record that is refused: the commit says so, and the node rolls it back', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    node.refusals.push(new TidelogError<string>('LIMIT_EXCEEDED', 'too much', { outcome: 'not-written' }))
    const refused = txn.append(text('two'))
    await expect(refused).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', outcome: 'not-written' })
    await expect(txn.append(text('three'))).rejects.toMatchObject({ code: 'TRANSACTION_ABORTED' })
    await expect(txn.commit()).rejects.toMatchObject({
      code: 'TRANSACTION_ABORTED',
      outcome: 'not-written',
      cause: { code: 'LIMIT_EXCEEDED' },
    })
    expect(await client.transactions()).toEqual([])
    expect(await setup.read('a')).toEqual([])
  })

  it('sends again what is refused for a while', async () => {
    setup = await ModelSetup.start()
    const { client, node } = setup
    const txn = await client.begin('a')
    const busy = () => new TidelogError<string>('RATE_LIMITED', 'too fast', { outcome: 'not-written', retriable: true })
    node.refusals.push(busy(), busy())
    await Promise.all(numbers(50).map((number) => txn.append(text(number))))
    await txn.commit()
    expect((await setup.read('a')).map(textOf)).toEqual(numbers(50))
  })

  it('is late with the outcome unknown when nobody answers the commit', async () => {
    setup = await ModelSetup.start(1, { appendTimeoutMs: 80 })
    const { client, node } = setup
    const txn = await client.begin('a')
    await txn.append(text('one'))
    let release = () => {}
    node.afterEnd = () =>
      new Promise<void>((resolve) => {
        release = resolve
      })
    await expect(txn.commit()).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' })
    release()
  })

  it('refuses what is exclusive', async () => {
    setup = await ModelSetup.start()
    const txn = await setup.client.begin('a')
    await expect(txn.append({ type: 9 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', outcome: 'not-written' })
    await txn.append(text('one'))
    await txn.commit()
    expect(await setup.read('a')).toHaveLength(1)
  })

  it('stands for a batch that does not fit one frame', async () => {
    setup = await ModelSetup.start()
    const { client } = setup
    const records = numbers(70_000).map((number) => text(number))
    const range = await client.appendBatch('a', records)
    expect(range).toMatchObject({ duplicate: false, transaction: expect.any(Number) })
    const read = await setup.read('a')
    expect(read).toHaveLength(70_000)
    expect([read[0]!.lsn, read.at(-1)!.lsn]).toEqual([range.firstLsn, range.lastLsn])
    expect(new Set(read.map(({ timeTick }) => timeTick))).toEqual(new Set([range.lastTimeTick]))
    expect(textOf(read.at(-1)!)).toBe('69999')
  })

  it('may be one of thousands at a time on one connection', async () => {
    setup = await ModelSetup.start(2)
    const { client } = setup
    // More than there are producer numbers for them.
    const count = budget({ small: 600, ci: 3000 })
    await Promise.all(
      numbers(count).map(async (number) => {
        const txn = await client.begin(`v${Number(number) % 4}`)
        await Promise.all([txn.append(text(number)), txn.append(text(number))])
        await txn.commit()
      }),
    )
    const read = await setup.read(['v0', 'v1', 'v2', 'v3'])
    expect(read).toHaveLength(2 * count)
    for (const group of [0, 1]) {
      const own = read.filter(({ vchannel }) => Number(vchannel.slice(1)) % 2 === group)
      for (let at = 0; at < own.length; at += 2) expect(textOf(own[at]!)).toBe(textOf(own[at + 1]!))
    }
  })

  it('is rolled back when the client is closed', async () => {
    setup = await ModelSetup.start()
    const other = await setup.another()
    const txn = await other.begin('a')
    await txn.append(text('one'))
    await other.close()
    expect(await setup.client.transactions()).toEqual([])
    await expect(txn.commit()).rejects.toMatchObject({ code: 'TRANSACTION_STATE' })
  })
})
