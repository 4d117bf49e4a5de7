/**
 * Ways to catch an engine that is wrong: each looks at one state of the log after the other until a promise is broken.
 * The real engine passes all of them; each engine that is broken on purpose (mutants.ts) has to be caught by one.
 */
import type { Environment } from '../../native-free-storage/environment.ts'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { type CrashCounts, crashEverywhere } from './crash-runner.ts'
import { damageDurable } from './damage.ts'
import {
  clockGoesBack,
  dieThenLosePower,
  failSync,
  loseOneOfSeveral,
  runOutOfSpace,
  waitForWrite,
} from './directed-faults.ts'
import { ways } from './log-session.ts'
import { workloads } from './log-workloads.ts'
import { Random } from './random.ts'
import { compete, type Rivalry } from './rivals.ts'
import { readWithStaleIndex } from './stale-index.ts'

export interface Hunt {
  kind: 'crash' | 'rivals' | keyof typeof one
  /** Of `crash`. */
  workload?: string
  /** Index in `ways`; of `rivals` the first of those taken in turn. */
  way?: number
  names?: 'strict' | 'ext4'
  /** Of `rivals`: what of the first owner stands still. */
  stalls?: Rivalry['stalls']
}

export type Wrap = (environment: Environment) => Environment

export interface Hunted {
  /** States that were looked at. */
  states: number
  /** Null: no promise was broken. */
  caught: Error | null
}

/** Looks at `most` states or a few more. Never throws: what is thrown is what was caught. */
export async function hunt(what: Hunt, most: number, seed: string, wrap: Wrap = (own) => own): Promise<Hunted> {
  await loadChecksum()
  const hunted: Hunted = { states: 0, caught: null }
  try {
    if (what.kind === 'crash') await huntCrashes(what, most, seed, wrap, hunted)
    else {
      const look = what.kind === 'rivals' ? meetRival : one[what.kind]
      for (; hunted.states < most; hunted.states++) await look(what, hunted.states, `${seed}/${hunted.states}`, wrap)
    }
  } catch (error) {
    hunted.caught = error instanceof Error ? error : new Error(String(error))
    if (what.kind !== 'crash') hunted.states++
  }
  return hunted
}

const one = {
  holes: loseOneOfSeveral,
  'dead process': dieThenLosePower,
  'clock back': clockGoesBack,
  damage: damageDurable,
  'no space': runOutOfSpace,
  'no answer': waitForWrite,
  'failed sync': failSync,
  'stale index': readWithStaleIndex,
}

async function huntCrashes(what: Hunt, most: number, seed: string, wrap: Wrap, hunted: Hunted): Promise<void> {
  const counts: CrashCounts = { states: 0, exhausted: 0, points: 0, recoveryCrashes: 0 }
  const workload = workloads.find(({ name }) => name === what.workload)!
  try {
    for (let round = 0; counts.states < most; round++) {
      const space = { workload, way: ways[what.way ?? 0]!, names: what.names ?? ('strict' as const), wrap }
      // Few crash points first: most faults show at many of them.
      const wanted = Math.min(most - counts.states, 60 * 4 ** Math.min(round, 4))
      await crashEverywhere({ ...space, seed: `${seed}/${round}` }, wanted, counts)
    }
  } finally {
    hunted.states = counts.states
  }
}

async function meetRival(what: Hunt, index: number, seed: string, wrap: Wrap): Promise<void> {
  const random = new Random(seed)
  const rivalry: Rivalry = {
    at: random.below(640),
    secondAppends: index % 2 === 0,
    diesAfter: undefined,
    stalls: what.stalls,
  }
  try {
    await compete(rivalry, ((what.way ?? 0) + index) % 3, what.names ?? 'strict', seed, wrap)
  } catch (error) {
    throw new Error(`${JSON.stringify(rivalry)}: ${error instanceof Error ? error.message : error}`, { cause: error })
  }
}
