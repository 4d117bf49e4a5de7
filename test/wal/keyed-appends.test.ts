/** Single records with idempotency keys, whichever way they take. */
import { describe, expect, test } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import { openWal } from '../../src/wal/open-wal.ts'
import type { WalAppended } from '../../src/wal/types.ts'
import { logEnvironment } from '../simulation/log-session.ts'
import { SimDisk } from '../simulation/sim-disk.ts'
import { MemorySubject } from './open-memory-wal.ts'
import { bytes, records, refusal } from './written-records.ts'

const message = { vchannel: 'a' }

describe('records with keys', () => {
  test('equal ones in flight at once are one record, on the short way and on the long one', async () => {
    const subject = new MemorySubject()
    const { wal, store } = await subject.open()
    const release = subject.hold()
    const signal = new AbortController().signal
    const appends = [
      wal.append(message, { idempotencyKey: 'k' }),
      wal.append(message, { idempotencyKey: 'k' }),
      wal.append(message, { idempotencyKey: 'k', signal }),
      wal.append({ vchannel: 'b' }, { idempotencyKey: 'k' }),
      wal.append(message, { idempotencyKey: 'l', signal }),
      wal.append(message, { idempotencyKey: 'l' }),
    ]
    release()
    const results = await Promise.all(appends)
    expect(results.map(({ lsn, duplicate }) => [lsn, duplicate])).toEqual([
      [0, false],
      [0, true],
      [0, true],
      [1, false],
      [2, false],
      [2, true],
    ])
    expect(results[1]!.timeTick).toBe(results[0]!.timeTick)
    const { statistics } = wal.status()
    expect(statistics).toMatchObject({ appends: 3, records: 3, duplicates: 3, repeats: 3, keys: 3 })
    expect((await records(store)).length).toBe(3)
    await wal.close()
  })

  test('one that was refused leaves its key free, and its neighbours are written, in one frame, in their order', async () => {
    const disk = new SimDisk({ seed: 1 })
    disk.prepareDirectory('/data')
    const environment = logEnvironment(disk, 1)
    const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
    const wal = await openWal('/data/log', { environment, writeWay, recordBytesMax: 4_096 })
    // While its write is under way the others gather.
    const first = wal.append(message)
    const key = (idempotencyKey: string) => ({ idempotencyKey })
    const before = wal.append({ ...message, payload: bytes('1') }, key('x'))
    const large = refusal(wal.append({ ...message, payload: Buffer.alloc(8_192) }, key('y')))
    const plain = wal.append({ ...message, payload: bytes('2') })
    const after = wal.append({ ...message, payload: bytes('3') }, key('y'))
    expect((await large).code).toBe('LIMIT_EXCEEDED')
    const results = await Promise.all([first, before, plain, after])
    expect(results.map(({ lsn, duplicate }) => [lsn, duplicate])).toEqual([
      [0, false],
      [1, false],
      [2, false],
      [3, false],
    ])
    // Records of one frame have ticks one after the other.
    expect(results[3]!.timeTick - results[1]!.timeTick).toBe(2n)
    expect(await wal.append(message, key('y'))).toEqual({ ...results[3], duplicate: true })
    await wal.close()
  })

  test('a first one whose outcome is unknown lets go of what waits for it', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    subject.failNext()
    const first = refusal(wal.append(message, { idempotencyKey: 'k' }))
    const second = refusal(wal.append(message, { idempotencyKey: 'k' }))
    expect((await first).outcome).toBe('unknown')
    expect((await second).outcome).toBe('not-written')
    expect(wal.status().statistics).toMatchObject({ failed: 2, appends: 0, keys: 0 })
    await wal.close()
    // The lock was given back: the close has waited for nobody.
    expect(wal.status().statistics.exclusiveWaiting).toBe(0)
  })

  test('a barrier is kept; a key of before the horizon is refused, and one that is known is not', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open({ keys: { windowMs: 1_000 } })
    const first = await wal.append(message, { idempotencyKey: 'k' })
    const barrierTick = first.timeTick + (2_000n << 18n)
    const second = await wal.append(message, { idempotencyKey: 'l', barrierTick })
    expect(second.timeTick).toBeGreaterThanOrEqual(barrierTick)
    const firstTriedAt = first.timeTick
    const forgotten = await refusal(wal.append(message, { idempotencyKey: 'k', firstTriedAt }))
    expect([forgotten.code, forgotten.outcome]).toEqual(['KEY_FORGOTTEN', 'not-written'])
    expect(await wal.append(message, { idempotencyKey: 'l', firstTriedAt })).toEqual({ ...second, duplicate: true })
    expect((await wal.append(message, { idempotencyKey: 'k' })).duplicate).toBe(false)
    await wal.close()
  })

  test('exclusive messages wait for them, and they for exclusive ones', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    const release = subject.hold()
    const settled: string[] = []
    const note = (name: string, append: Promise<WalAppended>) =>
      append.then(({ lsn }) => settled.push(`${name} ${lsn}`))
    const appends = [
      note('key', wal.append(message, { idempotencyKey: 'k' })),
      note('flush', wal.append({ ...message, type: MessageType.manualFlush })),
      note('repeat', wal.append(message, { idempotencyKey: 'k' })),
      note('new', wal.append(message, { idempotencyKey: 'n' })),
    ]
    release()
    await Promise.all(appends)
    expect(settled).toEqual(['key 0', 'flush 1', 'repeat 0', 'new 2'])
    await wal.close()
  })

  test('are shown to interceptors as all others', async () => {
    const seen: number[] = []
    const afterAppend = (_message: unknown, { lsn }: WalAppended) => void seen.push(lsn)
    const { wal } = await new MemorySubject().open({ interceptors: [{ name: 'index', afterAppend }] })
    await wal.append(message, { idempotencyKey: 'k' })
    await wal.append(message, { idempotencyKey: 'k' })
    expect(seen).toEqual([0])
    await wal.close()
  })
})
