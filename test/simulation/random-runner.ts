/** Runs random programs, one a seed, and adds up what they have seen. */
import { loadChecksum } from '../../native-free-storage/index.ts'
import { type DamageCounts, DamageRun } from './random-damage.ts'
import { type ProgramCounts, RandomProgram } from './random-program.ts'

export interface RandomCounts extends ProgramCounts {
  seeds: number
}

export function noCounts(): RandomCounts {
  return {
    seeds: 0,
    operations: 0,
    openings: 0,
    faults: 0,
    powerLosses: 0,
    deaths: 0,
    rivals: 0,
    compacted: 0,
    acknowledged: 0,
    refused: 0,
  }
}

/** Says what to type to see it again, and what was done. */
export class SeedFailure extends Error {
  constructor(file: string, seed: string, story: readonly string[], cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(`TIDELOG_SEED=${seed} TIDELOG_RUNS=1 npx vitest run ${file}: ${reason}\n  ${story.join('\n  ')}`, { cause })
    this.name = 'SeedFailure'
  }
}

/** The seed itself, then as many as are wanted behind it: `7`, `8`, `9`. What is no number is followed by a number. */
export function* seedsFrom(first: string, count: number): Generator<string> {
  const number = Number(first)
  for (let i = 0; i < count; i++) {
    yield Number.isSafeInteger(number) ? String(number + i) : i === 0 ? first : `${first}.${i}`
  }
}

export async function runPrograms(file: string, seeds: Iterable<string>, counts: RandomCounts): Promise<void> {
  await runAll(file, seeds, (seed) => {
    const program = new RandomProgram(seed)
    return [
      program.story,
      async () => {
        await program.run()
        counts.seeds++
        for (const key of Object.keys(program.counts) as (keyof ProgramCounts)[]) counts[key] += program.counts[key]
      },
    ]
  })
}

export async function runDamages(file: string, seeds: Iterable<string>, counts: DamageCounts): Promise<void> {
  await runAll(file, seeds, (seed) => {
    const run = new DamageRun(seed)
    return [run.story, () => run.run(counts)]
  })
}

async function runAll(
  file: string,
  seeds: Iterable<string>,
  begin: (seed: string) => [story: readonly string[], run: () => Promise<void>],
): Promise<void> {
  await loadChecksum()
  // An error that nobody looks at is expensive by its stack.
  const { stackTraceLimit } = Error
  try {
    for (const seed of seeds) {
      Error.stackTraceLimit = 0
      const [story, run] = begin(seed)
      try {
        await run()
      } catch (error) {
        throw new SeedFailure(file, seed, story, error)
      }
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}
