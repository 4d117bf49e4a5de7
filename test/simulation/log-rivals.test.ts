/** A second owner opens at each step of the first one's work; some operation of the first one may stand still. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum, type TidelogError } from '../../native-free-storage/index.ts'
import { budget, budgetName } from '../budget.ts'
import { newDisk } from './crash-runner.ts'
import { logEnvironment, Session, ways } from './log-session.ts'
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
          const runs = budget({ small: 8, ci: 50, soak: 20_000 })
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

describe('a second owner at each step of one that compacts', () => {
  for (const stalls of [undefined, 'rename', 'link'] as const) {
    for (const dies of [false, true]) {
      const what = `${stalls === undefined ? 'nothing' : `a ${stalls}`} stands still${dies ? ', the first one dies' : ''}`
      it(what, async () => {
        const runs = budget({ small: 3, ci: 40, soak: 20_000 })
        const random = new Random(`${seed}/compacts/${what}`)
        for (let i = 0; i < runs; i++) {
          const at = Math.floor(((i + random.fraction()) * 1_100) / runs)
          const diesAfter = dies ? random.below(120) : undefined
          const rivalry: Rivalry = { at, secondAppends: i % 4 !== 0, compacts: true, diesAfter, stalls }
          const names = i % 2 === 0 ? 'strict' : 'ext4'
          try {
            await compete(rivalry, i % 3, names, seed)
          } catch (error) {
            throw new Error(`${JSON.stringify(rivalry)}, way ${i % 3}, ${names}, seed ${seed}: ${error}`, {
              cause: error,
            })
          }
        }
      })
    }
  }
})

describe('a second opener at each step of the first one, both honest', () => {
  it('exactly one of them gets the log, and the other one is told', async () => {
    let steps = 0
    let refused = 0
    for (let at = 0; at <= steps; at += budgetName() === 'small' ? 5 : 1) {
      for (const second of ['LOCKED', 'kernel lock'] as const) {
        const disk = newDisk({ names: at % 2 === 0 ? 'strict' : 'ext4', seed: `${seed}/${at}` })
        const sessions = [disk, disk.nextProcess()].map((view) => {
          const session = new Session(view, ways[at % 3]!, seed)
          session.wrap = () => logEnvironment(view, seed, second === 'kernel lock')
          return session
        })
        const begun = new Promise<void>((resolve) => {
          disk.onStep = (step) => {
            if (step >= at) resolve()
          }
        })
        const first = sessions[0]!.open()
        first.catch(() => {})
        if (at === 0) {
          await first
          steps = disk.steps
        } else await Promise.race([begun, first.catch(() => {})])
        const opened = await Promise.allSettled([first, sessions[1]!.open()])
        const failures = opened.flatMap((result) =>
          result.status === 'rejected' ? [result.reason as TidelogError] : [],
        )
        expect(failures.map(({ code }) => code)).toEqual(['LOCKED'])
        refused++
        for (const [index, result] of opened.entries()) {
          if (result.status === 'rejected') continue
          expect(await sessions[index]!.submit(100)).toBe(null)
          await sessions[index]!.close()
        }
        disk.powerLoss()
      }
    }
    expect(steps).toBeGreaterThan(40)
    expect(refused).toBeGreaterThan(16)
  })
})
