import { describe, expect, test } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import { encodeBody } from '../log-store/encode-body.ts'
import { turn } from './manual-clock.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { bytes, refusal, texts } from './written-records.ts'

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
