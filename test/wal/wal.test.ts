import { createHook } from 'node:async_hooks'
import { describe, expect, test } from 'vitest'
import type { LogStore, LogStoreRecord } from '../../src/log-store/log-store.ts'
import { MessageType } from '../../src/message/message-type.ts'
import type { MutableMessage, ScanItem, UserInterceptor, WalAppended } from '../../src/wal/types.ts'
import { encodeBody } from '../log-store/encode-body.ts'
import { turn } from './manual-clock.ts'
import { MemorySubject } from './open-memory-wal.ts'

const bytes = (text: string) => Buffer.from(text)

async function records(store: LogStore): Promise<LogStoreRecord[]> {
  const all: LogStoreRecord[] = []
  for await (const frame of store.read({ from: 'earliest' })) all.push(...frame)
  return all
}

async function texts(store: LogStore): Promise<string[]> {
  return (await records(store)).map(({ payload }) => Buffer.from(payload).toString())
}

async function refusal(promise: Promise<unknown>): Promise<{ code?: string; outcome?: string; message: string }> {
  return await promise.then(
    () => expect.fail('it was not refused'),
    (error) => error,
  )
}

describe('append', () => {
  test('a message, a batch: LSNs and ticks', async () => {
    const { wal, store } = await new MemorySubject().open()
    const one = await wal.append({ vchannel: 'a', payload: bytes('one') })
    expect(one).toEqual({ lsn: 0, timeTick: expect.any(BigInt), duplicate: false })
    const batch = await wal.append([
      { vchannel: 'a', type: 2, properties: { k: 'v' }, payload: bytes('two') },
      { vchannel: 'b', payload: null },
    ])
    expect(batch).toEqual({
      firstLsn: 1,
      lastLsn: 2,
      firstTimeTick: expect.any(BigInt),
      lastTimeTick: batch.firstTimeTick + 1n,
      duplicate: false,
    })
    expect(batch.firstTimeTick).toBeGreaterThan(one.timeTick)
    const read = await records(store)
    expect(read.map(({ lsn, timeTick, vchannel, type }) => [lsn, timeTick, vchannel, type])).toEqual([
      [0, one.timeTick, 'a', 0],
      [1, batch.firstTimeTick, 'a', 2],
      [2, batch.lastTimeTick, 'b', 0],
    ])
    expect({ ...read[1]!.properties }).toEqual({ k: 'v' })
    await wal.close()
  })

  test('what is wrong is refused before it takes a tick, with nothing written', async () => {
    const { wal, store } = await new MemorySubject().open()
    const payload = bytes('x')
    const wrong: [unknown, RegExp][] = [
      [null, /no object/],
      [{ vchannel: 3 }, /vchannel is no string/],
      [{ vchannel: '' }, /names no vchannel/],
      [{ vchannel: 'a', type: 70_000 }, /type 70000/],
      [{ vchannel: 'a', type: 1.5 }, /type 1\.5/],
      [{ vchannel: 'a', type: MessageType.timeTick }, /TimeTick.*node alone/],
      [{ vchannel: 'a', type: MessageType.beginTxn }, /BeginTxn.*node alone/],
      [{ vchannel: 'a', type: MessageType.commitTxn }, /node alone/],
      [{ vchannel: 'a', type: MessageType.flush }, /node alone/],
      [{ vchannel: 'a', type: MessageType.txn }, /node alone/],
      [{ vchannel: 'a', type: MessageType.producerEpoch }, /node alone/],
      [{ vchannel: 'a', properties: { _h: 'x' } }, /"_h" begins with _/],
      [{ vchannel: 'a', properties: { _ik: 'x' } }, /"_ik" begins with _/],
      [{ vchannel: 'a', properties: { k: 3 } }, /"k" is not a string/],
      [{ vchannel: 'a', payload: 'text' }, /payload is no Uint8Array/],
      [{ vchannel: 'a', header: { x: 1 } }, /has no header/],
      [{ vchannel: 'a\u0001' }, /./],
      [{ vchannel: 'a'.repeat(256) }, /./],
      [[{ vchannel: 'a' }, { vchannel: 'a', properties: { _x: '' } }], /message 1: .*"_x"/],
      [[], /no messages/],
      [[{ vchannel: 'a' }, { vchannel: 'a', type: MessageType.dropCollection }], /alone in its append/],
    ]
    for (const [input, message] of wrong) {
      const error = await refusal(wal.append(input as MutableMessage))
      expect([error.code, error.outcome], `${JSON.stringify(input)}: ${error.message}`).toEqual([
        expect.stringMatching(/INVALID_ARGUMENT|LIMIT_EXCEEDED/),
        'not-written',
      ])
      expect(error.message).toMatch(message)
    }
    for (const options of [
      { barrierTick: 3 as unknown as bigint },
      { firstTriedAt: -1n },
      { idempotencyKey: '' },
      { idempotencyKey: 'k'.repeat(257) },
      { idempotencyKey: '\ud800' },
    ]) {
      expect((await refusal(wal.append({ vchannel: 'a', payload }, options))).code).toBe('INVALID_ARGUMENT')
    }
    expect((await refusal(wal.append([{ vchannel: 'a' }], { idempotencyKey: 'k' }))).message).toMatch(/one message/)
    expect(store.nextLsn).toBe(0)
    expect(await wal.append({ vchannel: 'a', payload })).toMatchObject({ lsn: 0 })
    await wal.close()
  })

  test('a barrier is kept, and one too far ahead refused', async () => {
    const { wal, store } = await new MemorySubject().open()
    const { timeTick } = await wal.append({ vchannel: 'a' })
    const barrierTick = timeTick + (1_000n << 18n)
    expect((await wal.append({ vchannel: 'a' }, { barrierTick })).timeTick).toBeGreaterThanOrEqual(barrierTick)
    const far = wal.append([{ vchannel: 'a' }], { barrierTick: barrierTick + (3_600_000n << 18n) })
    expect((await refusal(far)).code).toBe('TICK_TOO_FAR_AHEAD')
    expect(store.nextLsn).toBe(2)
    await wal.close()
  })

  test('a plain batch costs one promise more than the log store\u2019s own, however large it is', async () => {
    const { wal, store } = await new MemorySubject().open()
    let made = 0
    const hook = createHook({
      init(_id, type) {
        if (type === 'PROMISE') made++
      },
    })
    const promisesOf = async (append: (messages: MutableMessage[]) => Promise<unknown>, count: number) => {
      const messages = Array.from({ length: count }, () => ({ vchannel: 'a', payload: bytes('x') }))
      made = 0
      hook.enable()
      const appended = append(messages)
      hook.disable()
      await appended
      return made
    }
    const own = await promisesOf((messages) => store.appendRecords(messages), 1_000)
    expect(await promisesOf((messages) => wal.append(messages), 1_000)).toBe(own + 1)
    expect(await promisesOf((messages) => wal.append(messages), 1)).toBe(own + 1)
    expect(await promisesOf((messages) => wal.append(messages[0]!), 1)).toBe(own + 1)
    await wal.close()
  })

  test('an append aborted before it was queued is not written', async () => {
    const { wal, store } = await new MemorySubject().open()
    for (const input of [{ vchannel: 'a' }, [{ vchannel: 'a' }, { vchannel: 'b' }]]) {
      const error = await refusal(wal.append(input as MutableMessage, { signal: AbortSignal.abort() }))
      expect([error.code, error.outcome]).toEqual(['ABORTED', 'not-written'])
    }
    expect(store.nextLsn).toBe(0)
    await wal.close()
  })

  test('a flush that fails: unknown; what comes after is not written; the status says why', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    await wal.append({ vchannel: 'a' })
    subject.failNext()
    expect((await refusal(wal.append({ vchannel: 'a' }))).outcome).toBe('unknown')
    expect((await refusal(wal.append({ vchannel: 'a' }))).outcome).toBe('not-written')
    expect(wal.status()).toMatchObject({ state: 'failed', statistics: { appends: 1, failed: 2 } })
    await expect(wal.confirmed({ atLeast: 1n << 60n })).rejects.toMatchObject({ message: /write failed/ })
    await wal.close()
  })
})

