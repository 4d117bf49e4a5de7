import { describe, expect, it } from 'vitest'
import { AppendEntry, type EntryInput, SubmitOrder } from '../../src/client/append-entry.ts'
import { LaneQueue } from '../../src/client/lane-queue.ts'

const BODY_BYTES_MAX = 1_000

function entry(more: Partial<EntryInput> = {}): AppendEntry {
  const fixed = {
    vchannel: 'a',
    records: { vchannel: 'a' },
    bytes: 10,
    deadlineMs: 100,
    barrierTick: 0n,
    signal: undefined,
  }
  return new AppendEntry({ ...fixed, order: null, onSettled: () => {}, ...more })
}

function queueOf(...entries: AppendEntry[]): LaneQueue {
  const queue = new LaneQueue()
  for (const each of entries) queue.push(each)
  return queue
}

const codeOf = (each: AppendEntry) => each.promise.then(String, ({ code }) => code)

describe('what waits in a lane', () => {
  it('is gathered in order, up to half a body', () => {
    const entries = Array.from({ length: 12 }, () => entry({ bytes: 100 }))
    const queue = queueOf(...entries)
    expect(queue.gather(1, BODY_BYTES_MAX)).toEqual(entries.slice(0, 5))
    expect(queue.gather(6, BODY_BYTES_MAX)).toEqual(entries.slice(5, 10))
    expect(queue.gather(11, BODY_BYTES_MAX)).toEqual(entries.slice(10))
    expect(queue.isEmpty).toBe(true)
    expect(queue.gather(13, BODY_BYTES_MAX)).toEqual([])
  })

  it('goes even when it is larger than that', () => {
    const large = entry({ bytes: 5_000 })
    const queue = queueOf(large, entry())
    expect(queue.gather(1, BODY_BYTES_MAX)).toEqual([large])
  })

  const alone: [string, Partial<EntryInput>][] = [
    ['a batch', { records: [{ vchannel: 'a' }, { vchannel: 'a' }] }],
    ['one with a barrier', { barrierTick: 1n }],
    ['one that has to', { alone: true }],
    ['one whose number was given before', { sequence: 3 }],
  ]
  it.each(alone)('%s goes alone', (_what, more) => {
    const [before, it, behind] = [entry(), entry(more), entry()]
    const queue = queueOf(before!, it!, behind!)
    expect(queue.gather(5, BODY_BYTES_MAX)).toEqual([before])
    expect(queue.gather(6, BODY_BYTES_MAX)).toEqual([it])
    expect(queue.gather(7, BODY_BYTES_MAX)).toEqual([behind])
  })

  it('fails where its number leaves a gap; what stands behind it goes', async () => {
    const [ahead, next] = [entry({ sequence: 9 }), entry({ sequence: 7 })]
    expect(queueOf(ahead!, next!).gather(7, BODY_BYTES_MAX)).toEqual([next])
    expect(await codeOf(ahead!)).toBe('SEQUENCE_GAP')
  })

  it('does not go when one that was submitted before it has failed', async () => {
    const order = new SubmitOrder()
    const [first, second, other] = [entry({ order }), entry({ order }), entry()]
    first!.failBehind()
    expect(queueOf(second!, other!).gather(1, BODY_BYTES_MAX)).toEqual([other])
    expect(await codeOf(second!)).toBe('FAILED_BEFORE')
  })

  it('goes again before all others when it is put back, and keeps what waits through a trim', () => {
    const entries = Array.from({ length: 9_000 }, () => entry({ bytes: 0 }))
    const queue = queueOf(...entries)
    const taken = queue.gather(1, BODY_BYTES_MAX)
    expect(taken).toHaveLength(8_192)
    queue.trim()
    queue.putBack(taken.slice(8_000))
    expect(queue.drain()).toEqual(entries.slice(8_000))
    expect(queue.isEmpty).toBe(true)
  })

  it('is late by its own deadline, as long as it waits and is not settled', () => {
    const [taken, settled, late, early] = [entry(), entry(), entry(), entry({ deadlineMs: 101 })]
    const queue = queueOf(taken!)
    queue.gather(1, BODY_BYTES_MAX)
    for (const each of [settled!, late!, early!]) queue.push(each)
    settled!.succeed(0, 0n)
    expect(queue.late(100)).toEqual([late])
    expect(queue.late(99)).toEqual([])
  })
})
