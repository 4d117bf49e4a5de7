/** SIGKILL under load, in small: `npm run kill-loop -- --rounds 200` is the same in full. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { budget } from '../budget.ts'

const script = fileURLToPath(new URL('../../bench/kill-loop/kill-loop.mjs', import.meta.url))
/** Two a data directory. Some kill the daemon again while it recovers; the fourth directory is at durability `os`. */
const rounds = budget({ small: 2, ci: 8, soak: 2_000 })

test(`nothing acknowledged is lost or changed over ${rounds} rounds of SIGKILL`, async () => {
  const args = [script, '--rounds', String(rounds), '--fresh-every', '2', '--seed', String(Date.now() % 1_000_000)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const [status] = await once(child, 'close')
  expect(status, output).toBe(0)
  expect(output).toMatch(/nothing acknowledged was lost, changed or moved: [0-9]+ rounds/)
})