describe('a batch that does not fit one frame', () => {
  const large = (count: number, vchannel = 'a') =>
    Array.from({ length: count }, (_, index) => ({ vchannel, payload: Buffer.alloc(300, 48 + (index % 10)) }))

  test('becomes a transaction by itself: one unit, with the first message\u2019s LSN and the commit\u2019s', async () => {
    const { wal } = await new MemorySubject().open({ frameBytesMax: 1_000 })
    const before = await wal.append({ vchannel: 'a' })
    const barrierTick = before.timeTick + (100n << 18n)
    const result = await wal.append(large(10), { barrierTick })
    const units: ScanItem[] = []
    for await (const item of wal.scan({ from: { lsn: before.lsn + 1 } })) units.push(item)
    expect(units).toMatchObject([{ kind: 'txn', lsn: result.lastLsn, timeTick: result.lastTimeTick }])
    const [unit] = units
    if (unit?.kind !== 'txn') expect.fail('it is no unit')
    expect(unit.messages.map(({ payload }) => String.fromCharCode(payload[0]!)).join('')).toBe('0123456789')
    expect(unit.messages[0]!.lsn).toBe(result.firstLsn)
    expect(result.firstTimeTick).toBe(result.lastTimeTick)
    expect(result.firstTimeTick).toBeGreaterThanOrEqual(barrierTick)
    expect(wal.transactions()).toEqual([])
    // One that fits is a frame, as large as it may be.
    expect(await wal.append(large(3))).toMatchObject({ duplicate: false })
    await wal.close()
  })

  test('nothing of it is visible when an interceptor refuses one of its messages', async () => {
    const error = new Error('no')
    const beforeAppend = (message: MutableMessage) => {
      if (message.payload![0] === 48 + 7) throw error
    }
    const { wal } = await new MemorySubject().open({
      frameBytesMax: 1_000,
      interceptors: [{ name: 'audit', beforeAppend }],
    })
    expect(await refusal(wal.append(large(10)))).toBe(error)
    for await (const item of wal.scan()) expect.fail(`a ${item.kind} is visible`)
    expect(wal.transactions()).toEqual([])
    await wal.close()
  })

  test('is for one vchannel', async () => {
    const { wal, store } = await new MemorySubject().open({ frameBytesMax: 1_000 })
    const error = await refusal(wal.append([...large(5), ...large(5, 'b')]))
    expect([error.code, error.outcome]).toEqual(['INVALID_ARGUMENT', 'not-written'])
    expect(error.message).toMatch(/several vchannels/)
    expect(store.nextLsn).toBe(0)
    await wal.close()
  })
})

