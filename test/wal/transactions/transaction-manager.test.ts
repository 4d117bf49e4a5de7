import { describe, expect, test } from 'vitest'
import { TidelogError } from '../../../src/errors.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import type { WalError } from '../../../src/wal/types.ts'
import { budget } from '../../budget.ts'
import { turn } from '../manual-clock.ts'
import { codeOf, replayed, TransactionLog } from './transaction-log.ts'

const payload = (text: string) => ({ payload: Buffer.from(text) })

/** The memory store flushes in turns of the event loop. */
async function settle(times = 6): Promise<void> {
  for (let time = 0; time < times; time++) await turn()
}

describe('begin, append, commit, rollback', () => {
  test('records become visible with the commit, as one unit at its place', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    await txn.append(payload('1'))
    await log.append({ vchannel: 'a', ...payload('between') })
    await txn.append(payload('2'))
    expect(await log.read()).toEqual(['between'])
    const { lsn, timeTick } = await txn.commit()
    expect(await log.read()).toEqual(['between', ['1', '2']])
    expect(log.table.ended(txn.id)).toEqual({ outcome: 'committed', lsn, timeTick })
    const rolledBack = await log.begin()
    await rolledBack.append(payload('never'))
    await rolledBack.rollback()
    await rolledBack.rollback()
    expect(await log.read()).toEqual(['between', ['1', '2']])
    expect(log.manager.list()).toEqual([])
    expect(log.manager.statistics).toEqual({ open: 0, begun: 2, committed: 1, rolledBack: 1, expired: 0 })
    expect(log.subject.clock.timers).toBe(0)
  })

  test('a commit waits for its own appends, those too that a stage still asks about', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    let letIn = () => {}
    const held = new Promise<void>((resolve) => {
      letIn = resolve
    })
    log.first.before = (unit) => (unit.internal ? undefined : held)
    const appends = [txn.append(payload('1')), txn.append(payload('2'))]
    let isCommitted = false
    const committed = txn.commit().then(() => {
      isCommitted = true
    })
    await settle()
    expect(isCommitted).toBe(false)
    expect(await codeOf(txn.append(payload('late')))).toBe('TRANSACTION_STATE')
    letIn()
    await Promise.all([...appends, committed])
    expect(await log.read()).toEqual([['1', '2']])
  })

  test('repeats of a commit and of a rollback are answered as the first was, also after a restart', async () => {
    const log = await TransactionLog.open()
    const committed = await log.begin()
    const rolledBack = await log.begin()
    await committed.append(payload('1'))
    const [first, again] = await Promise.all([log.manager.commit(committed.id), log.manager.commit(committed.id)])
    expect(again).toEqual(first)
    const back = await log.manager.rollback(rolledBack.id)
    for (const one of [log, await TransactionLog.open(log.subject)]) {
      expect(await one.manager.commit(committed.id)).toEqual({ lsn: first.lsn, timeTick: first.timeTick })
      expect(await one.manager.rollback(rolledBack.id)).toEqual({ lsn: back.lsn, timeTick: back.timeTick })
      expect(await codeOf(one.manager.rollback(committed.id))).toBe('TRANSACTION_STATE')
      expect(await codeOf(one.manager.commit(999))).toBe('TRANSACTION_EXPIRED')
    }
    expect(await codeOf(log.manager.commit(rolledBack.id))).toBe('TRANSACTION_STATE')
  })

  test('what is asked wrongly is refused, and writes nothing', async () => {
    const log = await TransactionLog.open(undefined, { openMax: 2, recordsMax: 2, bytesMax: 100 })
    for (const keepaliveMs of [0, 1.5, 86_400_001, Number.NaN]) {
      expect(await codeOf(log.begin('a', keepaliveMs))).toBe('INVALID_ARGUMENT')
    }
    expect(await codeOf(log.begin(''))).toBe('INVALID_ARGUMENT')
    const aborted = AbortSignal.abort()
    expect(await codeOf(log.manager.begin('a', { signal: aborted }))).toBe('ABORTED')
    expect(log.store.nextLsn).toBe(0)
    const [one, two] = [await log.begin(), await log.begin()]
    expect(await codeOf(log.begin())).toBe('LIMIT_EXCEEDED')
    expect(await codeOf(one.append({ vchannel: 'b' }))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(log.receive(two.id, 'b', ['x'], 0).then(({ settled }) => settled))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(two.append({ payload: Buffer.alloc(101) }))).toBe('LIMIT_EXCEEDED')
    expect(await codeOf(log.receive(999, 'a', ['x'], 0).then(({ settled }) => settled))).toBe('TRANSACTION_EXPIRED')
    expect(log.store.nextLsn).toBe(2)
    await Promise.all([one.rollback(), two.rollback()])
    const three = await log.begin()
    await log.appendMessages([{ vchannel: 'a' }, { vchannel: 'a' }], { transaction: three.id })
    expect(await codeOf(three.append({}))).toBe('LIMIT_EXCEEDED')
  })

  test('thousands begin, and commit, in a few frames', async () => {
    const log = await TransactionLog.open()
    const count = budget({ small: 2_500, ci: 10_000 })
    const all = await Promise.all(Array.from({ length: count }, () => log.begin()))
    expect(log.manager.list()).toHaveLength(count)
    await Promise.all(all.map((txn) => txn.commit()))
    let frames = 0
    for await (const frame of log.store.read({ from: 'earliest' })) frames += frame.kind === 'records' ? 1 : 0
    expect(frames).toBe(2 * Math.ceil(count / 1_024))
    expect(log.table.openCount).toBe(0)
  })
})

