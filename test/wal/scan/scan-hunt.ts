/** Random scans of random logs, until one gives something else than the script of its log says. */

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import { LogScript } from './log-script.ts'
import { compare, scans, steps, write } from './scan-model.ts'

export interface Hunted {
  runs: number
  /** What was drawn when it was caught, and how it differs; null: nothing was. */
  caught: string | null
}

/** `shrinks`: looks for the smallest log that shows it. */
export async function huntScans(runs: number, seed: number, shrinks: boolean): Promise<Hunted> {
  const property = fc.asyncProperty(
    steps,
    fc.array(scans, { minLength: 4, maxLength: 8, size: 'max' }),
    async (drawn, drawnScans) => {
      const script = await LogScript.inMemory()
      await write(script, drawn)
      for (const drawnScan of drawnScans) {
        const { found, expected } = await compare(script, drawnScan, (options) => createScanner(script.store, options))
        if (!isDeepStrictEqual(found, expected)) {
          throw new Error(`${inspect(drawnScan)} gave ${inspect(found)} in the place of ${inspect(expected)}`)
        }
      }
    },
  )
  const result = await fc.check(property, { seed, numRuns: runs, endOnFailure: !shrinks })
  if (!result.failed) return { runs: result.numRuns, caught: null }
  const error = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance)
  return { runs: result.numRuns, caught: `${error}; the log: ${inspect(result.counterexample?.[0])}` }
}

function inspect(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one))
}