describe('the state over openings', () => {
  test('what the log leaves open is rolled back before anything is admitted; keys and producers are known', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    const first = await wal.append({ vchannel: 'a' }, { idempotencyKey: 'k' })
    const producer = await wal.producer('a', { id: 'p' })
    await producer.append({ payload: bytes('1') })
    const transaction = await wal.begin('a')
    await transaction.append({ payload: bytes('never') })
    // Another owner takes the log, as after a crash.
    const { wal: next, store } = await subject.open()
    expect(next.transactions()).toEqual([])
    expect(await next.append({ vchannel: 'a' }, { idempotencyKey: 'k' })).toEqual({ ...first, duplicate: true })
    expect(next.producers()).toMatchObject([{ id: 'p', epoch: 1, lastSequence: 1 }])
    const rollbacks = (await records(store)).filter(({ type }) => type === MessageType.rollbackTxn)
    expect(rollbacks.length).toBe(1)
    expect((await refusal(next.commitTransaction(transaction.id))).code).toMatch(/^TRANSACTION_/)
    expect((await refusal(transaction.commit())).code).toBeDefined()
    await next.close()
    await wal.close().catch(() => {})
  })

  test('a truncated log opens from its snapshot, and knows what went', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    const first = await wal.append({ vchannel: 'a' }, { idempotencyKey: 'k' })
    for (let index = 0; index < 5; index++) await wal.append({ vchannel: 'a' })
    await wal.truncateBefore(5)
    expect(wal.firstLsn).toBe(5)
    await wal.close()
    const { wal: next } = await subject.open()
    expect(await next.append({ vchannel: 'a' }, { idempotencyKey: 'k' })).toEqual({ ...first, duplicate: true })
    await next.close()
  })

  test('truncation does not cut an open transaction', async () => {
    const { wal } = await new MemorySubject().open()
    await wal.append({ vchannel: 'a' })
    const transaction = await wal.begin('a')
    await transaction.append({ payload: bytes('1') })
    for (let index = 0; index < 5; index++) await wal.append({ vchannel: 'b' })
    await wal.truncateBefore(wal.nextLsn)
    expect(wal.firstLsn).toBeLessThanOrEqual(transaction.id)
    const { lsn } = await transaction.commit()
    const units: ScanItem[] = []
    for await (const item of wal.scan({ from: { lsn } })) units.push(item)
    expect(units).toMatchObject([{ kind: 'txn', lsn, messages: [{ vchannel: 'a' }] }])
    await wal.close()
  })

  test('an exclusive message ends the transactions on its vchannel, for everybody', async () => {
    const { wal } = await new MemorySubject().open()
    const [ended, other] = await Promise.all([wal.begin('a'), wal.begin('b')])
    await Promise.all([ended.append({ payload: bytes('1') }), other.append({ payload: bytes('2') })])
    await wal.append({ vchannel: 'a', type: MessageType.dropCollection })
    expect(await refusal(ended.append({ payload: bytes('3') }))).toMatchObject({ code: 'TRANSACTION_ABORTED' })
    expect(await refusal(ended.commit())).toMatchObject({ code: 'TRANSACTION_ABORTED' })
    await other.commit()
    const kinds: string[] = []
    for await (const item of wal.scan()) if (item.kind !== 'tick') kinds.push(`${item.kind} ${item.vchannel}`)
    expect(kinds).toEqual(['message a', 'txn b'])
    await wal.close()
  })
})

