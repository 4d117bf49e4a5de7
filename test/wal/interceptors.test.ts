import { describe, expect, test } from 'vitest'
import type { MutableMessage, UserInterceptor, WalAppended } from '../../src/wal/types.ts'
import { encodeBody } from '../log-store/encode-body.ts'
import { turn } from './manual-clock.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { bytes, records, refusal, texts } from './written-records.ts'

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
