import { describe, expect, test } from 'vitest'
import { parseStartPosition } from '../../src/cli/start-position.ts'
import { isoOfTick, parseIsoTime, tickOfMs } from '../../src/cli/wall-time.ts'

describe('--from', () => {
  test.each([
    ['earliest', { kind: 'at', position: 'earliest' }],
    ['latest', { kind: 'at', position: 'latest' }],
    ['last:10', { kind: 'last', count: 10 }],
    ['last:0', { kind: 'last', count: 0 }],
    ['lsn:0', { kind: 'at', position: { lsn: 0 } }],
    ['lsn:9007199254740991', { kind: 'at', position: { lsn: Number.MAX_SAFE_INTEGER } }],
    ['tick:18446744073709551615', { kind: 'at', position: { timeTick: 2n ** 64n - 1n } }],
    ['2026-01-31T12:00:00Z', { kind: 'at', position: { timeTick: 1769860800000n << 18n } }],
    ['2026-01-31T13:00:00.250+01:00', { kind: 'at', position: { timeTick: 1769860800250n << 18n } }],
    ['2026-01-31 12:00:00,25Z', { kind: 'at', position: { timeTick: 1769860800250n << 18n } }],
    ['2026-01-31T13:00:00+0100', { kind: 'at', position: { timeTick: 1769860800000n << 18n } }],
    ['2026-01-31', { kind: 'at', position: { timeTick: 1769817600000n << 18n } }],
  ])('%s', (text, expected) => {
    expect(parseStartPosition(text)).toEqual(expected)
  })

  test.each([
    '',
    'Earliest',
    'first',
    'last',
    'last:',
    'last:-1',
    'last:1.5',
    'last:10000001',
    'lsn:x',
    'lsn:1e3',
    'lsn:9007199254740992',
    'tick:',
    'tick:18446744073709551616',
    'tick:0x10',
    '2026-02-30',
    '2026-13-01T00:00:00Z',
    '2026-01-31T25:00:00Z',
    '12:00',
    '0',
  ])('%j is refused as wrong usage', (text) => {
    expect(() => parseStartPosition(text)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  test('a time without an offset is local time', () => {
    expect(parseIsoTime('2026-06-01T12:30')).toBe(new Date(2026, 5, 1, 12, 30).getTime())
  })

  test('a tick is shown as the wall time it was made from', () => {
    expect(isoOfTick(tickOfMs(1769860800250) + 7n)).toBe('2026-01-31T12:00:00.250Z')
    expect(isoOfTick(0n)).toBe('')
    expect(isoOfTick(2n ** 64n - 1n)).toMatch(/^\+?\d/)
  })
})