describe('leases', () => {
  test('a transaction that is not used expires; each append extends its lease', async () => {
    const log = await TransactionLog.open()
    const { clock } = log.subject
    const txn = await log.begin('a', 1_000)
    await clock.advance(900)
    await txn.append(payload('1'))
    await clock.advance(900)
    expect(log.manager.list()).toMatchObject([
      { transaction: txn.id, state: 'open', bodies: 1, ageMs: 1_800, leftMs: 100 },
    ])
    await clock.advance(100)
    await settle()
    expect(log.manager.list()).toEqual([])
    expect(await codeOf(txn.append(payload('2')))).toBe('TRANSACTION_EXPIRED')
    expect(await codeOf(txn.commit())).toBe('TRANSACTION_EXPIRED')
    expect(await log.read()).toEqual([])
    expect((await replayed(log.store)).ended(txn.id)?.outcome).toBe('expired')
    expect(log.manager.statistics.expired).toBe(1)
    // The log says it, so that a restart does not forget it.
    await log.manager.close()
    const next = await TransactionLog.open(log.subject)
    expect(await codeOf(next.manager.commit(txn.id))).toBe('TRANSACTION_EXPIRED')
  })

  test('the wall clock does not expire it, and nothing keeps it open longer than the life time', async () => {
    const log = await TransactionLog.open(undefined, { lifetimeMs: 3_000 })
    const { clock } = log.subject
    const txn = await log.begin('a', 1_000)
    clock.stepMs = 7_200_000
    await clock.advance(500)
    expect(log.manager.list()).toHaveLength(1)
    for (let step = 0; step < 4; step++) {
      await txn.append(payload('x'))
      await clock.advance(600)
    }
    expect(log.manager.list()).toHaveLength(1)
    await clock.advance(100)
    await settle()
    expect(log.manager.list()).toEqual([])
    expect(await codeOf(txn.commit())).toBe('TRANSACTION_EXPIRED')
  })

  test('an append under way keeps it open, and a commit under way is not overtaken by the expiry', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin('a', 1_000)
    let release = log.subject.hold()
    const append = txn.append(payload('1'))
    await log.subject.clock.advance(5_000)
    expect(log.manager.list()).toMatchObject([{ state: 'open' }])
    release()
    await append
    release = log.subject.hold()
    const committed = txn.commit()
    await log.subject.clock.advance(5_000)
    expect(log.manager.list()).toMatchObject([{ state: 'committing' }])
    release()
    await committed
    expect(await log.read()).toEqual([['1']])
  })

  test('an expiry that was not written is tried again', async () => {
    const log = await TransactionLog.open()
    const { clock } = log.subject
    const txn = await log.begin('a', 1_000)
    // An exclusive message holds the vchannel until the rollback gives up.
    await log.lock.exclusive('a')
    await clock.advance(31_000)
    await settle()
    expect(log.manager.list()).toMatchObject([{ state: 'open', transaction: txn.id }])
    log.lock.leaveExclusive('a')
    await clock.advance(1_000)
    await settle()
    expect(log.manager.list()).toEqual([])
    expect((await replayed(log.store)).openCount).toBe(0)
  })

  test('an expiry that cannot be written is tried again less and less often, and at once when asked', async () => {
    const log = await TransactionLog.open()
    const { clock } = log.subject
    const txn = await log.begin('a', 1_000)
    const attempts: number[] = []
    const startedMs = clock.monotonicMs()
    log.first.before = () => {
      attempts.push(clock.monotonicMs() - startedMs)
      throw new TidelogError('DISK_FULL', 'no room', { outcome: 'not-written', retriable: true })
    }
    for (let second = 0; second < 300; second++) {
      await clock.advance(1_000)
      await settle()
    }
    expect(attempts).toEqual([1, 2, 4, 8, 16, 32, 64, 124, 184, 244].map((seconds) => seconds * 1_000))
    log.first.before = undefined
    await txn.rollback()
    expect((await replayed(log.store)).ended(txn.id)?.outcome).toBe('expired')
  })
})

