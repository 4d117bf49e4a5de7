import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import type { Effect } from '../../../src/wal/effect.ts'
import { WalState } from '../../../src/wal/state/wal-state.ts'
import { budget } from '../../budget.ts'
import { readDocumentedState } from './documented-state.ts'

const vchannel = fc.constantFrom('a', 'b')
const number = fc.integer({ min: 0, max: 30 })
const effect: fc.Arbitrary<Effect> = fc.oneof(
  fc.record({ kind: fc.constant('begin' as const), row: fc.constant(0), vchannel, keepaliveMs: number }),
  fc.record({
    kind: fc.constant('body' as const),
    row: fc.constant(0),
    vchannel,
    count: fc.constant(1),
    transaction: number,
    bytes: number,
  }),
  fc.record({
    kind: fc.constant('commit' as const),
    row: fc.constant(0),
    vchannel,
    transaction: number,
    bodies: number,
    hash: fc.constant(1n),
  }),
  fc.record({
    kind: fc.constant('rollback' as const),
    row: fc.constant(0),
    vchannel,
    transaction: fc.option(number),
    expired: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('exclusive' as const), row: fc.constant(0), vchannel, type: fc.constant(5) }),
  fc.record({
    kind: fc.constant('epoch' as const),
    row: fc.constant(0),
    vchannel,
    name: fc.constantFrom('p', 'q'),
    producer: fc.constant(null),
    epoch: number,
  }),
  fc.record({
    kind: fc.constant('sequence' as const),
    row: fc.constant(0),
    vchannel,
    count: fc.constant(1),
    producer: number,
    epoch: number,
    firstSequence: number,
  }),
  fc.record({ kind: fc.constant('key' as const), row: fc.constant(0), vchannel, key: fc.constantFrom('k', 'l', 'm') }),
)

beforeAll(async () => {
  await loadChecksum()
})

function apply(state: WalState, effects: readonly Effect[], from: number): void {
  for (const [index, each] of effects.entries()) state.apply([each], from + index, (BigInt(from + index) + 5n) << 40n)
}

describe('the state of a WAL', () => {
  it('goes on from a snapshot of any age as if it had never been away', () => {
    fc.assert(
      fc.property(fc.array(effect, { maxLength: 60 }), fc.nat(60), (effects, at) => {
        const cut = Math.min(at, effects.length)
        const whole = WalState.empty()
        apply(whole, effects, 0)
        const first = WalState.empty()
        apply(first, effects.slice(0, cut), 0)
        const second = WalState.decode(first.encode())
        expect(second.encode().equals(first.encode())).toBe(true)
        apply(second, effects.slice(cut), cut)
        expect(second.encode().equals(whole.encode())).toBe(true)
        expect(readDocumentedState(whole.encode()).producers).toHaveLength(whole.producers.size)
      }),
      { numRuns: budget({ small: 150, ci: 2_000 }) },
    )
  })

  it('that nobody encoded is refused, and nothing else happens', () => {
    const state = WalState.empty()
    apply(state, fc.sample(effect, { seed: 7, numRuns: 60 }), 0)
    const whole = state.encode()
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length)).map(([at, byte, end]) => {
      const bytes = Buffer.from(whole)
      bytes[at] = byte
      return bytes.subarray(0, end)
    })
    fc.assert(
      fc.property(mutated, (bytes) => {
        try {
          WalState.decode(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
        }
      }),
      { numRuns: budget({ small: 1_000, ci: 20_000, soak: 1_000_000 }) },
    )
    expect(() => WalState.decode(Buffer.alloc(0))).toThrow()
  })
})
