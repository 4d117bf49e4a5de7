/** Which workloads lose power in which ways, and how many states of each are looked at. */
import { expect, it } from 'vitest'
import { budgetName } from '../budget.ts'
import { type CrashCounts, type CrashSpace, countSteps, crashEverywhere, noCrashes } from './crash-runner.ts'
import type { Way } from './log-session.ts'
import { workloads } from './log-workloads.ts'

export const crashSeed = process.env.TIDELOG_SEED ?? '1'

export function spacesOf(ways: readonly Way[]): CrashSpace[] {
  return workloads.flatMap((workload) =>
    ways.flatMap((way) => (['strict', 'ext4'] as const).map((names) => ({ workload, way, names, seed: crashSeed }))),
  )
}

export function inWords({ workload, way, names }: CrashSpace): string {
  return `${workload.name}, ${way.mode}, depth ${way.depth}, ${way.durability}, ${names} names`
}

/** To be called in a `describe`. `wanted`: distinct states of all workloads together. */
export function losesPower(ways: readonly Way[], wanted: number): void {
  const spaces = spacesOf(ways)
  // Some are the same as another: of what is drawn, about three in five are looked at.
  const perSpace = Math.ceil((wanted * 1.6) / spaces.length)
  const total: CrashCounts = noCrashes()
  const seenIn = new Map<CrashSpace, Set<bigint>>(spaces.map((space) => [space, new Set()]))

  for (const space of spaces) {
    it(`keeps its promises: ${inWords(space)}`, async () => {
      await crashEverywhere(space, perSpace, total, seenIn.get(space))
    })
  }

  // The same at each step, with all that can have become of what was pending.
  const dense = spaces.filter(
    ({ workload, way }) => workload.name === 'singles' || (workload.name === 'carry-over' && way === ways[0]),
  )
  for (const space of dense) {
    it.skipIf(budgetName() === 'small')(`keeps them in every combination: ${inWords(space)}`, async () => {
      const perStep = budgetName() === 'soak' ? 8 : 1.6
      const states = Math.ceil(perStep * (await countSteps(space)))
      await crashEverywhere({ ...space, everyStep: true }, states, total, seenIn.get(space))
    })
  }

  it('was looked at in enough distinct states', () => {
    const { states, points, exhausted, recoveryCrashes } = total
    console.log(
      `crash states: ${states} distinct at ${points} crash points, ${exhausted} of them in every combination; ${recoveryCrashes} crashed again in the recovery; seed ${crashSeed}`,
    )
    expect(states).toBeGreaterThan(wanted * (budgetName() === 'small' ? 0.6 : 0.75))
  })
}
