import { expect, test } from 'vitest'
import { MemoryLogs } from '../../src/log-store/memory.ts'
import { logStoreConformance } from '../conformance/log-store.ts'
import { numberedBody } from './encode-body.ts'
import { HeldFlushes } from './held-flushes.ts'

logStoreConformance('memory', async () => {
  const flushes = new HeldFlushes()
  const logs = new MemoryLogs({ commit: flushes.commit })
  return {
    opener: () => logs.opener(),
    holdFlushes: () => flushes.hold(),
    failNextFlush: () => flushes.failNext(),
    dispose: async () => {},
  }
})

test('a full queue makes an append wait, in order, and refuses it at the deadline', async () => {
  const flushes = new HeldFlushes()
  const deadlines: (() => void)[] = []
  const clock = {
    nowMs: () => Date.now(),
    after(_delayMs: number, callback: () => void) {
      deadlines.push(callback)
      return { cancel: () => void deadlines.splice(deadlines.indexOf(callback), 1) }
    },
  }
  const body = await numberedBody('a', 'x', 1)
  const logs = new MemoryLogs({ commit: flushes.commit, queueBytes: body.bytes.length * 2, clock })
  const store = await logs.opener().open('0', 1)
  const release = flushes.hold()
  const first = [store.append(body), store.append(body)]
  const refused = store.append(body)
  const patient = store.append(body)
  const controller = new AbortController()
  const withdrawn = store.append(body, { signal: controller.signal })
  expect(deadlines.length).toBe(3)
  deadlines[0]!()
  controller.abort()
  await expect(refused).rejects.toMatchObject({ code: 'QUEUE_FULL', retriable: true, outcome: 'not-written' })
  await expect(withdrawn).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written' })
  release()
  expect((await Promise.all([...first, patient])).map((range) => range.firstLsn)).toEqual([0, 1, 2])
  expect(deadlines.length).toBe(0)
  await store.close()
})

test('a body larger than the queue is let in alone', async () => {
  const logs = new MemoryLogs({ queueBytes: 8 })
  const store = await logs.opener().open('0', 1)
  const body = await numberedBody('a', 'x', 10)
  expect((await Promise.all([store.append(body), store.append(body)])).map((range) => range.lastLsn)).toEqual([9, 19])
  await store.close()
})

test('close refuses those who wait for room', async () => {
  const flushes = new HeldFlushes()
  const body = await numberedBody('a', 'x', 1)
  const logs = new MemoryLogs({ commit: flushes.commit, queueBytes: body.bytes.length })
  const store = await logs.opener().open('0', 1)
  const release = flushes.hold()
  const accepted = store.append(body)
  const waiting = store.append(body)
  const closing = store.close()
  await expect(waiting).rejects.toMatchObject({ code: 'CLOSED', outcome: 'not-written' })
  release()
  expect((await accepted).firstLsn).toBe(0)
  await closing
})
