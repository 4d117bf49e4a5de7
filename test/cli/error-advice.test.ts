import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { storageErrorCodes } from '../../native-free-storage/index.ts'
import { errorAdvice } from '../../src/cli/error-advice.ts'
import { serviceErrorCodes } from '../../src/errors.ts'

const page = readFileSync(new URL('../../docs/ERRORS.md', import.meta.url), 'utf8')
const codes = [...storageErrorCodes, ...serviceErrorCodes]

/** The row of the page for a code, as the table of the command line would have it. */
function rowOf(code: keyof typeof errorAdvice): string {
  const { meaning, safe, next } = errorAdvice[code]!
  return `| \`${code}\` | ${[meaning, safe, next].map((text) => text.replaceAll('|', '\\|')).join(' | ')} |`
}

describe('docs/ERRORS.md', () => {
  test('the lists of codes are sorted and no code stands twice', () => {
    expect(codes).toHaveLength(new Set(codes).size)
    expect([...storageErrorCodes]).toEqual([...storageErrorCodes].sort())
    expect([...serviceErrorCodes]).toEqual([...serviceErrorCodes].sort())
  })

  test('every code has its advice on the command line, and no advice is for a code that is gone', () => {
    expect(Object.keys(errorAdvice).sort()).toEqual([...codes].sort())
  })

  test('every code has its row, in the words of the command line', () => {
    for (const code of codes) expect(page).toContain(rowOf(code))
  })

  test('every row is for a code that exists', () => {
    const rows = [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code)
    expect(rows.sort()).toEqual([...codes].sort())
  })
})
