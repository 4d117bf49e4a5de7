import { existsSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

interface Evidence {
  file: string
  titles: string[]
}

/** `file` "title", "another title of the same file", `next file` "title" ... in the last column of each row. */
function evidenceIn(page: string): Evidence[] {
  const found: Evidence[] = []
  for (const line of page.split('\n')) {
    const cell = /^\|.*\| (`.*) \|$/.exec(line)?.[1]
    if (cell === undefined) continue
    for (const [, file, title] of cell.matchAll(/`([^`]+)`|"((?:[^"\\]|\\.)*)"/g)) {
      if (file !== undefined) found.push({ file, titles: [] })
      else if (title !== undefined) found.at(-1)?.titles.push(title.replaceAll('\\"', '"'))
    }
  }
  return found
}

it('every guarantee names tests that exist', () => {
  const evidence = evidenceIn(readFileSync('docs/GUARANTEES.md', 'utf8'))
  expect(evidence.length).toBeGreaterThan(40)
  const missing: string[] = []
  for (const { file, titles } of evidence) {
    if (!existsSync(file)) missing.push(file)
    else {
      const source = readFileSync(file, 'utf8')
      for (const title of titles) if (!source.includes(title)) missing.push(`${file}: ${title}`)
    }
    if (titles.length === 0) missing.push(`${file}: no title`)
  }
  expect(missing).toEqual([])
})
