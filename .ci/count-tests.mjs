// Prints `N passed, N failed` of a vitest JSON report. A suite that could not be loaded counts as one failed test.
import { readFileSync } from 'node:fs'

const [, , reportPath] = process.argv
if (!reportPath) throw new Error('usage: count-tests.mjs REPORT')

const report = JSON.parse(readFileSync(reportPath, 'utf8'))
/** @type {{ status: string, assertionResults: { status: string }[] }[]} */
const suites = report.testResults
const unloadable = suites.filter(
  (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
)
console.log(`${report.numPassedTests} passed, ${report.numFailedTests + unloadable.length} failed`)
