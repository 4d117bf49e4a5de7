import { describe, expect, test } from 'vitest'
import { LowestTick } from '../../src/cli/lowest-tick.ts'
import { parseTypes } from '../../src/cli/message-types.ts'

describe('--types', () => {
  test('takes numbers and names', () => {
    expect(parseTypes('2, 3,ManualFlush,insert,40000')).toEqual([2, 3, 9, 40_000])
    expect(parseTypes('0')).toEqual([0])
  })

  test.each([
    ['Inser', 'did you mean "Insert"?'],
    ['65536', '"65536" is no type'],
    ['2,,3', '"" is no type'],
    ['xyzzyxyzzy', 'a number from 0 to 65535'],
  ])('refuses %s, with what is near', (text, why) => {
    expect(() => parseTypes(text)).toThrow(why)
  })
})

describe('the lowest tick of several streams', () => {
  test('is told when it rises, and not before each has said one', () => {
    const told: bigint[] = []
    const lowest = new LowestTick((tick) => told.push(tick))
    const [a, b] = [lowest.add(), lowest.add()]
    a.raise(5n)
    expect(told).toEqual([])
    b.raise(3n)
    b.raise(4n)
    a.raise(9n)
    b.raise(7n)
    expect(told).toEqual([3n, 4n, 7n])
  })
})
