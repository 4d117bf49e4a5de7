import { beforeEach, describe, expect, test } from 'vitest'
import { lanes, vchannels } from '../../bench/kill-loop/lanes.mjs'
import { LedgerBook, Order } from '../../bench/kill-loop/ledger-book.mjs'
import { RecordGenerator } from '../../bench/kill-loop/record-generator.mjs'
import type { ConsumedRecord } from '../../src/client/types.ts'

const generator = new RecordGenerator(7)
const groups = new Map(vchannels.map((vchannel) => [vchannel, 0]))
const single = lanes.findIndex(({ kind }) => kind === 'single')
const pipelined = lanes.findIndex(({ kind }) => kind === 'pipelined')
const batch = lanes.findIndex(({ kind }) => kind === 'batch')

let book: LedgerBook

beforeEach(() => {
  book = new LedgerBook(generator, groups)
})

/** The record as a reader is given it; its tick follows from its LSN. */
function record(lane: number, seq: number, lsn: number, changes: Partial<ConsumedRecord> = {}): ConsumedRecord {
  const { type, properties, payload } = generator.record(lane, seq)
  return {
    vchannel: lanes[lane]!.vchannel,
    lsn,
    timeTick: tickOf(lsn),
    type,
    properties,
    payload: payload ?? new Uint8Array(),
    isNull: payload === null,
    header: undefined,
    transaction: null,
    position: { lsn: lsn + 1 },
    ...changes,
  }
}

function tickOf(lsn: number): bigint {
  return 1_000n + BigInt(lsn)
}

/** Acknowledges records from LSN 0 on, one after the other. */
function acknowledge(lane: number, count: number): void {
  book.acknowledged(lane, 0, count, 0, tickOf(0))
}

function look(records: readonly ConsumedRecord[], watermark = 0n): string[] {
  const current = book.beginLook()
  for (const one of records) current.read(one, watermark)
  current.end()
  return book.problems
}

test('a record is the same whenever it is generated, and differs by lane, number and seed', () => {
  const other = new RecordGenerator(7).record(single, 3)
  expect(other).toEqual(generator.record(single, 3))
  for (const different of [
    generator.record(single + 1, 3),
    generator.record(single, 4),
    new RecordGenerator(8).record(single, 3),
  ]) {
    expect(different).not.toEqual(other)
  }
})

describe('the ledger has nothing to say', () => {
  test('when every acknowledged record is there', () => {
    acknowledge(single, 3)
    expect(look([0, 1, 2].map((seq) => record(single, seq, seq)))).toEqual([])
  })

  test('of unknown records that are there or not, and of those that come after the look began', () => {
    book.failed(single, 0, 1, true)
    book.failed(single, 1, 1, true)
    const current = book.beginLook()
    current.read(record(single, 1, 0), 0n)
    book.acknowledged(single, 2, 1, 1, tickOf(1))
    current.end()
    expect(book.problems).toEqual([])
  })

  test('of acknowledged records that were truncated away', () => {
    acknowledge(single, 3)
    book.truncating(lanes[single]!.vchannel, 2)
    expect(look([record(single, 2, 2)])).toEqual([])
  })
})

describe('the ledger tells of', () => {
  test('an acknowledged record that is gone', () => {
    acknowledge(single, 3)
    expect(look([record(single, 0, 0), record(single, 2, 2)])).toEqual([
      'LOST: single-0 number 1, acknowledged with LSN 1',
    ])
  })

  test('a record that a reader was given, whose outcome is unknown, and that is gone later', () => {
    book.failed(single, 0, 1, true)
    expect(look([record(single, 0, 0)])).toEqual([])
    expect(look([])).toEqual(['LOST: single-0 number 0, given to a reader with LSN 0'])
  })

  test('a flipped bit, another type, other properties, and a payload that became null', () => {
    const seq = Array.from({ length: 100 }, (_, index) => index).find(
      (index) => generator.record(single, index).payload?.length,
    )!
    const sound = record(single, seq, 0)
    const payload = Uint8Array.from(sound.payload)
    payload[0]! ^= 1
    for (const change of [
      { payload },
      { type: sound.type ^ 1 },
      { properties: { ...sound.properties, more: '' } },
      { isNull: true, payload: new Uint8Array() },
    ]) {
      book = new LedgerBook(generator, groups)
      const problems = look([{ ...sound, ...change }])
      expect(problems).toHaveLength(1)
      expect(problems[0]).toMatch(/^CHANGED: single-0/)
    }
  })

  test('a record under another LSN or tick than it was acknowledged with', () => {
    acknowledge(single, 1)
    expect(look([record(single, 0, 1)])[0]).toMatch(/^MOVED: single-0 number 0 from LSN 0/)
    book = new LedgerBook(generator, groups)
    acknowledge(single, 1)
    expect(look([record(single, 0, 0, { timeTick: 5n })])[0]).toMatch(/^MOVED/)
  })

  test('a record that was answered "not written" and is there, whichever is heard first', () => {
    book.failed(single, 0, 1, false)
    expect(look([record(single, 0, 0)])).toHaveLength(1)
    book = new LedgerBook(generator, groups)
    look([record(single, 0, 0)])
    book.failed(single, 0, 1, false)
    expect(book.problems).toHaveLength(1)
  })

  test('a record that is there twice', () => {
    acknowledge(single, 1)
    const problems = look([record(single, 0, 0), record(single, 0, 1)])
    expect(problems.some((problem) => problem.includes('is in the log twice'))).toBe(true)
  })

  test('an LSN or a tick that does not ascend, and a pipelined record out of order', () => {
    expect(look([record(single, 0, 1), record(single, 1, 1)])[0]).toContain('its LSN is not above 1')
    book = new LedgerBook(generator, groups)
    const sameTick = record(single, 1, 2, { timeTick: tickOf(1) })
    expect(look([record(single, 0, 1), sameTick])[0]).toContain('its tick is not above')
    book = new LedgerBook(generator, groups)
    expect(look([record(pipelined, 1, 0), record(pipelined, 0, 1)])[0]).toContain('it comes behind number 1')
  })

  test('a part of a batch', () => {
    book.failed(batch, 0, 3, true)
    expect(look([record(batch, 0, 0), record(batch, 1, 1)])).toEqual([
      '2 of the 3 records of a batch from batch-0 number 0',
    ])
  })

  test('a record that nobody produced', () => {
    expect(look([record(single, 0, 0, { vchannel: 'strange' })])).toEqual([
      'a record that nobody produced: strange, LSN 0',
    ])
  })

  test('a watermark that passed a record which the tail had not been given', () => {
    acknowledge(single, 2)
    const order = new Order()
    book.tailed(order, record(single, 0, 0))
    const all = [record(single, 0, 0), record(single, 1, 1)]
    expect(look(all, tickOf(0))).toEqual([])
    expect(look(all, tickOf(1))[0]).toContain('was not given to the tail before its watermark')
  })

  test('a record that the tail is given twice, or never', () => {
    acknowledge(single, 2)
    const order = new Order()
    book.tailed(order, record(single, 0, 0))
    book.tailed(new Order(), record(single, 0, 0))
    expect(book.problems).toEqual(['single-0 number 0 was given to the tail twice'])
    book.checkTail()
    expect(book.problems[1]).toBe('single-0 number 1, LSN 1, was never given to the tail')
  })
})
