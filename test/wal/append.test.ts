import { createHook } from 'node:async_hooks'
import { describe, expect, test } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import type { MutableMessage, ScanItem } from '../../src/wal/types.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { bytes, records, refusal } from './written-records.ts'

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
