import { describe, expect, it } from 'vitest'
import type { DurableEnd, SegmentEntry } from '../../../native-free-storage/log/log-view.ts'
import { ReadEnd } from '../../../native-free-storage/log/read-end.ts'
import type { RecordFrame } from '../../../native-free-storage/log/record-frame.ts'

const segment = (id: string, baseLsn: number): SegmentEntry => ({
  ...{ id, baseLsn, name: `${id}.seg`, end: undefined, building: undefined },
})
const first = segment('first', 0)
/** In which the end is; `instead` has taken its place since. */
const last = segment('last', 10)
const instead = segment('instead', 10)
const behind = segment('behind', 20)
/** The next LSN is 20. */
const end: DurableEnd = { segment: last, position: 8_192, nextLsn: 20, lastTimeTick: 9n }

describe('the end of a read that does not follow', () => {
  const cases: [string, SegmentEntry, number, number, { records: boolean; ticks: boolean }][] = [
    ['before it, in another segment', first, 9_999, 9, { records: false, ticks: false }],
    ['before it, in its segment', last, 4_096, 19, { records: false, ticks: false }],
    ['at its LSN, in front of stored ticks', last, 6_144, 20, { records: false, ticks: false }],
    ['at it', last, 8_192, 20, { records: true, ticks: true }],
    ['at its LSN, in a file that took the place of its own', instead, 4_096, 20, { records: true, ticks: false }],
    ['at its LSN, in the segment behind', behind, 4_096, 20, { records: true, ticks: true }],
    ['behind it', behind, 6_144, 21, { records: true, ticks: true }],
  ]
  it.each(cases)('is or is not reached %s', (_where, at, position, lsn, reached) => {
    const place = { segment: at, position, lsn, chain: undefined }
    const isReached = (ticks: boolean) => new ReadEnd(end, { follow: false, ticks }).isReached(place)
    expect({ records: isReached(false), ticks: isReached(true) }).toEqual(reached)
    expect(new ReadEnd(end, { follow: true, ticks: true }).isReached(place)).toBe(false)
    expect(new ReadEnd(null, { follow: false, ticks: true }).isReached(place)).toBe(true)
  })

  it('excludes what came later; a tick has the LSN of the record behind it', () => {
    const read = new ReadEnd(end, { follow: false, ticks: true })
    const excluded = (kind: 'records' | 'tick' | 'gap') =>
      [19, 20, 21].filter((baseLsn) => read.excludes({ kind, baseLsn } as RecordFrame))
    expect(excluded('records')).toEqual([20, 21])
    expect(excluded('gap')).toEqual([20, 21])
    expect(excluded('tick')).toEqual([21])
    const follower = new ReadEnd(end, { follow: true, ticks: true })
    expect(follower.excludes({ kind: 'records', baseLsn: 99 } as RecordFrame)).toBe(false)
  })

  it('bounds the file in which it lies, and is empty where nothing was durable', () => {
    const read = new ReadEnd(end, { follow: false, ticks: false })
    expect([read.within(last), read.within(behind), read.isEmpty]).toEqual([end, null, false])
    expect(new ReadEnd(end, { follow: true, ticks: false }).within(last)).toBe(null)
    expect(new ReadEnd(null, { follow: false, ticks: false }).isEmpty).toBe(true)
    expect(new ReadEnd(null, { follow: true, ticks: false }).isEmpty).toBe(false)
  })
})
