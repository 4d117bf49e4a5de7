/** Sequences of one producer against a list: whatever is sent again, in whatever order frames fail. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LiveProducer } from '../../../src/wal/deduplication/live-producer.ts'
import { PRODUCER_WINDOW, ProducerTable } from '../../../src/wal/deduplication/producer-table.ts'
import { budget } from '../../budget.ts'

const epoch = { kind: 'epoch', row: 0, vchannel: 'v', name: 'p', producer: null, epoch: 1 } as const

function aProducer() {
  const table = new ProducerTable()
  table.applyEpoch(epoch, 5, 1n)
  const live = new LiveProducer(table.byNumber(5)!)
  let lsn = 100
  /** What the pipeline does with a frame that was let in. */
  const write = (first: number, count: number) => {
    const range = {
      firstLsn: lsn,
      lastLsn: lsn + count - 1,
      firstTimeTick: BigInt(lsn),
      lastTimeTick: BigInt(lsn + count - 1),
    }
    lsn += count
    const effect = {
      kind: 'sequence',
      row: 0,
      vchannel: 'v',
      producer: 5,
      epoch: 1,
      firstSequence: first,
      count,
    } as const
    table.applySequence(effect, range.firstLsn, range.firstTimeTick)
    live.settled(first, { range, duplicate: true, duplicates: [] })
    return range
  }
  return { table, live, write }
}

describe('a producer', () => {
  it('is let in with what follows, and answered for what it repeats', () => {
    const { live, write } = aProducer()
    expect(live.ask(1, 3).kind).toBe('reserved')
    expect(live.place(1, 3)).toBeNull()
    const range = write(1, 3)
    expect(live.ask(1, 3)).toEqual({ kind: 'repeat', result: { range, duplicate: true, duplicates: [] } })
    expect(live.ask(2, 1)).toMatchObject({ kind: 'repeat', result: { range: { firstLsn: 101, lastLsn: 101 } } })
    expect(() => live.ask(3, 2)).toThrow(expect.objectContaining({ code: 'SEQUENCE_STRADDLED' }))
    expect(() => live.ask(5, 1)).toThrow(
      expect.objectContaining({ code: 'SEQUENCE_GAP', message: expect.stringContaining('where 4 ') }),
    )
    expect(live.ask(4, 1).kind).toBe('reserved')
  })

  it('that repeats what is older than its window is told so, and nothing is written twice', () => {
    const { live, write } = aProducer()
    for (let first = 1; first <= PRODUCER_WINDOW + 2; first++) {
      expect(live.ask(first, 1).kind).toBe('reserved')
      expect(live.place(first, 1)).toBeNull()
      write(first, 1)
    }
    expect(() => live.ask(2, 1)).toThrow(expect.objectContaining({ code: 'SEQUENCE_FORGOTTEN' }))
    expect(live.ask(3, 1).kind).toBe('repeat')
  })

  it('has no gap in the log, whichever frames are refused at the last moment', () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.boolean()), { maxLength: 40 })
    fc.assert(
      fc.property(steps, (plan) => {
        const { table, live, write } = aProducer()
        const queue: { first: number; count: number; refused: boolean }[] = []
        let next = 1
        const drain = () => {
          const failed: number[] = []
          for (const { first, count, refused } of queue.splice(0)) {
            // A frame that the log refuses for its own reasons is not asked.
            const refusal = refused ? new Error() : live.place(first, count)
            if (refusal === null) write(first, count)
            else failed.push(first)
          }
          // The refusals are told later, in any order: here the last one first.
          for (const first of failed.reverse()) live.failed(first, false)
          next = table.byNumber(5)!.lastSequence + 1
        }
        for (const [count, refused, drains] of plan) {
          expect(live.ask(next, count).kind).toBe('reserved')
          queue.push({ first: next, count, refused })
          next += count
          if (drains) drain()
        }
        drain()
        let expected = 1
        for (const { firstSequence, count } of table.byNumber(5)!.window) {
          expect(firstSequence).toBe(expected)
          expected += count
        }
        expect(live.ask(next, 1).kind).toBe('reserved')
      }),
      { numRuns: budget({ small: 200, ci: 2_000 }) },
    )
  })

  it('of an epoch that has a newer one in the log places nothing any more', () => {
    const { live } = aProducer()
    expect(live.ask(1, 1).kind).toBe('reserved')
    live.fence()
    expect(live.place(1, 1)).toMatchObject({ code: 'PRODUCER_FENCED', outcome: 'not-written' })
  })

  it('whose state was lost is believed once, and followed from there', () => {
    const table = new ProducerTable(50)
    table.applyEpoch(epoch, 60, 1n)
    const live = new LiveProducer(table.byNumber(60)!)
    expect(live.ask(17, 2).kind).toBe('reserved')
    expect(live.place(17, 2)).toBeNull()
    expect(() => live.ask(25, 1)).toThrow(expect.objectContaining({ code: 'SEQUENCE_GAP' }))
    expect(live.ask(19, 1).kind).toBe('reserved')
  })
})
