import { describe, expect, test } from 'vitest'
import { intersect, parseLsnRange, parseTickRange, parseTimeRange } from '../../src/cli/ranges.ts'

const tickMax = 2n ** 64n - 1n

describe('ranges of dump', () => {
  test('both ends belong to it, either may be left out, one value is a range', () => {
    expect(parseLsnRange('10..20')).toEqual({ from: 10, to: 20 })
    expect(parseLsnRange('10..')).toEqual({ from: 10, to: Number.MAX_SAFE_INTEGER })
    expect(parseLsnRange('..20')).toEqual({ from: 0, to: 20 })
    expect(parseLsnRange('7')).toEqual({ from: 7, to: 7 })
    expect(parseTickRange('10..')).toEqual({ from: 10n, to: tickMax })
  })

  test('a time is all ticks of its millisecond', () => {
    expect(parseTimeRange('2026-01-31T12:00:00Z')).toEqual({
      from: 1769860800000n << 18n,
      to: (1769860800001n << 18n) - 1n,
    })
    expect(parseTimeRange('..2026-01-31')).toEqual({ from: 0n, to: (1769817600001n << 18n) - 1n })
  })

  test.each(['', '..', 'a', '1..b', '20..10', '-1..2', '1.5', '1...3'])('%j is refused as wrong usage', (text) => {
    for (const parse of [parseLsnRange, parseTickRange, parseTimeRange]) {
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'USAGE' }))
    }
  })

  test('two ranges meet where both are', () => {
    expect(intersect(undefined, undefined)).toBe(undefined)
    expect(intersect({ from: 1n, to: 5n }, undefined)).toEqual({ from: 1n, to: 5n })
    expect(intersect({ from: 1n, to: 5n }, { from: 3n, to: 9n })).toEqual({ from: 3n, to: 5n })
    expect(intersect({ from: 1n, to: 2n }, { from: 3n, to: 9n })).toBe(null)
  })
})
