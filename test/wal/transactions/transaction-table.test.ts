import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import type { Effect } from '../../../src/wal/effect.ts'
import { foldLsn } from '../../../src/wal/transactions/transaction-hash.ts'
import { TransactionTable } from '../../../src/wal/transactions/transaction-table.ts'
import { TruncationSpans } from '../../../src/wal/transactions/truncation-spans.ts'

const begin = (vchannel: string): Effect => ({ kind: 'begin', row: 0, vchannel, keepaliveMs: 1_000 })
const body = (vchannel: string, transaction: number, count = 1): Effect => ({
  kind: 'body',
  row: 0,
  vchannel,
  transaction,
  count,
  bytes: 10 * count,
})
const commit = (vchannel: string, transaction: number): Effect => ({
  kind: 'commit',
  row: 0,
  vchannel,
  transaction,
  bodies: 0,
  hash: 0n,
})
const rollback = (vchannel: string, transaction: number | null): Effect => ({
  kind: 'rollback',
  row: 0,
  vchannel,
  transaction,
  expired: false,
})
const drop = (vchannel: string): Effect => ({
  kind: 'exclusive',
  row: 0,
  vchannel,
  type: MessageType.dropCollection,
})

describe('TransactionTable', () => {
  test('what a commit has to say: number and hash of the records, in the order of their LSNs', async () => {
    await loadChecksum()
    const table = new TransactionTable()
    table.apply(begin('a'), 7, 70n)
    table.apply(body('a', 7, 2), 9, 90n)
    table.apply(body('b', 7), 11, 110n)
    table.apply(body('a', 8), 12, 120n)
    table.apply(body('a', 7), 13, 130n)
    const hash = foldLsn(foldLsn(foldLsn(7n, 9), 10), 13)
    expect(table.open(7)).toEqual({ transaction: 7, vchannel: 'a', keepaliveMs: 1_000, bodies: 3, bytes: 30, hash })
  })

  test('ends: the first one counts, exclusive messages and rollbacks of all end what is open there', () => {
    const table = new TransactionTable()
    for (const [lsn, vchannel] of ['a', 'a', 'b', 'b'].entries()) table.apply(begin(vchannel), lsn, BigInt(lsn))
    table.apply(commit('a', 0), 10, 100n)
    table.apply(rollback('a', 0), 11, 110n)
    table.apply(commit('a', 99), 12, 120n)
    table.apply(drop('a'), 13, 130n)
    table.apply(rollback('b', 2), 14, 140n)
    table.apply(rollback('', null), 15, 150n)
    expect([0, 1, 2, 3, 99].map((id) => table.ended(id))).toEqual([
      { outcome: 'committed', lsn: 10, timeTick: 100n },
      { outcome: 'exclusive', lsn: 13, timeTick: 130n },
      { outcome: 'rolled-back', lsn: 14, timeTick: 140n },
      { outcome: 'rolled-back', lsn: 15, timeTick: 150n },
      undefined,
    ])
    expect(table.openCount).toBe(0)
  })

  test('answers are known of the last 65,536', () => {
    const table = new TransactionTable()
    const count = 65_536 + 10
    for (let lsn = 0; lsn < count; lsn++) {
      table.apply(begin('a'), 2 * lsn, 0n)
      table.apply(rollback('a', 2 * lsn), 2 * lsn + 1, 0n)
    }
    expect(table.ended(18)).toBeUndefined()
    expect(table.ended(20)).toBeDefined()
    expect((table.encode()[1] as unknown[]).length).toBe(65_536)
  })

  test('truncation keeps what is open, and what was committed behind the place, from its begin on', () => {
    const table = new TransactionTable()
    table.apply(begin('a'), 10, 0n)
    table.apply(begin('a'), 20, 0n)
    table.apply(begin('a'), 30, 0n)
    table.apply(commit('a', 10), 40, 0n)
    expect([15, 35, 40, 41].map((lsn) => table.truncationFloor(lsn))).toEqual([10, 10, 10, 20])
    table.apply(rollback('a', 20), 50, 0n)
    expect([25, 41, 60].map((lsn) => table.truncationFloor(lsn))).toEqual([10, 30, 30])
    table.apply(commit('a', 30), 60, 0n)
    expect([41, 60, 61].map((lsn) => table.truncationFloor(lsn))).toEqual([30, 30, 61])
    table.truncated(41)
    expect(table.truncationFloor(40)).toBe(30)
  })

  const effects = fc.array(
    fc.tuple(
      fc.constantFrom('begin', 'body', 'commit', 'rollback', 'drop', 'all'),
      fc.nat(30),
      fc.constantFrom('a', 'b'),
    ),
    { maxLength: 40 },
  )

  test('a state that was encoded and decoded is the same, and goes on the same', () => {
    fc.assert(
      fc.property(effects, fc.nat(40), (commands, cut) => {
        const apply = (
          table: TransactionTable,
          [kind, id, vchannel]: readonly [string, number, string],
          lsn: number,
        ) => {
          const made: Record<string, Effect> = {
            begin: begin(vchannel),
            body: body(vchannel, id),
            commit: commit(vchannel, id),
            rollback: rollback(vchannel, id),
            drop: drop(vchannel),
            all: rollback('', null),
          }
          table.apply(made[kind]!, lsn, BigInt(lsn))
        }
        const whole = new TransactionTable()
        let other = new TransactionTable()
        for (const [lsn, command] of commands.entries()) {
          if (lsn === cut) other = TransactionTable.decode(structuredClone(other.encode()))
          apply(whole, command, lsn)
          apply(other, command, lsn)
        }
        expect(other.encode()).toEqual(whole.encode())
      }),
      { numRuns: 100 },
    )
  })

  test('what no table has given is refused', () => {
    const open = [3, 'a', 1_000, 2, 20, 5n]
    const ended = [4, 0, 9, 90n]
    const right = [[open], [ended], [9, 4]]
    expect(TransactionTable.decode(right).encode()).toEqual(right)
    expect(TransactionTable.decode([[[3n, 'a', 1_000n, 2, 20, 5]], [], []]).openCount).toBe(1)
    const wrong: unknown[] = [
      null,
      {},
      [[], []],
      [[], [], [], []],
      [[null], [], []],
      [[open, open], [], []],
      [[[3, 4, 1_000, 2, 20, 5n]], [], []],
      [[[3, 'a'.repeat(256), 1_000, 2, 20, 5n]], [], []],
      [[[-1, 'a', 1_000, 2, 20, 5n]], [], []],
      [[[2n ** 60n, 'a', 1_000, 2, 20, 5n]], [], []],
      [[[3, 'a', 1_000, 2, 20, 2n ** 64n]], [], []],
      [[[3, 'a', 1_000, 2.5, 20, 5n]], [], []],
      [[], [[4, 4, 9, 90n]], []],
      [[], [[4, 0, 9, -1n]], []],
      [[], [ended, ended], []],
      [[open], [[3, 0, 9, 90n]], []],
      [[], new Array(65_537).fill(ended), []],
      [[], [], [9]],
      [[], [], [9, 9]],
      [[], [], [9, 4, 9, 5]],
      [[], [], [9, 4, 10, 4]],
      [[], [], ['9', 4]],
      [[], [], new Array(2 * 4_096 + 2).fill(0)],
    ]
    for (const value of wrong) expect(() => TransactionTable.decode(value)).toThrow(Error)
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(() => TransactionTable.decode([[value], [value], [value]])).toThrow(Error)
      }),
      { numRuns: 100 },
    )
  })
})

