/**
 * SIGKILL under load on a disk that loses what was not synced, in small: `npm run kill-loop -- --lossy --rounds 200` is
 * the same in full. With a disk that does not keep its word the loop must say that records got lost.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { budget, budgetName } from '../budget.ts'

const script = fileURLToPath(new URL('../../bench/kill-loop/kill-loop.mjs', import.meta.url))
const seed = process.env.TIDELOG_SEED ?? String(Date.now() % 1_000_000)
/** Two a data directory, with strict and ext4-like names by turns. The gate runs 60 more in a step of its own. */
const rounds = budget({ small: 1, ci: 6, soak: 2_000 })
/** A disk that lies is mostly found out in the first two. */
const liarRounds = 30

async function killLoop(...flags: string[]): Promise<{ status: number | null; output: string }> {
  const child = spawn(process.execPath, [script, '--lossy', '--seed', seed, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const [status] = await once(child, 'close')
  return { status, output }
}

test(`nothing acknowledged is lost over ${rounds} rounds of SIGKILL that takes unsynced writes with it`, async () => {
  const { status, output } = await killLoop('--rounds', String(rounds), '--fresh-every', '2')
  expect(status, output).toBe(0)
  expect(output).toMatch(/nothing acknowledged was lost, changed or moved: [0-9]+ rounds/)
})

describe.skipIf(budgetName() === 'small')('the loop bites', () => {
  test.each(['sync', 'directory'])('a record acknowledged before its %s is reported as lost', async (lie) => {
    const { status, output } = await killLoop('--lie', lie, '--rounds', String(liarRounds))
    expect(status, output).toBe(1)
    expect(output).toMatch(/^PROBLEM (LOST: |verify: data-lost |the daemon does not start any more)/m)
    console.log(`found out after ${/FAILED: (\d+) rounds/.exec(output)?.[1]} rounds, seed ${seed}`)
  })
})
