/** Random damage to what was durable: one a seed. */
import { describe, expect, it } from 'vitest'
import { budget } from '../budget.ts'
import type { DamageCounts } from './random-damage.ts'
import { runDamages, seedsFrom } from './random-runner.ts'

const file = 'test/simulation/log-random-damage.test.ts'
const seed = process.env.TIDELOG_SEED ?? '1'
const batches = 4

describe('a log whose durable bytes were damaged at random', () => {
  const total = budget({ small: 80, ci: 4_000, soak: 1_000_000 })
  const seeds = [...seedsFrom(seed, total)]
  const counts: DamageCounts = {
    seeds: 0,
    unchanged: 0,
    namedByVerify: 0,
    refusedByOpen: 0,
    toldByRead: 0,
    harmless: 0,
  }
  const each = Math.ceil(total / batches)
  for (let batch = 0; batch * each < total; batch++) {
    const part = seeds.slice(batch * each, (batch + 1) * each)
    it(`says so, and delivers nothing wrong: seeds ${part[0]} to ${part.at(-1)}`, async () => {
      await runDamages(file, part, counts)
    })
  }

  it('ran all of them', () => {
    const { seeds: run, unchanged, namedByVerify, refusedByOpen, toldByRead, harmless } = counts
    console.log(
      `random damage: ${run} seeds from ${seed}, ${unchanged} changed nothing, ${namedByVerify} named by verify, ${refusedByOpen} refused by open, ${toldByRead} told by a read, ${harmless} with every record all the same`,
    )
    expect(run).toBe(total)
  })
})
