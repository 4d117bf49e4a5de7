/** The stage by itself: what it answers, makes void, holds and lets go. */
import { beforeEach, describe, expect, it } from 'vitest'
import { KEY_PROPERTY } from '../../../src/message/property-names.ts'
import { DeduplicationStage } from '../../../src/wal/deduplication/deduplication-stage.ts'
import { KeyTable } from '../../../src/wal/deduplication/key-table.ts'
import { LiveProducers } from '../../../src/wal/deduplication/live-producers.ts'
import { ProducerTable } from '../../../src/wal/deduplication/producer-table.ts'
import { withoutVoids } from '../../../src/wal/effects-of.ts'
import type { AppendUnit, UnitResult } from '../../../src/wal/pipeline/interceptor.ts'
import type { NodeAppender } from '../../../src/wal/pipeline/node-appender.ts'
import { NO_OPTIONS, type UnitOptions, unitOfMessages, unitOfRecords } from '../../../src/wal/unit.ts'

const TICK = 1n << 40n
const tick = (lsn: number) => TICK + BigInt(lsn)
const nobody: NodeAppender = {
  appendControl: () => Promise.reject(new Error('no control record is written here')),
  appendMessages: () => Promise.reject(new Error('no message is written here')),
}

let keys: KeyTable
let stage: DeduplicationStage

beforeEach(() => {
  keys = new KeyTable()
  stage = new DeduplicationStage(new LiveProducers(new ProducerTable(), nobody), keys)
})

/** A frame of these keys, null for a record without one. */
function frame(...names: (string | null)[]): AppendUnit {
  const records = names.map((key) => ({
    vchannel: 'v',
    properties: key === null ? { mine: 'x' } : { [KEY_PROPERTY]: key },
  }))
  return unitOfRecords(records, 0n)
}

function single(key: string, options: Partial<UnitOptions> = {}): AppendUnit {
  return unitOfMessages([{ vchannel: 'v' }], 0, key, null, { ...NO_OPTIONS, ...options })
}

function passes(unit: AppendUnit): void {
  expect(stage.before(unit)).toBeUndefined()
}

/** It is durable from this LSN on: what the pipeline does then. */
function durable(unit: AppendUnit, firstLsn: number): UnitResult {
  const lastLsn = firstLsn + unit.recordCount - 1
  const range = { firstLsn, lastLsn, firstTimeTick: tick(firstLsn), lastTimeTick: tick(lastLsn) }
  for (const effect of withoutVoids(unit.effects, unit.voids)) {
    if (effect.kind === 'key') keys.apply(effect, firstLsn + effect.row, tick(firstLsn + effect.row))
  }
  const result = { range, duplicate: false, duplicates: unit.duplicates }
  stage.after(unit, result)
  stage.leave(unit)
  return result
}

function failed(unit: AppendUnit): void {
  stage.failed(unit, new Error('the log has failed'))
  stage.leave(unit)
}

const answerAt = (lsn: number) => ({
  range: { firstLsn: lsn, lastLsn: lsn, firstTimeTick: tick(lsn), lastTimeTick: tick(lsn) },
  duplicate: true,
  duplicates: [{ row: 0, lsn, timeTick: tick(lsn) }],
})

describe('a frame of records with keys', () => {
  it('has void rows for what is known, in the places of the first; the others are written and known', () => {
    const first = frame('a', 'b')
    passes(first)
    durable(first, 10)
    const mixed = frame('b', null, 'c', 'a')
    passes(mixed)
    expect(mixed.answer).toBeNull()
    expect(mixed.voids).toEqual([0, 3])
    durable(mixed, 20)
    expect(mixed.duplicates).toEqual([
      { row: 0, lsn: 11, timeTick: tick(11) },
      { row: 3, lsn: 10, timeTick: tick(10) },
    ])
    expect(keys.get('v', 'b')?.lsn).toBe(11)
    expect(keys.get('v', 'c')?.lsn).toBe(22)
    expect(stage.counts).toEqual({ repeats: 2, refused: 0 })
  })

  it('with two equal keys writes the first, and answers the second with its place', () => {
    const unit = frame(null, 'a', 'a', 'b', 'a')
    passes(unit)
    expect(unit.voids).toEqual([2, 4])
    durable(unit, 5)
    expect(unit.duplicates).toEqual([
      { row: 2, lsn: 6, timeTick: tick(6) },
      { row: 4, lsn: 6, timeTick: tick(6) },
    ])
    expect(keys.get('v', 'a')?.lsn).toBe(6)
    expect(keys.get('v', 'b')?.lsn).toBe(8)
  })

  it('for several vchannels tells equal keys of different ones apart', () => {
    const of = (vchannel: string, key: string) => ({ vchannel, properties: { [KEY_PROPERTY]: key } })
    const unit = unitOfRecords([of('v', 'a'), of('w', 'a'), of('v', 'a'), of('w', 'b'), of('w', 'a')], 0n)
    passes(unit)
    expect(unit.voids).toEqual([2, 4])
    durable(unit, 0)
    expect(unit.duplicates.map(({ row, lsn }) => [row, lsn])).toEqual([
      [2, 0],
      [4, 1],
    ])
  })

  it('of repeats alone is answered, and nothing of it is written', () => {
    const first = frame('a')
    passes(first)
    durable(first, 3)
    const repeat = frame('a')
    passes(repeat)
    expect(repeat.answer).toEqual(answerAt(3))
    expect(repeat.voids).toEqual([])
  })

  it('waits as a whole for one of its keys that is under way, and holds none meanwhile', async () => {
    const first = frame('a')
    passes(first)
    const second = frame('b', 'a')
    const waiting = stage.before(second)
    expect(waiting).toBeInstanceOf(Promise)
    // Its other key is free: whoever comes with it is not kept waiting.
    const other = single('b')
    passes(other)
    durable(first, 7)
    durable(other, 8)
    await waiting
    expect(second.answer?.duplicates.map(({ row, lsn }) => [row, lsn])).toEqual([
      [0, 8],
      [1, 7],
    ])
  })
})