describe('interceptors of the user', () => {
  test('they see and change copies, in order, before anything is encoded; afterwards LSN and tick, in LSN order', async () => {
    const seen: string[] = []
    const index: [string, WalAppended][] = []
    const first: UserInterceptor = {
      name: 'first',
      beforeAppend(message, context) {
        seen.push(`first ${context.index}/${context.batchSize}`)
        message.properties = { ...message.properties, stamped: 'yes' }
      },
      afterAppend(message, result) {
        index.push([Buffer.from(message.payload!).toString(), result])
      },
    }
    const second: UserInterceptor = {
      name: 'second',
      async beforeAppend(message) {
        await turn()
        seen.push(`second ${message.properties!.stamped}`)
        message.payload = Buffer.concat([message.payload!, bytes('!')])
      },
    }
    const { wal, store } = await new MemorySubject().open({ interceptors: [first, second] })
    const message = { vchannel: 'a', payload: bytes('x') }
    const { lsn, timeTick } = await wal.append(message)
    expect(message).toEqual({ vchannel: 'a', payload: bytes('x') })
    const { firstLsn, firstTimeTick } = await wal.append([message, { ...message, payload: bytes('y') }])
    expect(seen).toEqual(['first 0/1', 'second yes', 'first 0/2', 'second yes', 'first 1/2', 'second yes'])
    expect(await texts(store)).toEqual(['x!', 'x!', 'y!'])
    expect({ ...(await records(store))[0]!.properties }).toEqual({ stamped: 'yes' })
    expect(index).toEqual([
      ['x!', { lsn, timeTick, duplicate: false }],
      ['x!', { lsn: firstLsn, timeTick: firstTimeTick, duplicate: false }],
      ['y!', { lsn: firstLsn + 1, timeTick: firstTimeTick + 1n, duplicate: false }],
    ])
    await wal.close()
  })

  test('its own error is what the append rejects with, and nothing of the batch is written', async () => {
    class NotAllowed extends Error {}
    const error = new NotAllowed('no')
    for (const beforeAppend of [
      (message: MutableMessage) => {
        if (message.type === 9_999) throw error
      },
      async (message: MutableMessage) => {
        await turn()
        if (message.type === 9_999) throw error
      },
    ]) {
      const { wal, store } = await new MemorySubject().open({ interceptors: [{ name: 'audit', beforeAppend }] })
      expect(await refusal(wal.append([{ vchannel: 'a' }, { vchannel: 'a', type: 9_999 }]))).toBe(error)
      expect(await refusal(wal.append({ vchannel: 'a', type: 9_999 }))).toBe(error)
      expect(store.nextLsn).toBe(0)
      await wal.append({ vchannel: 'a' })
      expect(store.nextLsn).toBe(1)
      await wal.close()
    }
  })

  test('what it makes of a message is checked as if the caller had written it', async () => {
    const beforeAppend = (message: MutableMessage) => {
      message.properties = { _h: 'forged' }
    }
    const { wal, store } = await new MemorySubject().open({ interceptors: [{ name: 'forger', beforeAppend }] })
    expect((await refusal(wal.append({ vchannel: 'a' }))).code).toBe('INVALID_ARGUMENT')
    expect(store.nextLsn).toBe(0)
    await wal.close()
  })

  test('an afterAppend that throws or rejects loses nothing, blocks nothing, and is reported', async () => {
    const errors: [unknown, string][] = []
    const seen: number[] = []
    const { wal } = await new MemorySubject().open({
      interceptors: [
        {
          name: 'broken',
          afterAppend(_message, { lsn }) {
            throw new Error(`after ${lsn}`)
          },
        },
        {
          name: 'rejecting',
          afterAppend: (async () => {
            throw new Error('late')
          }) as () => void,
        },
        { name: 'index', afterAppend: (_message, { lsn }) => void seen.push(lsn) },
      ],
      onInterceptorError(error, name) {
        errors.push([(error as Error).message, name])
        throw new Error('and so is the one who is told')
      },
    })
    const appended = await Promise.all([wal.append({ vchannel: 'a' }), wal.append([{ vchannel: 'a' }])])
    expect(appended).toMatchObject([{ lsn: 0 }, { firstLsn: 1 }])
    await turn()
    expect(seen).toEqual([0, 1])
    expect(errors.toSorted()).toEqual([
      ['after 0', 'broken'],
      ['after 1', 'broken'],
      ['late', 'rejecting'],
      ['late', 'rejecting'],
    ])
    expect(wal.status().statistics.interceptorErrors).toBe(4)
    await wal.close()
  })

  test('of many appends at once afterAppend is called in LSN order, as each is durable', async () => {
    const seen: number[] = []
    const { wal, store } = await new MemorySubject().open({
      interceptors: [
        {
          name: 'index',
          afterAppend(_message, { lsn }) {
            expect(store.nextLsn).toBeGreaterThan(lsn)
            seen.push(lsn)
          },
        },
      ],
    })
    await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        index % 3 === 0 ? wal.append([{ vchannel: 'a' }, { vchannel: 'b' }]) : wal.append({ vchannel: 'a' }),
      ),
    )
    expect(seen).toEqual(Array.from({ length: store.nextLsn }, (_, lsn) => lsn))
    await wal.close()
  })

  test('a received body is shown to look at: an interceptor may refuse it, and cannot change it', async () => {
    const shown: unknown[] = []
    const { wal, store } = await new MemorySubject().open({
      interceptors: [
        {
          name: 'look',
          beforeAppend(message) {
            shown.push({ ...message, payload: Buffer.from(message.payload!).toString() })
            if (message.vchannel === 'b') message.vchannel = 'c'
          },
        },
      ],
    })
    const good = await encodeBody([{ vchannel: 'a', type: 2, properties: { k: 'v' }, payload: bytes('x') }])
    const { entered, settled } = wal.appendBody(good)
    expect(entered).toBeNull()
    expect((await settled).range).toMatchObject({ firstLsn: 0, lastLsn: 0 })
    expect(shown).toEqual([{ vchannel: 'a', type: 2, properties: { k: 'v' }, payload: 'x' }])
    const changed = await encodeBody([{ vchannel: 'b', payload: bytes('y') }])
    await expect(wal.appendBody(changed).settled).rejects.toBeInstanceOf(TypeError)
    expect(store.nextLsn).toBe(1)
    await wal.close()
  })
})

