/** `verify`: checks every byte of one log or of all logs of a data directory; never writes. */
import { stat } from 'node:fs/promises'
import type { Command } from 'commander'
import {
  type Environment,
  exitCodeOf,
  type Finding,
  type LogVerification,
  type Verification,
  verifyLog,
} from '../../../native-free-storage/index.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { checkDataDirectory } from '../data-directory-check.ts'
import { requireLogs } from '../log-paths.ts'
import { bytesText, progressBar } from '../notes.ts'
import { printable } from '../text-table.ts'
import { watchedEnvironment } from '../watched-environment.ts'

export function addVerify(program: Command, context: CommandContext): void {
  program
    .command('verify')
    .description('check every byte of a data directory or of one log, also beside a running daemon; never writes')
    .argument('<path>', "a data directory or one log's directory")
    .option('--json', 'one JSON object: {"clean","logs":[{"path",...,"findings":[...]}]}')
    .addHelpText(
      'after',
      `
Exit code 0: clean, or notes only (what a crash leaves behind). 8: damaged, but nothing acknowledged is lost.
9: something acknowledged is gone or changed. docs/VERIFY.md lists every code of a finding.
${examples('tidelog verify ./data', "tidelog verify ./data --json | jq '.logs[].findings[]'")}`,
    )
    .action((path: string, options: { json?: boolean }) => runVerify(path, options, context))
}

async function runVerify(path: string, { json }: { json?: boolean }, context: CommandContext): Promise<void> {
  let readBytes = 0
  let totalBytes = 0
  const environment = watchedEnvironment({
    signal: context.interrupt.signal,
    onRead: (bytes) => {
      readBytes += bytes
      context.notes.progress(() => `${progressBar(readBytes, totalBytes)} ${bytesText(readBytes)} verified`)
    },
  })
  const directories = await requireLogs(environment, path)
  if (context.notes.isTerminal) {
    for (const directory of directories) totalBytes += await bytesOf(environment, directory)
  }
  const logs: LogVerification[] = []
  for (const directory of directories) logs.push(await verifyLog(environment, directory))
  logs.push(...(await checkDataDirectory(environment, path, logs)))
  const clean = logs.every(({ findings }) => findings.every(({ severity }) => severity === 'info'))
  const verification: Verification = { clean, logs }
  context.notes.clearProgress()
  await context.out.write(json ? `${JSON.stringify(verification)}\n` : textOf(verification))
  context.exitCode = exitCodeOf(verification)
}

/** Of the files in the directory: for the bar only, so what cannot be looked at counts nothing. */
async function bytesOf(environment: Environment, directory: string): Promise<number> {
  let bytes = 0
  for (const name of await environment.disk.list(directory)) {
    const found = await stat(`${directory}/${name}`).catch(() => null)
    if (found?.isFile()) bytes += found.size
  }
  return bytes
}

function textOf({ logs }: Verification): string {
  const lines: string[] = []
  for (const log of logs) {
    const size = `${log.records} records, ${bytesText(log.bytes)}`
    lines.push(`${worstOf(log.findings).padEnd(9)} ${printable(log.path)}: ${size}, ${rangeOf(log)}`)
    for (const { severity, code, message } of log.findings) lines.push(`  ${severity} ${code}: ${printable(message)}`)
  }
  lines.push(conclusions[worstOf(logs.flatMap(({ findings }) => findings))])
  return `${lines.join('\n')}\n`
}

const conclusions = {
  clean: 'Clean.',
  damaged: 'Damaged, but nothing that was acknowledged is lost.',
  'data-lost': 'Acknowledged data is gone or changed. Copy the directory before anything else.',
} as const

function worstOf(findings: readonly Finding[]): keyof typeof conclusions {
  if (findings.some(({ severity }) => severity === 'data-lost')) return 'data-lost'
  return findings.some(({ severity }) => severity === 'damaged') ? 'damaged' : 'clean'
}

function rangeOf({ firstLsn, lastLsn, provenLsn }: LogVerification): string {
  if (firstLsn === null || lastLsn === null || lastLsn < firstLsn) return 'no LSN'
  const unproven = provenLsn !== null && provenLsn < lastLsn ? `, not provable from ${provenLsn + 1} on` : ''
  return `LSN ${firstLsn} to ${lastLsn}${unproven}`
}
