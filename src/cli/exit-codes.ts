/** The exit codes of every command, and which error gives which. */
import { CommanderError } from 'commander'
import { type ServiceErrorCode, TidelogError } from '../errors.ts'

export const ExitCode = {
  clean: 0,
  failed: 1,
  /** The command line itself is wrong: nothing was tried. */
  usage: 2,
  /** Damaged, but nothing acknowledged is lost: repairable. */
  damaged: 8,
  /** Something acknowledged is gone or changed. */
  dataLost: 9,
  interrupted: 130,
} as const

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** What commander throws after it has shown help or the version: not a failure. */
const shownOnRequest = new Set(['commander.helpDisplayed', 'commander.version'])

/** What was typed or configured is refused before anything is tried. */
const nothingTried: ReadonlySet<string> = new Set<ServiceErrorCode>(['USAGE', 'CONFIG_INVALID', 'HOST_NOT_LOOPBACK'])

/** The exit code for what a command threw. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommanderError) return shownOnRequest.has(error.code) ? ExitCode.clean : ExitCode.usage
  if (error instanceof TidelogError && nothingTried.has(error.code)) return ExitCode.usage
  return ExitCode.failed
}

export const exitCodeHelp = `Exit codes:
  0    clean
  1    failed
  2    wrong usage; nothing was tried
  8    damaged, but nothing acknowledged is lost
  9    acknowledged data is lost
  130  interrupted`
