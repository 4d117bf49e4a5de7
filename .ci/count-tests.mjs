// Prints `N passed, N failed` of a vitest JSON report, and each test that failed with the first line of its error. A suite
// that could not be loaded counts as one failed test.
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

const [, , reportPath] = process.argv
if (!reportPath) throw new Error('usage: count-tests.mjs REPORT')

const report = JSON.parse(readFileSync(reportPath, 'utf8'))
/** @type {{ name: string, status: string, message: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[]} */
const suites = report.testResults
const unloadable = suites.filter(
  (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
)
console.log(`${report.numPassedTests} passed, ${report.numFailedTests + unloadable.length} failed`)

const firstLine = (/** @type {string | undefined} */ text) => (text ?? '').split('\n', 1)[0]?.slice(0, 500)
for (const { name, assertionResults } of suites) {
  for (const { status, fullName, failureMessages } of assertionResults) {
    if (status !== 'failed') continue
    console.log(`FAILED  ${relative('.', name)} > ${fullName}`)
    console.log(`        ${firstLine(failureMessages[0])}`)
  }
}
for (const { name, message } of unloadable) console.log(`FAILED  ${relative('.', name)}: ${firstLine(message)}`)
