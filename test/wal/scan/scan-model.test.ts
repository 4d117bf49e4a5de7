/** Whatever stands in a log, wherever a scan starts, whatever it leaves out and however little memory it has. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { budget, budgetName } from '../../budget.ts'
import { huntScans } from './scan-hunt.ts'
import { scanMutants } from './scan-mutants.ts'

const seed = Number(process.env.TIDELOG_SEED ?? 1)

describe('random scans', () => {
  it(`a scan gives the units of the log, in order, from any start (TIDELOG_SEED=${seed})`, async () => {
    const { caught, runs } = await huntScans(budget({ small: 25, ci: 1_000, soak: 100_000 }), seed, true)
    expect(caught, `in run ${runs}`).toBeNull()
    console.log(`random scans: ${runs} logs, seed ${seed}`)
  })
})

describe('a reader that is broken on purpose is caught', () => {
  it('every text that a mutant replaces is there, exactly once', () => {
    const astray: string[] = []
    for (const [name, { edits }] of Object.entries(scanMutants)) {
      for (const { file, replace } of edits) {
        const count = readFileSync(`src/wal/scan/${file}`, 'utf8').split(replace).length - 1
        if (count !== 1) astray.push(`${name}: ${count} times in ${file}: ${replace}`)
      }
    }
    expect(astray).toEqual([])
  })

  // In `npm test` some of them; in the gate all.
  const some = Object.entries(scanMutants).filter((_, index) => budgetName() !== 'small' || index % 4 === 0)
  it.each(some)('%s', async (name, { says }) => {
    const module = new URL(`./scan-hunt.ts?scan-mutant=${name}`, import.meta.url)
    const broken: { huntScans: typeof huntScans } = await import(/* @vite-ignore */ module.href)
    expect(broken.huntScans, 'the mutant is the reader itself').not.toBe(huntScans)
    const { runs, caught } = await broken.huntScans(300, 1, false)
    console.log(`${says}: ${caught === null ? 'not caught' : 'caught'} in run ${runs} ${caught?.slice(0, 200) ?? ''}`)
    expect(caught, says).not.toBeNull()
  })
})