describe('failed appends', () => {
  test('one that was refused makes the commit roll back', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    await txn.append(payload('1'))
    log.first.before = (unit) => {
      if (!unit.internal) throw new Error('not this one')
    }
    await expect(txn.append(payload('2'))).rejects.toThrow('not this one')
    log.first.before = undefined
    const error = await txn.commit().catch((caught) => caught)
    expect([error.code, error.outcome, error.cause.message]).toEqual([
      'TRANSACTION_ABORTED',
      'not-written',
      'not this one',
    ])
    expect(await log.read()).toEqual([])
    expect(log.table.ended(txn.id)?.outcome).toBe('rolled-back')
    expect(await codeOf(log.manager.commit(txn.id))).toBe('TRANSACTION_ABORTED')
  })

  test('a commit that was not written may be tried again', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin('a', 60_000)
    await txn.append(payload('1'))
    await log.lock.exclusive('a')
    const first = txn.commit()
    const code = codeOf(first)
    await settle()
    await log.subject.clock.advance(30_000)
    expect(await code).toBe('TIMEOUT')
    log.lock.leaveExclusive('a')
    await txn.commit()
    expect(await log.read()).toEqual([['1']])
  })

  test('a rollback does not wait for records that are on their way: those have no place behind it', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    let letIn = () => {}
    log.first.before = (unit) =>
      unit.internal
        ? undefined
        : new Promise((resolve) => {
            letIn = resolve
          })
    const append = codeOf(txn.append(payload('1')))
    await txn.rollback()
    letIn()
    expect(await append).toBe('TRANSACTION_STATE')
    expect(log.store.nextLsn).toBe(2)
  })
})