describe('exclusive messages', () => {
  test('wait for what is under way on their vchannel, keep others waiting behind them, in order', async () => {
    const subject = new MemorySubject()
    const { wal, store } = await subject.open()
    const release = subject.hold()
    const done: string[] = []
    const append = (vchannel: string, type: number, name: string) =>
      wal.append({ vchannel, type, payload: bytes(name) }).then(() => void done.push(name))
    const appends = [
      append('a', 0, 'before'),
      append('a', MessageType.dropCollection, 'drop'),
      append('a', 0, 'behind 1'),
      append('b', 0, 'elsewhere'),
      append('a', MessageType.createCollection, 'create'),
      append('a', 0, 'behind 2'),
    ]
    await turn()
    expect(wal.status().statistics).toMatchObject({ exclusiveWaiting: 4, exclusiveWaits: 4 })
    release()
    await Promise.all(appends)
    expect(await texts(store)).toEqual(['before', 'elsewhere', 'drop', 'behind 1', 'create', 'behind 2'])
    expect(done).toEqual(['before', 'elsewhere', 'drop', 'behind 1', 'create', 'behind 2'])
    await wal.close()
  })

  test('for the whole pchannel: without a vchannel, and FlushAll on any', async () => {
    for (const message of [
      { vchannel: '', type: MessageType.dropCollection },
      { vchannel: 'c', type: MessageType.flushAll },
    ]) {
      const subject = new MemorySubject()
      const { wal, store } = await subject.open()
      const release = subject.hold()
      const appends = [
        wal.append({ vchannel: 'a', payload: bytes('before') }),
        wal.append({ ...message, payload: bytes('all') }),
        wal.append({ vchannel: 'b', payload: bytes('behind') }),
      ]
      await turn()
      expect(wal.status().statistics.exclusiveWaiting).toBe(2)
      release()
      await Promise.all(appends)
      expect(await texts(store)).toEqual(['before', 'all', 'behind'])
      await wal.close()
    }
  })

  test('one stands alone in its frame, also when plain appends gather around it', async () => {
    const { wal, store } = await new MemorySubject().open()
    await Promise.all([
      wal.append({ vchannel: 'a' }),
      wal.append({ vchannel: 'b', type: MessageType.createPartition }),
      wal.append({ vchannel: 'a' }),
    ])
    for await (const frame of store.read({ from: 'earliest' })) {
      if ([...frame].some(({ type }) => type === MessageType.createPartition)) expect(frame.recordCount).toBe(1)
    }
    await wal.close()
  })

  test('a wait ends at its deadline or by an abort, not written, and those behind go on', async () => {
    const subject = new MemorySubject()
    const { wal, store } = await subject.open({ exclusiveWaitMs: 500 })
    const release = subject.hold()
    const before = wal.append({ vchannel: 'a', payload: bytes('before') })
    const late = refusal(wal.append({ vchannel: 'a', type: MessageType.dropCollection }))
    const controller = new AbortController()
    const aborted = refusal(wal.append({ vchannel: 'a' }, { signal: controller.signal }))
    controller.abort()
    expect(await aborted).toMatchObject({ code: 'ABORTED', outcome: 'not-written' })
    await subject.clock.advance(400)
    const behind = wal.append({ vchannel: 'a', payload: bytes('behind') })
    await subject.clock.advance(100)
    expect(await late).toMatchObject({ code: 'TIMEOUT', outcome: 'not-written', retriable: true })
    release()
    await Promise.all([before, behind])
    expect(await texts(store)).toEqual(['before', 'behind'])
    await wal.close()
  })

  test('frames of a lane keep their order: the next is given when the one before has entered', async () => {
    const subject = new MemorySubject()
    const { wal, store } = await subject.open()
    const release = subject.hold()
    const drop = wal.append({ vchannel: 'a', type: MessageType.dropCollection, payload: bytes('drop') })
    const first = wal.appendBody(await encodeBody([{ vchannel: 'a', payload: bytes('1') }]))
    expect(first.entered).not.toBeNull()
    let entered = false
    void first.entered!.then(() => {
      entered = true
    })
    await turn()
    expect(entered).toBe(false)
    release()
    await Promise.all([drop, first.entered])
    const second = wal.appendBody(await encodeBody([{ vchannel: 'a', payload: bytes('2') }]))
    await Promise.all([first.settled, second.settled])
    expect(await texts(store)).toEqual(['drop', '1', '2'])
    await wal.close()
  })
})

