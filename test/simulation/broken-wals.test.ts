/** The model of a WAL must catch a WAL that is wrong. How many runs each took is printed. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { budgetName } from '../budget.ts'
import { runWalModel } from './wal-model-runs.ts'
import { walMutants } from './wal-mutants.ts'

const seed = Number(process.env.TIDELOG_SEED ?? 1)

describe('a WAL that is broken on purpose is caught', () => {
  it('every text that a mutant replaces is there, exactly once', () => {
    const astray: string[] = []
    for (const [name, { edits }] of Object.entries(walMutants)) {
      for (const { file, replace } of edits) {
        const count = readFileSync(`src/${file}`, 'utf8').split(replace).length - 1
        if (count !== 1) astray.push(`${name}: ${count} times in ${file}: ${replace}`)
      }
    }
    expect(astray).toEqual([])
  })

  // In `npm test` one of them, which is found soon; in the gate all.
  const some = Object.entries(walMutants).filter(([name]) => budgetName() !== 'small' || name === 'repeat-writes-twice')
  it.each(some)('%s', async (name, { says, within, shows }) => {
    const module = new URL(`./wal-model-runs.ts?wal-mutant=${name}`, import.meta.url)
    const broken: { runWalModel: typeof runWalModel } = await import(/* @vite-ignore */ module.href)
    expect(broken.runWalModel, 'the mutant is the WAL itself').not.toBe(runWalModel)
    let words = ''
    let runs = 0
    await broken
      .runWalModel(within, seed, false, () => runs++)
      .catch((error: unknown) => {
        const cause = error instanceof Error ? (error.cause ?? error) : error
        words = String(cause)
      })
    const how = words === '' ? `not caught in ${runs} runs` : `caught in run ${runs}`
    console.log(`${says}: ${how} (seed ${seed}) ${words.slice(0, 200)}`)
    expect(words, says).toMatch(shows)
  })
})