describe('exclusive messages', () => {
  const drop = { vchannel: 'a', type: MessageType.dropCollection }

  test('they end the transactions of their vchannel, for callers and for readers', async () => {
    const log = await TransactionLog.open()
    const [one, two, other] = [await log.begin('a'), await log.begin('a'), await log.begin('b')]
    await one.append(payload('1'))
    await other.append(payload('stays'))
    await log.append(drop)
    expect(await codeOf(one.append(payload('2')))).toBe('TRANSACTION_ABORTED')
    expect(await codeOf(two.commit())).toBe('TRANSACTION_ABORTED')
    await two.rollback()
    await other.commit()
    expect(await log.read()).toEqual(['', ['stays']])
    expect((await replayed(log.store)).openCount).toBe(0)
  })

  test('one of the pchannel ends all', async () => {
    const log = await TransactionLog.open()
    const all = [await log.begin('a'), await log.begin('b')]
    await log.append({ vchannel: '', type: MessageType.flushAll })
    for (const txn of all) expect(await codeOf(txn.commit())).toBe('TRANSACTION_ABORTED')
    expect(log.table.openCount).toBe(0)
  })

  test('a commit behind one that waits is refused in its turn; one before it goes first', async () => {
    const log = await TransactionLog.open()
    const [before, behind] = [await log.begin(), await log.begin()]
    await before.append(payload('before'))
    await behind.append(payload('behind'))
    const release = log.subject.hold()
    const committed = before.commit()
    await settle(1)
    const dropped = log.append(drop)
    await settle(1)
    const refused = codeOf(behind.commit())
    const begun = log.begin()
    release()
    await committed
    await dropped
    expect(await refused).toBe('TRANSACTION_ABORTED')
    // It shared a frame with the refused commit.
    const txn = await begun
    await txn.append(payload('new'))
    await txn.commit()
    expect(await log.read()).toEqual([['before'], '', ['new']])
  })

  test('a rollback behind one is over with it', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    const release = log.subject.hold()
    const dropped = log.append(drop)
    await settle(1)
    const rolledBack = txn.rollback()
    release()
    const { range } = await dropped
    await rolledBack
    expect(log.store.nextLsn).toBe(range.lastLsn + 1)
    expect(log.table.ended(txn.id)?.outcome).toBe('exclusive')
  })

  test('a record behind one is refused', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    const release = log.subject.hold()
    const dropped = log.append(drop)
    await settle(1)
    const refused = codeOf(txn.append(payload('1')))
    const committed = codeOf(txn.commit())
    release()
    await dropped
    expect(await refused).toBe('TRANSACTION_ABORTED')
    expect(await committed).toBe('TRANSACTION_ABORTED')
    expect(await log.read()).toEqual([''])
  })
})

