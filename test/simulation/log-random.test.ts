/** Random programs of a log's users on a disk that fails: one a seed, checked against what the users know. */
import { describe, expect, it } from 'vitest'
import { budget } from '../budget.ts'
import { noCounts, runPrograms, seedsFrom } from './random-runner.ts'

const file = 'test/simulation/log-random.test.ts'
const seed = process.env.TIDELOG_SEED ?? '1'
const batches = 10

describe('a log under a random program with random faults', () => {
  const total = budget({ small: 120, ci: 16_000, soak: 1_000_000 })
  const seeds = [...seedsFrom(seed, total)]
  const counts = noCounts()
  const each = Math.ceil(total / batches)
  for (let batch = 0; batch * each < total; batch++) {
    const part = seeds.slice(batch * each, (batch + 1) * each)
    it(`keeps its promises: seeds ${part[0]} to ${part.at(-1)}`, async () => {
      await runPrograms(file, part, counts)
    })
  }

  it.each([
    ['201', 'a seal behind a gap, where no tick was given yet, was not taken for one'],
    ['14315', 'a gap that is owed, and a lease written before it'],
    ['413623', 'a close that was given up went on late, and put its index over that of the next owner'],
    ['300590', 'an open that was given up, and published when the next owner was there'],
    ['754978', 'an empty segment whose removal failed was forgotten by the manifest'],
    ['51871', 'a compacted segment whose removal failed was forgotten by the manifest'],
  ])('keeps its promises where it once did not: seed %s, %s', async (known) => {
    await runPrograms(file, [known], noCounts())
  })

  it('ran all of them', () => {
    const { seeds: run, operations, openings, faults, powerLosses, deaths, rivals, acknowledged, refused } = counts
    console.log(
      `random programs: ${run} seeds from ${seed}, ${operations} operations, ${openings} openings, ${faults} faults, ${powerLosses} power losses, ${deaths} deaths, ${rivals} rivals, ${acknowledged} appends acknowledged and ${refused} refused`,
    )
    expect(run).toBe(total)
  })
})
