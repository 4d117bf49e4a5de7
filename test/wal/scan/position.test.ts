import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatPosition, parsePosition } from '../../../src/wal/scan/position.ts'

describe('a position as text', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(), (lsn, skip) => {
        expect(parsePosition(formatPosition({ lsn, skip }))).toEqual(skip === 0 ? { lsn } : { lsn, skip })
      }),
    )
  })

  it('is short where nothing is left out', () => {
    expect(formatPosition({ lsn: 7 })).toBe('7')
    expect(formatPosition({ lsn: 7, skip: 2 })).toBe('7+2')
  })

  it.each(['', '-1', '01', '7+', '7+0', '+2', '7 ', '9007199254740992', '1e3'])('is not %j', (text) =>
    expect(parsePosition(text)).toBeUndefined(),
  )
})
