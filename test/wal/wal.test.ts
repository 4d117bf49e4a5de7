import { describe, expect, test } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import type { MutableMessage } from '../../src/wal/types.ts'
import { encodeBody } from '../log-store/encode-body.ts'
import { turn } from './manual-clock.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { refusal } from './written-records.ts'

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
