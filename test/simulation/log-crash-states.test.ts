/** The engine on the simulated disk: power is lost before each disk operation of fixed workloads. */
import { describe, expect, it } from 'vitest'
import { budget, budgetName } from '../budget.ts'
import { type CrashCounts, type CrashSpace, countSteps, crashEverywhere, dieEverywhere } from './crash-runner.ts'
import { ways } from './log-session.ts'
import { workloads } from './log-workloads.ts'

const seed = process.env.TIDELOG_SEED ?? '1'

const spaces: CrashSpace[] = []
for (const workload of workloads) {
  for (const way of ways) {
    for (const names of ['strict', 'ext4'] as const) spaces.push({ workload, way, names, seed })
  }
}

describe('a log after power was lost', () => {
  const perSpace = Math.ceil(budget({ small: 400, ci: 5_000, soak: 1_000_000 }) / spaces.length)
  const total: CrashCounts = { states: 0, exhausted: 0, points: 0, recoveryCrashes: 0 }

  for (const space of spaces) {
    const { workload, way, names } = space
    it(`keeps its promises: ${workload.name}, ${way.mode}, depth ${way.depth}, ${way.durability}, ${names} names`, async () => {
      const counts = await crashEverywhere(space, perSpace)
      for (const key of Object.keys(total) as (keyof CrashCounts)[]) total[key] += counts[key]
    })
  }

  // The same at fewer crash points, and at each with all that can have become of what was pending.
  const dense = spaces.filter(
    ({ workload, way }) => workload.name === 'singles' || (workload.name === 'carry-over' && way === ways[0]),
  )
  for (const space of dense) {
    const { workload, way, names } = space
    const denser = budgetName() === 'soak' ? 8 : 1.6
    it.skipIf(budgetName() === 'small')(
      `keeps them in every combination: ${workload.name}, ${way.mode}, depth ${way.depth}, ${way.durability}, ${names} names`,
      async () => {
        const counts = await crashEverywhere(space, Math.ceil(denser * (await countSteps(space))))
        for (const key of Object.keys(total) as (keyof CrashCounts)[]) total[key] += counts[key]
      },
    )
  }

  it('was looked at in enough distinct states', () => {
    console.log(
      `crash states: ${total.states} distinct at ${total.points} crash points, ${total.exhausted} of them in every combination; ${total.recoveryCrashes} crashed again in the recovery; seed ${seed}`,
    )
    expect(total.states).toBeGreaterThan(perSpace * spaces.length * 0.6)
  })
})

describe('a log after its process died', () => {
  const perSpace = Math.ceil(budget({ small: 100, ci: 1_600, soak: 100_000 }) / (spaces.length / 2))
  for (const space of spaces.filter(({ names }) => names === 'strict')) {
    const { workload, way } = space
    it(`has all that was acknowledged: ${workload.name}, ${way.mode}, depth ${way.depth}, ${way.durability}`, async () => {
      expect(await dieEverywhere(space, perSpace)).toBe(perSpace)
    })
  }
})
