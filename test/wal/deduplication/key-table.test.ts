import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { tickOf } from '../../../native-free-storage/index.ts'
import { KeyTable } from '../../../src/wal/deduplication/key-table.ts'

const window = { windowMs: 100, vchannelBytesMax: 1_000, bytesMax: 2_000 }
const effect = (vchannel: string, key: string) => ({ kind: 'key', row: 0, vchannel, key }) as const

describe('the table of idempotency keys', () => {
  it('knows a key for the window, by the ticks of the log, and says up to where it has forgotten', () => {
    const table = new KeyTable(window)
    table.apply(effect('v', 'a'), 1, tickOf(1_000))
    table.apply(effect('v', 'b'), 2, tickOf(1_100))
    expect(table.get('v', 'a')).toEqual({ lsn: 1, timeTick: tickOf(1_000) })
    expect(table.horizon('v')).toBe(0n)
    table.apply(effect('v', 'c'), 3, tickOf(1_101))
    expect(table.get('v', 'a')).toBeUndefined()
    expect(table.horizon('v')).toBe(tickOf(1_000) + 1n)
    expect(table.get('v', 'b')).toBeDefined()
    // Another vchannel has a window of its own.
    expect(table.horizon('w')).toBe(0n)
  })

  it('holds no more than its bytes; what goes is the oldest, and lies before the horizon', () => {
    const appends = fc.array(fc.tuple(fc.constantFrom('v', 'w', 'x'), fc.nat(60), fc.nat(3)), { maxLength: 120 })
    fc.assert(
      fc.property(appends, (steps) => {
        const table = new KeyTable(window)
        const all = new Map<string, { vchannel: string; key: string; tick: bigint }>()
        let ms = 1_000
        for (const [lsn, [vchannel, id, pause]] of steps.entries()) {
          ms += pause * 20
          const key = `key-${id}`
          const tick = tickOf(ms) + BigInt(lsn)
          table.apply(effect(vchannel, key), lsn, tick)
          all.set(`${vchannel}/${key}`, { vchannel, key, tick })
          expect(table.bytes).toBeLessThanOrEqual(window.bytesMax)
          // Whatever is forgotten lies before the horizon: "unknown" is never taken for "new".
          for (const { vchannel: of, key: known, tick: at } of all.values()) {
            if (table.get(of, known) === undefined) expect(at < table.horizon(of)).toBe(true)
          }
        }
      }),
      { numRuns: 100 },
    )
  })
})
