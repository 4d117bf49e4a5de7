/** The command line: bin/tidelog.js calls `main` and ends with the code it gives. */
import { readFileSync } from 'node:fs'
import type { CommandContext } from './command-context.ts'
import { reportOf, writeReport } from './error-report.ts'
import { ExitCode, exitCodeOf } from './exit-codes.ts'
import { Interrupt } from './interrupt.ts'
import { Notes } from './notes.ts'
import { Output } from './output.ts'
import { buildProgram } from './program.ts'

/**
 * Runs one command line (without the names of the program) in this process and gives its exit code: 0 clean, 1 failed,
 * 2 wrong usage, 8 damaged but nothing acknowledged lost, 9 acknowledged data lost, 130 interrupted. Never throws.
 */
export async function main(argv: string[]): Promise<number> {
  const notes = new Notes(process.stderr, process.env)
  const interrupt = new Interrupt()
  const context: CommandContext = {
    stdin: process.stdin,
    out: new Output(process.stdout),
    notes,
    environment: process.env,
    interrupt,
    exitCode: ExitCode.clean,
  }
  try {
    const exitCode = await run(argv, context)
    return interrupt.happened ? ExitCode.interrupted : exitCode
  } finally {
    notes.clearProgress()
    interrupt.release()
  }
}

async function run(argv: string[], context: CommandContext): Promise<ExitCode> {
  try {
    await buildProgram(context, packageVersion()).parseAsync(argv, { from: 'user' })
    await context.out.flush()
    return context.exitCode
  } catch (error) {
    const exitCode = exitCodeOf(error)
    // What was printed before the failure is data all the same. Nothing more can be said if that fails too.
    await context.out.flush().catch(() => {})
    if (exitCode !== ExitCode.clean && !context.interrupt.happened && !isHelp(error)) {
      writeReport(reportOf(error), context.notes, wantsJson(argv))
    }
    return exitCode
  }
}

/** Commander shows the help on standard error by itself when the command is left out. */
function isHelp(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'commander.help'
}

/** Known before the command line is parsed, for errors in it. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return argv.slice(0, end === -1 ? argv.length : end).includes('--json')
}

function packageVersion(): string {
  // From dist/src/cli/ and from src/cli/ alike: the package's own folder is the nearest with its name.
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as Record<string, string>
      if (name === 'tidelog' && version) return version
    } catch {}
  }
  return 'unknown'
}
