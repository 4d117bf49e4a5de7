import { describe, expect, test } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import type { ScanItem } from '../../src/wal/types.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { bytes, records, refusal } from './written-records.ts'

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
