/** What every command gets from the outside, so that a test can run one in its own process. */
import type { ExitCode } from './exit-codes.ts'
import type { Interrupt } from './interrupt.ts'
import type { Notes } from './notes.ts'
import type { Output } from './output.ts'

export interface CommandContext {
  readonly stdin: NodeJS.ReadableStream & { isTTY?: boolean; destroy?(): void }
  /** Data. */
  readonly out: Output
  /** Notes, progress and errors. */
  readonly notes: Notes
  readonly environment: NodeJS.ProcessEnv
  readonly interrupt: Interrupt
  /** What the process ends with when the command does not throw. */
  exitCode: ExitCode
}

/** The examples at the end of a command's help. */
export function examples(...lines: string[]): string {
  return `\nExample${lines.length > 1 ? 's' : ''}:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}