describe('admission', () => {
  test('too fast: slowed down first, then refused; it recovers by itself, and listeners are told', async () => {
    const subject = new MemorySubject()
    const { wal, store } = await subject.open({
      admission: { bytesPerSecond: 1_000, burstBytes: 1_000, delayMsMax: 1_000 },
    })
    const states: string[] = []
    wal.onThrottle(({ state }) => states.push(state))
    const payload = Buffer.alloc(1_000)
    await wal.append({ vchannel: 'a', payload })
    const slowed = wal.append({ vchannel: 'a', payload })
    await turn()
    expect(store.nextLsn).toBe(1)
    expect(wal.status()).toMatchObject({ throttle: { state: 'slow', bytesPerSecond: 1_000 } })
    expect(await refusal(wal.append({ vchannel: 'a', payload }))).toMatchObject({
      code: 'RATE_LIMITED',
      retriable: true,
      outcome: 'not-written',
    })
    await subject.clock.advance(3_000)
    expect(await slowed).toMatchObject({ lsn: 1 })
    expect(states.at(0)).toBe('slow')
    expect(states.at(-1)).toBe('ok')
    expect(await wal.append({ vchannel: 'a', payload })).toMatchObject({ lsn: 2 })
    expect(wal.status().statistics.admission).toMatchObject({ bytes: 0, refused: 1, delayed: 1 })
    await wal.close()
  })

  test('memory counts what is under way, and lets go of it however an append ends', async () => {
    const subject = new MemorySubject()
    const refuse = {
      name: 'refuse',
      beforeAppend(message: MutableMessage) {
        if (message.type === 9_999) throw new Error('no')
      },
    }
    const { wal } = await subject.open({ admission: { memoryBytes: 1_000 }, interceptors: [refuse] })
    const release = subject.hold()
    const payload = Buffer.alloc(800)
    const first = wal.append({ vchannel: 'a', payload })
    expect(await refusal(wal.append({ vchannel: 'a', payload }))).toMatchObject({ code: 'RATE_LIMITED' })
    release()
    await first
    await refusal(wal.append({ vchannel: 'a', type: 9_999, payload }))
    await refusal(wal.append({ vchannel: 'a', payload }, { signal: AbortSignal.abort() }))
    subject.failNext()
    await refusal(wal.append({ vchannel: 'a', payload }))
    expect(wal.status().statistics.admission.bytes).toBe(0)
    await wal.close()
  })
})

