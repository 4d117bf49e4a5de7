/**
 * The suites must catch an engine that is wrong: each of these is the real one with a piece of its text replaced. How many
 * states it took is printed. The same looks find nothing in the engine as it is.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { budget, budgetName } from '../budget.ts'
import { type Hunt, type Hunted, hunt } from './hunts.ts'
import { mutants } from './mutants.ts'

const seed = process.env.TIDELOG_SEED ?? '1'

describe('an engine that is broken on purpose is caught', () => {
  it('every text that a mutant replaces is there, exactly once', () => {
    const astray: string[] = []
    for (const [name, { edits }] of Object.entries(mutants)) {
      for (const { file, replace } of edits) {
        const count = readFileSync(`native-free-storage/${file}`, 'utf8').split(replace).length - 1
        if (count !== 1) astray.push(`${name}: ${count} times in ${file}: ${replace}`)
      }
    }
    expect(astray).toEqual([])
  })

  // In `npm test` some of them; in the gate all.
  const some = Object.entries(mutants).filter((_, index) => budgetName() !== 'small' || index % 6 === 0)
  it.each(some)('%s', async (name, { says, hunt: what, within, shows }) => {
    const module = new URL(`./hunts.ts?mutant=${name}`, import.meta.url)
    const broken: { hunt: typeof hunt } = await import(/* @vite-ignore */ module.href)
    expect(broken.hunt, 'the mutant is the engine itself').not.toBe(hunt)
    const startedMs = performance.now()
    const { states, caught }: Hunted = await broken.hunt(what, within, seed)
    const words = String(caught?.message)
    const how = caught === null ? `not caught in ${states} states` : `caught in state ${states}`
    console.log(
      `${says}: ${how} (${Math.round(performance.now() - startedMs)} ms, seed ${seed}) ${words.slice(0, 300)}`,
    )
    expect(caught, says).not.toBeNull()
    expect(words, says).toMatch(shows)
  })
})

describe('the engine as it is', () => {
  const hunts = new Map<string, Hunt>()
  for (const { hunt: what } of Object.values(mutants)) {
    // The crashes and the rivals have suites of their own (log-crash-states, log-rivals).
    if (what.kind !== 'crash' && what.kind !== 'rivals') hunts.set(JSON.stringify(what), what)
  }
  it.each([...hunts])('passes what they are caught by: %s', async (_name, what) => {
    const wanted = budget({ small: 8, ci: 400, soak: 20_000 })
    const { states, caught } = await hunt(what, wanted, seed)
    if (caught !== null) throw new Error(`state ${states}, seed ${seed}: ${caught.message}`, { cause: caught })
    expect(states).toBe(wanted)
  })
})
