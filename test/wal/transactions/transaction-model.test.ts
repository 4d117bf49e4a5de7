import fc from 'fast-check'
import { describe, it } from 'vitest'
import { budget } from '../../budget.ts'
import { commands, runTransactionModel } from './transaction-model.ts'

const seed = Number(process.env.TIDELOG_SEED ?? 1)

describe('random transactions', () => {
  it(`what was committed is there as one, all else is not, over restarts (TIDELOG_SEED=${seed})`, async () => {
    const numRuns = budget({ small: 40, ci: 1_500, soak: 100_000 })
    await fc.assert(fc.asyncProperty(commands, runTransactionModel), { numRuns, seed })
    console.log(`random transactions: ${numRuns} scripts, seed ${seed}`)
  })
})
