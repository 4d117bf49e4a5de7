/** Random commands against a WAL on a simulated disk and against a list in memory: both must say the same. */
import { expect, it } from 'vitest'
import { budget } from '../budget.ts'
import { runWalModel } from './wal-model-runs.ts'

it('a WAL is a list of units, whatever happens to its process', async () => {
  const runs = budget({ small: 100, ci: 5_000, soak: 200_000 })
  const seed = Number(process.env.TIDELOG_SEED ?? 1)
  const startedMs = performance.now()
  const { commands } = await runWalModel(runs, seed)
  const tookMs = performance.now() - startedMs
  console.log(`WAL model: ${runs} runs, ${commands} commands, ${(tookMs / runs).toFixed(1)} ms a run, seed ${seed}`)
  expect(commands).toBeGreaterThan(runs)
})
