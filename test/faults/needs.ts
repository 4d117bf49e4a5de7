/**
 * What a test on the real machine needs. Where it is missing, `npm test` leaves the test out and says why; in the gate
 * its absence is a failure.
 */
import { spawnSync } from 'node:child_process'
import { type TestFunction, test } from 'vitest'
import { budgetName } from '../budget.ts'

/** Null, or why the tool cannot be used. */
export function missingTool(name: string, ...versionArguments: string[]): string | null {
  const { error, status } = spawnSync(name, versionArguments, { stdio: 'ignore' })
  return error === undefined && status === 0 ? null : `${name} is not installed`
}

/** `test`, or what stands for it where something is missing. */
export function testThatNeeds(missing: string | null): (title: string, run: TestFunction) => void {
  if (missing === null) return (title, run) => test(title, run)
  if (budgetName() === 'small') return (title, run) => test.skip(`${title} (left out: ${missing})`, run)
  return (title) =>
    test(title, () => {
      throw new Error(`it cannot be shown here, and the gate does not leave it out: ${missing}`)
    })
}
