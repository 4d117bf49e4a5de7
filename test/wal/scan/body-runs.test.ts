import fc from 'fast-check'
import { expect, it } from 'vitest'
import { BodyRuns } from '../../../src/wal/scan/body-runs.ts'

it('ranges cover every body, in order, are few, and leave the widest spaces out', () => {
  const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 5_000 }), fc.nat({ max: 600 })), {
    maxLength: 200,
    size: 'max',
  })
  fc.assert(
    fc.property(steps, (drawn) => {
      const runs = new BodyRuns()
      const bodies: [number, number][] = []
      let lsn = 0
      for (const [space, length] of drawn) {
        const first = lsn + space
        lsn = first + length
        bodies.push([first, lsn])
        runs.add(first, lsn)
      }
      const ranges = [...runs]
      expect(ranges.length).toBeLessThanOrEqual(32)
      const covers = (first: number, last: number) => ranges.filter((r) => r.first <= first && last <= r.last).length
      expect(bodies.every(([first, last]) => covers(first, last) === 1)).toBe(true)
      expect(ranges.every(({ first }, index) => index === 0 || first - ranges[index - 1]!.last > 256)).toBe(true)
    }),
  )
})