describe('TruncationSpans', () => {
  const pairs = fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200 })), { maxLength: 60 })

  /** Commits ascend; each begin lies anywhere before. */
  function spansOf(steps: readonly (readonly [number, number])[]): [number, number][] {
    let commit = 0
    return steps.map(([gap, reach]) => {
      commit += gap
      return [commit, Math.max(0, commit - reach)]
    })
  }

  const trueFloor = (all: readonly [number, number][], lsn: number) =>
    Math.min(lsn, ...all.filter(([commit]) => commit >= lsn).map(([, begin]) => begin))

  test('the floor is the least begin of those that were committed at or above the place', () => {
    fc.assert(
      fc.property(pairs, fc.nat(1_300), fc.nat(1_300), (steps, lsn, below) => {
        const all = spansOf(steps)
        const spans = new TruncationSpans()
        for (const [commit, begin] of all) spans.add(commit, begin)
        expect(spans.floor(lsn)).toBe(trueFloor(all, lsn))
        spans.dropBelow(Math.min(lsn, below))
        expect(TruncationSpans.decode(spans.encode()).floor(lsn)).toBe(trueFloor(all, lsn))
      }),
      { numRuns: 200 },
    )
  })

  test('with few steps it keeps too much rather than too little, and no more than its bound', () => {
    fc.assert(
      fc.property(pairs, fc.integer({ min: 2, max: 6 }), fc.nat(1_300), (steps, bound, lsn) => {
        const all = spansOf(steps)
        const spans = new TruncationSpans(bound)
        for (const [commit, begin] of all) {
          spans.add(commit, begin)
          expect(spans.size).toBeLessThanOrEqual(bound)
        }
        expect(spans.floor(lsn)).toBeLessThanOrEqual(trueFloor(all, lsn))
        // Behind the last commit nothing is kept, and the newest is never merged with what comes.
        const last = all.at(-1)?.[0] ?? 0
        expect(spans.floor(last + 1)).toBe(last + 1)
        TruncationSpans.decode(spans.encode(), bound)
      }),
      { numRuns: 200 },
    )
  })
})
