import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareMessagePlaces, type MessagePlace, messageIdOf, parseMessageId } from '../../src/message/message-id.ts'

const lsn = fc.oneof(fc.nat(), fc.maxSafeNat())
const place: fc.Arbitrary<MessagePlace> = fc
  .tuple(lsn, lsn, fc.boolean())
  .map(([a, b, isAlone]) =>
    isAlone || a === b ? { lsn: a, commitLsn: null } : { lsn: Math.min(a, b), commitLsn: Math.max(a, b) },
  )

describe('the id of a message', () => {
  it('comes back as the place that it was made of', () => {
    fc.assert(
      fc.property(place, (one) => {
        expect(parseMessageId(messageIdOf(one))).toEqual(one)
      }),
    )
  })

  it('sorts as text as the messages are delivered', () => {
    fc.assert(
      fc.property(place, place, (a, b) => {
        const [one, other] = [messageIdOf(a), messageIdOf(b)]
        // A commit and a message that stands by itself have different LSNs.
        fc.pre((a.commitLsn ?? a.lsn) !== (b.commitLsn ?? b.lsn) || (a.commitLsn === null) === (b.commitLsn === null))
        expect(Math.sign(compareMessagePlaces(a, b))).toBe(one < other ? -1 : one > other ? 1 : 0)
      }),
    )
  })

  it('has a form that stays', () => {
    expect(messageIdOf({ lsn: 4_660, commitLsn: null })).toBe('00000000001234')
    expect(messageIdOf({ lsn: 4_660, commitLsn: 4_661 })).toBe('00000000001235-00000000001234')
  })

  it.each([
    '',
    '1',
    '0000000000123',
    '0000000000123G',
    '00000000001234-',
    '00000000001234-00000000001234',
    'ffffffffffffff',
  ])('is not %j', (text) => expect(parseMessageId(text)).toBeUndefined())
})
