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
      for (const [first, last] of bodies) {
        expect(ranges.filter((range) => range.first <= first && last <= range.last)).toHaveLength(1)
      }
      for (const [index, { first }] of ranges.entries()) {
        if (index > 0) expect(first - ranges[index - 1]!.last).toBeGreaterThan(256)
      }
    }),
  )
})