describe('received frames', () => {
  test('a repeat is answered as the first was, one under way is waited for, a gap is refused', async () => {
    const log = await TransactionLog.open()
    const { id } = await log.begin()
    const release = log.subject.hold()
    const first = await log.receive(id, 'a', ['0', '1'], 0)
    const repeat = await log.receive(id, 'a', ['0', '1'], 0)
    expect(await codeOf((await log.receive(id, 'a', ['5'], 5)).settled)).toBe('SEQUENCE_GAP')
    expect(await codeOf((await log.receive(id, 'a', ['1'], 1)).settled)).toBe('SEQUENCE_STRADDLED')
    expect(await codeOf((await log.receive(id, 'a', ['0', '1', '2'], 0)).settled)).toBe('SEQUENCE_STRADDLED')
    release()
    const { range } = await first.settled
    expect(await repeat.settled).toEqual({ range, duplicate: true, duplicates: [] })
    expect(await (await log.receive(id, 'a', ['0', '1'], 0)).settled).toMatchObject({ range, duplicate: true })
    expect(await codeOf((await log.receive(id, 'a', ['0'], 0)).settled)).toBe('SEQUENCE_STRADDLED')
    await (await log.receive(id, 'a', ['2'], 2)).settled
    expect(await codeOf(log.manager.commit(id, 4))).toBe('TRANSACTION_STATE')
    await log.manager.commit(id, 3)
    expect(await log.read()).toEqual([['0', '1', '2']])
  })

  test('what was not written comes again, and what was behind it too: the order holds', async () => {
    const log = await TransactionLog.open()
    const { id } = await log.begin()
    let refusals = 1
    log.first.admit = () =>
      refusals-- > 0
        ? (new TidelogError('QUEUE_FULL', 'full', { outcome: 'not-written', retriable: true }) as WalError)
        : null
    const frames = [['0', '1'], ['2'], ['3', '4']]
    const send = () => Promise.all(frames.map((texts, at) => log.receive(id, 'a', texts, [0, 2, 3][at]!)))
    const codes = (await send()).map(({ settled }) => codeOf(settled))
    expect(await Promise.all(codes)).toEqual(['QUEUE_FULL', 'FAILED_BEFORE', 'FAILED_BEFORE'])
    expect(await codeOf(log.manager.commit(id, 5))).toBe('TRANSACTION_STATE')
    const sent = await send()
    for (const { settled } of sent) expect((await settled).duplicate).toBe(false)
    await log.manager.commit(id, 5)
    expect(await log.read()).toEqual([['0', '1', '2', '3', '4']])
  })

  test('an abort behind the last question ends the wait of its caller alone: the record counts', async () => {
    const log = await TransactionLog.open()
    const { id } = await log.begin()
    const stop = new AbortController()
    const release = log.subject.hold()
    const { settled } = await log.receive(id, 'a', ['0'], 0, stop.signal)
    const repeat = await log.receive(id, 'a', ['0'], 0)
    stop.abort()
    expect(await codeOf(settled)).toBe('ABORTED?')
    release()
    expect(await repeat.settled).toMatchObject({ duplicate: true })
    await log.manager.commit(id, 1)
    expect(await log.read()).toEqual([['0']])
  })

  test('beyond the last 256 frames a repeat is only counted', async () => {
    const log = await TransactionLog.open()
    const { id } = await log.begin()
    for (let index = 0; index < 258; index++) await (await log.receive(id, 'a', ['x'], index)).settled
    expect(await codeOf((await log.receive(id, 'a', ['x'], 1)).settled)).toBe('SEQUENCE_FORGOTTEN')
    expect(await (await log.receive(id, 'a', ['x'], 2)).settled).toMatchObject({ duplicate: true })
    expect(log.table.open(id)?.bodies).toBe(258)
  })
})

describe('closing and opening', () => {
  test('what is open is rolled back at a close, and a commit under way goes through', async () => {
    const log = await TransactionLog.open()
    const [open, committing] = [await log.begin(), await log.begin('b')]
    await open.append(payload('never'))
    await committing.append(payload('1'))
    const release = log.subject.hold()
    const committed = committing.commit()
    const closed = log.manager.close()
    expect(await codeOf(log.begin())).toBe('CLOSED')
    release()
    await closed
    await committed
    expect(await codeOf(open.commit())).toBe('TRANSACTION_ABORTED')
    expect((await replayed(log.store)).openCount).toBe(0)
    expect(await log.read()).toEqual([['1']])
    expect(log.subject.clock.timers).toBe(0)
  })

  test('a close does not wait for ever, and the next opening rolls back what it left', async () => {
    const log = await TransactionLog.open()
    const txn = await log.begin()
    await txn.append(payload('never'))
    await log.lock.exclusive('a')
    let isClosed = false
    const closed = log.manager.close().then(() => {
      isClosed = true
    })
    await log.subject.clock.advance(4_999)
    expect(isClosed).toBe(false)
    await log.subject.clock.advance(1)
    await closed
    const next = await TransactionLog.open(log.subject)
    log.lock.leaveExclusive('a')
    expect(next.table.ended(txn.id)?.outcome).toBe('rolled-back')
    expect(await codeOf(next.manager.commit(txn.id))).toBe('TRANSACTION_ABORTED')
    expect(await codeOf(txn.append(payload('late')))).not.toBe('no error')
    expect(await next.read()).toEqual([])
  })

  test('one record ends all where the state is lost', async () => {
    const log = await TransactionLog.open()
    await Promise.all([log.begin('a'), log.begin('b')])
    await log.manager.recover(true)
    expect(log.table.openCount).toBe(0)
    expect(log.manager.list()).toEqual([])
    expect((await replayed(log.store)).openCount).toBe(0)
  })
})
