/** A second owner opens at each step of the first one's work; some operation of the first one may stand still. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { budget } from '../budget.ts'
import { Random } from './random.ts'
import { compete, type Rivalry } from './rivals.ts'

const seed = process.env.TIDELOG_SEED ?? '1'

beforeAll(async () => {
  await loadChecksum()
})

describe('a second owner at each step of the first one', () => {
  for (const secondAppends of [true, false]) {
    for (const stalls of [undefined, 'write', 'rename', 'link'] as const) {
      for (const dies of [false, true]) {
        const what = `${secondAppends ? 'appends' : 'only looks'}${stalls === undefined ? '' : `, a ${stalls} of the first one stands still`}${dies ? ', the first one dies' : ''}`
        it(what, async () => {
          const runs = budget({ small: 16, ci: 50, soak: 20_000 })
          const random = new Random(`${seed}/${what}`)
          for (let i = 0; i < runs; i++) {
            const rivalry: Rivalry = {
              at: Math.floor(((i + random.fraction()) * 640) / runs),
              secondAppends,
              diesAfter: dies ? random.below(120) : undefined,
              stalls,
            }
            const wayIndex = i % 3
            const names = i % 2 === 0 ? 'strict' : 'ext4'
            try {
              await compete(rivalry, wayIndex, names, seed)
            } catch (error) {
              throw new Error(`${JSON.stringify(rivalry)}, way ${wayIndex}, ${names}, seed ${seed}: ${error}`, {
                cause: error,
              })
            }
          }
          expect(runs).toBeGreaterThan(0)
        })
      }
    }
  }
})