describe('the watermark on demand', () => {
  test('at once when it has passed; else within one interval of it', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open({ timeTickIntervalMs: 5 })
    const { timeTick } = await wal.append({ vchannel: 'a' })
    expect(await wal.confirmed()).toBeGreaterThanOrEqual(timeTick)
    expect(await wal.confirmed({ atLeast: timeTick })).toBeGreaterThanOrEqual(timeTick)
    const release = subject.hold()
    const append = wal.append({ vchannel: 'a' })
    await turn()
    const ahead = wal.watermark() + 1n
    let answered: bigint | null = null
    const waiting = wal.confirmed({ atLeast: ahead }).then((tick) => {
      answered = tick
    })
    await subject.clock.advance(50)
    expect(answered).toBeNull()
    release()
    const { timeTick: next } = await append
    await subject.clock.advance(5)
    await waiting
    expect(answered).toBeGreaterThanOrEqual(next)
    expect(subject.clock.timers).toBe(0)
    await wal.close()
  })

  test('an abort and a close end the wait', async () => {
    const { wal } = await new MemorySubject().open()
    const far = wal.watermark() + (3_600_000n << 18n)
    const controller = new AbortController()
    const aborted = refusal(wal.confirmed({ atLeast: far, signal: controller.signal }))
    const waiting = refusal(wal.confirmed({ atLeast: far }))
    controller.abort()
    expect(await aborted).toMatchObject({ code: 'ABORTED' })
    await wal.close()
    expect(await waiting).toMatchObject({ code: 'CLOSED' })
    expect(await refusal(wal.confirmed())).toMatchObject({ code: 'CLOSED' })
  })
})

