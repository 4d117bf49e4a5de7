/** The process dies at each step of the workloads, the machine goes on. */
import { describe, expect, it } from 'vitest'
import { budget } from '../budget.ts'
import { dieEverywhere } from './crash-runner.ts'
import { inWords, spacesOf } from './crash-suite.ts'
import { ways } from './log-session.ts'

describe('a log after its process died', () => {
  const spaces = spacesOf(ways).filter(({ names }) => names === 'strict')
  const perSpace = Math.ceil(budget({ small: 100, ci: 2_000, soak: 100_000 }) / spaces.length)
  for (const space of spaces) {
    it(`has all that was acknowledged: ${inWords(space)}`, async () => {
      expect(await dieEverywhere(space, perSpace)).toBe(perSpace)
    })
  }
})
