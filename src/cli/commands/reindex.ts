/** `reindex`: makes missing and wrong indexes anew, of one log or of all logs of a data directory. */
import type { Command } from 'commander'
import { nodeEnvironment, type ReindexReport, reindexLog } from '../../../native-free-storage/index.ts'
import { kernelLock } from '../../daemon/kernel-lock.ts'
import { TidelogError } from '../../errors.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { ExitCode } from '../exit-codes.ts'
import { jsonText } from '../json-text.ts'
import { requireLogs } from '../log-paths.ts'
import { printable } from '../text-table.ts'

export function addReindex(program: Command, context: CommandContext): void {
  program
    .command('reindex')
    .description('make missing and wrong indexes anew; not beside a running daemon')
    .argument('<path>', "a data directory or one log's directory")
    .option('--json', 'one JSON object: {"logs":[{"path","made":[{"file","was"}],"kept","failed":[...]}]}')
    .addHelpText(
      'after',
      `
Indexes are a cache: reading works without them, and a crash in the middle does no harm. The index of a damaged segment
cannot be made: then the exit code is 1, and \`verify\` says what is damaged.
${examples('tidelog reindex ./data', 'tidelog reindex ./data/pchannels/0 --json')}`,
    )
    .action((path: string, options: { json?: boolean }) => runReindex(path, options, context))
}

async function runReindex(path: string, { json }: { json?: boolean }, context: CommandContext): Promise<void> {
  const environment = nodeEnvironment({ kernelLock: kernelLock() })
  const logs: ReindexReport[] = []
  // Between two logs a command stops; one log takes no longer than reading it.
  const { signal } = context.interrupt
  for (const directory of await requireLogs(environment, path)) {
    if (signal.aborted) throw new TidelogError('ABORTED', 'interrupted')
    const onIndex = (file: string): void => context.notes.progress(() => `${printable(directory)}: ${file}`)
    logs.push(await reindexLog(environment, directory, { onIndex }))
  }
  context.notes.clearProgress()
  await context.out.write(json ? `${jsonText({ logs })}\n` : logs.map(textOf).join(''))
  if (logs.every(({ failed }) => failed.length === 0)) return
  context.notes.line('note: segments are damaged; run "tidelog verify" on the path to see what that means')
  context.exitCode = ExitCode.failed
}

function textOf({ path, made, kept, failed }: ReindexReport): string {
  const lines = [`${printable(path)}: ${made.length} indexes made, ${kept} were right`]
  for (const { file, was } of made) lines.push(`  ${file}: it was ${was}`)
  for (const { file } of failed) lines.push(`  ${file}: not made, its segment is damaged`)
  return `${lines.join('\n')}\n`
}