describe('close', () => {
  test('settles what is under way, refuses what comes, and is nothing the second time', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    const release = subject.hold()
    const appends = [wal.append({ vchannel: 'a' }), wal.append({ vchannel: 'a', type: MessageType.dropCollection })]
    const closing = wal.close()
    expect(await refusal(wal.append({ vchannel: 'a' }))).toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    const late = wal.appendBody(await encodeBody([{ vchannel: 'a' }]))
    expect(await refusal(late.settled)).toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    release()
    expect(await Promise.all(appends)).toMatchObject([{ lsn: 0 }, { lsn: 1 }])
    await closing
    await wal.close()
    const { wal: again, store } = await subject.open()
    expect(store.nextLsn).toBe(2)
    await again[Symbol.asyncDispose]()
  })

  test('does not wait for ever for an interceptor that does not come back', async () => {
    const subject = new MemorySubject()
    let goOn = () => {}
    const hanging = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const { wal } = await subject.open({ interceptors: [{ name: 'hangs', beforeAppend: () => hanging }] })
    const append = refusal(wal.append({ vchannel: 'a' }))
    const closing = wal.close()
    await turn()
    await subject.clock.advance(10_000)
    await closing
    goOn()
    expect(await append).toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
    expect(subject.clock.timers).toBe(0)
  })

  test('truncation goes to the store', async () => {
    const { wal } = await new MemorySubject().open()
    for (let count = 0; count < 4; count++) await wal.append({ vchannel: 'a' })
    await wal.truncateBefore(3)
    expect([wal.firstLsn, wal.nextLsn]).toEqual([3, 4])
    expect(await refusal(wal.truncateBefore(5))).toMatchObject({ code: 'INVALID_ARGUMENT' })
    await wal.close()
    expect(await refusal(wal.truncateBefore(4))).toMatchObject({ code: 'CLOSED' })
  })
})

test('options that make no sense are refused', async () => {
  const subject = new MemorySubject()
  for (const options of [{ timeTickIntervalMs: 0 }, { exclusiveWaitMs: 1.5 }, { frameBytesMax: -1 }]) {
    await expect(subject.open(options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
})
