import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { environmentName, settings } from '../../src/daemon/settings.ts'

test('docs/OPERATIONS.md has a row for each setting, as the code has it, and no other', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/OPERATIONS.md'), 'utf8')
  const escaped = (text: string) => text.replaceAll('|', '\\|')
  const expected = settings.map(
    (setting) =>
      `| \`--${setting.name} ${escaped(setting.placeholder)}\` | \`${environmentName(setting)}\` | \`${setting.byDefault}\` | ${escaped(setting.description)} |`,
  )
  expect(page.split('\n').filter((line) => line.startsWith('| `--'))).toEqual(expected)
})
