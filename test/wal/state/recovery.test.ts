/** How a WAL gets its state back: from which snapshot, from none, and what it says when nobody knows. */
import { describe, expect, it } from 'vitest'
import type { LogStore } from '../../../src/log-store/log-store.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import { defaultKeyWindow } from '../../../src/wal/deduplication/key-table.ts'
import { recoverState } from '../../../src/wal/state/recovery.ts'
import { MemorySubject } from '../open-memory-wal.ts'

const payload = Buffer.from('x')

async function recovered(store: LogStore, replayBytesMax?: number) {
  return await recoverState(store, { keyWindow: defaultKeyWindow, replayBytesMax })
}

/** Five records with keys, and a snapshot by a close behind the second and the fourth one. */
async function withTwoSnapshots(): Promise<{ subject: MemorySubject; whole: Buffer }> {
  const subject = new MemorySubject()
  for (const keys of [['1', '2'], ['3', '4'], ['5']]) {
    const { wal, store } = await subject.open()
    for (const idempotencyKey of keys) await wal.append({ vchannel: 'a', payload }, { idempotencyKey })
    if (keys.length === 2) await wal.close()
    else return { subject, whole: (await recovered(store)).state.encode() }
  }
  return expect.fail('not reached')
}

describe('the state of a WAL that is opened', () => {
  it('is the newest snapshot and the records behind it, the older one and more of them, or all records', async () => {
    const { subject, whole } = await withTwoSnapshots()
    const store = await subject.store()
    const snapshots = await store.snapshots.load()
    expect(snapshots.map(({ lsn }) => lsn)).toEqual([4, 2])
    const frames: number[] = []
    for (let kept = snapshots; ; kept = kept.slice(1)) {
      const of = new Proxy(store, {
        get(target, name) {
          if (name === 'snapshots') return { load: async () => kept }
          const value = Reflect.get(target, name, target)
          return typeof value === 'function' ? value.bind(target) : value
        },
      })
      const { state, isLost, replayedFrames, snapshots: lsns } = await recovered(of)
      expect(isLost).toBe(false)
      expect(lsns).toEqual(kept.map(({ lsn }) => lsn))
      expect(state.encode().equals(whole)).toBe(true)
      frames.push(replayedFrames)
      if (kept.length === 0) break
    }
    expect(frames).toEqual([1, 3, 5])
  })

  it('passes over a snapshot that is none of ours, and takes the older one', async () => {
    const { subject, whole } = await withTwoSnapshots()
    const store = await subject.store()
    await store.snapshots.save(5, Buffer.from('of somebody else'))
    const { state, snapshots, replayedFrames } = await recovered(store)
    expect([snapshots, replayedFrames]).toEqual([[4], 1])
    expect(state.encode().equals(whole)).toBe(true)
  })

  it('that is lost says so: the horizon is the present, producers are told, what was open is ended', async () => {
    const subject = new MemorySubject()
    const { wal } = await subject.open()
    const first = await wal.append({ vchannel: 'a', payload }, { idempotencyKey: 'k' })
    const transaction = await wal.begin('a')
    await transaction.append({ payload })
    const producer = await wal.producer('a', { id: 'p' })
    const { timeTick } = await producer.append({ payload })
    const lost = await subject.store()
    expect(await recovered(lost, 1)).toMatchObject({ isLost: true, snapshots: [], replayedFrames: 0 })
    const { wal: next, store } = await subject.open({ replayBytesMax: 1 })
    expect(next.keyHorizon('a') >= timeTick).toBe(true)
    const late = next.append({ vchannel: 'a', payload }, { idempotencyKey: 'k', firstTriedAt: first.timeTick - 1n })
    await expect(late).rejects.toMatchObject({ code: 'KEY_FORGOTTEN', outcome: 'not-written' })
    await expect(next.commitTransaction(transaction.id)).rejects.toMatchObject({ outcome: 'not-written' })
    const types: number[] = []
    for await (const frame of store.read({ from: { lsn: lost.firstLsn } }))
      for (const { type } of frame) types.push(type)
    expect(types.filter((type) => type === MessageType.rollbackTxn)).toHaveLength(1)
    const again = await next.producer('a', { id: 'p' })
    expect([producer.windowLost, again.lastSequence, again.windowLost]).toEqual([false, 0, true])
    expect(await again.append({ payload }, { sequence: 2 })).toMatchObject({ sequence: 2, duplicate: false })
    await expect(again.append({ payload }, { sequence: 4 })).rejects.toMatchObject({ code: 'SEQUENCE_GAP' })
    await next.close()
    await wal.close().catch(() => {})
  })
})
