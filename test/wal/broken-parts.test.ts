/** Each part of the WAL holds its promise because of one line of its text: without it the look at it finds the break. */
import { describe, expect, it } from 'vitest'
import { partHunts } from './part-hunts.ts'
import { partMutants } from './part-mutants.ts'

describe('a part of the WAL that is broken on purpose is caught', () => {
  it.each(Object.entries(partMutants))('%s', async (name, { says, hunt }) => {
    const module = new URL(`./part-hunts.ts?part-mutant=${name}`, import.meta.url)
    const broken: { partHunts: typeof partHunts } = await import(/* @vite-ignore */ module.href)
    expect(broken.partHunts, 'the mutant is the part itself').not.toBe(partHunts)
    const found = await broken.partHunts[hunt]()
    console.log(`${says}: ${found}`)
    expect(found, says).not.toBeNull()
  })
})

describe('the parts as they are', () => {
  it.each(Object.keys(partHunts) as (keyof typeof partHunts)[])('hold what they are caught by: %s', async (name) => {
    expect(await partHunts[name]()).toBeNull()
  })
})