describe('a repeat of a key that is under way', () => {
  it('is answered as the first one, once that is durable', async () => {
    const first = single('a')
    passes(first)
    const repeat = single('a')
    const waiting = stage.before(repeat)
    expect(waiting).toBeInstanceOf(Promise)
    durable(first, 4)
    await waiting
    expect(repeat.answer).toEqual(answerAt(4))
  })

  it('is written itself when the first one fails, and the one behind it waits for it', async () => {
    const first = single('a')
    passes(first)
    const second = single('a')
    const third = single('a')
    const waiting = [stage.before(second), stage.before(third)]
    failed(first)
    await waiting[0]
    expect(second.answer).toBeNull()
    durable(second, 9)
    await waiting[1]
    expect(third.answer).toEqual(answerAt(9))
    expect(stage.counts.repeats).toBe(1)
  })

  it('ends its wait with its signal, and leaves the first one alone', async () => {
    const first = single('a')
    passes(first)
    const controller = new AbortController()
    const waiting = stage.before(single('a', { signal: controller.signal }))
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written' })
    durable(first, 2)
    expect(keys.get('v', 'a')?.lsn).toBe(2)
  })
})

describe('a key of before the horizon', () => {
  it('is refused, and neither holds its key nor touches its neighbours', () => {
    const neighbour = single('n')
    passes(neighbour)
    keys.forgetBefore(TICK)
    const late = single('a', { firstTriedAt: TICK - 1n })
    expect(() => stage.before(late)).toThrow(expect.objectContaining({ code: 'KEY_FORGOTTEN', outcome: 'not-written' }))
    expect(stage.counts.refused).toBe(1)
    // Of now it is new.
    const again = single('a', { firstTriedAt: TICK })
    passes(again)
    durable(neighbour, 1)
    durable(again, 2)
    expect(keys.get('v', 'n')?.lsn).toBe(1)
    expect(keys.get('v', 'a')?.lsn).toBe(2)
  })
})

describe('the short way of a single record', () => {
  it('and the long one see each other: what one holds the other waits for, what one wrote the other answers', async () => {
    expect(stage.claim('v', 'a', 0n)).toBeNull()
    expect(stage.claim('v', 'a', 0n)).toBe('under way')
    expect(stage.claim('w', 'a', 0n)).toBeNull()
    const repeat = single('a')
    const waiting = stage.before(repeat)
    keys.apply({ kind: 'key', row: 0, vchannel: 'v', key: 'a' }, 6, tick(6))
    stage.released('v', 'a')
    await waiting
    expect(repeat.answer).toEqual(answerAt(6))
    expect(stage.claim('v', 'a', 0n)).toEqual({ lsn: 6, timeTick: tick(6) })
    const long = single('b')
    passes(long)
    expect(stage.claim('v', 'b', 0n)).toBe('under way')
    durable(long, 7)
    expect(stage.claim('v', 'b', 0n)).toEqual({ lsn: 7, timeTick: tick(7) })
    stage.released('w', 'a')
    expect(stage.claim('w', 'a', 0n)).toBeNull()
  })

  it('refuses a key of before the horizon, and does not hold it', () => {
    keys.forgetBefore(TICK)
    expect(() => stage.claim('v', 'a', TICK - 1n)).toThrow(expect.objectContaining({ code: 'KEY_FORGOTTEN' }))
    expect(stage.claim('v', 'a', TICK)).toBeNull()
  })
})
