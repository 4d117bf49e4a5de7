import fs from 'node:fs'
import { expect, it } from 'vitest'
import { findingCodes } from '../../../native-free-storage/maintenance/findings.ts'

it('documents every finding with its severity, and nothing else', () => {
  const page = fs.readFileSync(new URL('../../../docs/VERIFY.md', import.meta.url), 'utf8')
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| ([a-z-]+) \|/gm)].map(([, code, severity]) => [code, severity])
  expect(rows).toEqual(Object.entries(findingCodes))
})
