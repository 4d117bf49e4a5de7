/** Whatever stands in a log, wherever a scan starts, whatever it leaves out and however little memory it has. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import { budget } from '../../budget.ts'
import { LogScript } from './log-script.ts'
import { compare, scans, steps, write } from './scan-model.ts'

const seed = Number(process.env.TIDELOG_SEED ?? Date.now() % 2 ** 31)

it(`a scan gives the units of the log, in order, from any start (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.array(scans, { minLength: 4, maxLength: 8, size: 'max' }), async (drawn, drawnScans) => {
      const script = await LogScript.inMemory()
      await write(script, drawn)
      for (const drawnScan of drawnScans) {
        const { found, expected } = await compare(script, drawnScan, (options) => createScanner(script.store, options))
        expect(found).toEqual(expected)
      }
    }),
    { seed, numRuns: budget({ small: 40, ci: 1_500, soak: 100_000 }) },
  )
})
