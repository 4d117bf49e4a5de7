/** `compact`: takes runs of stored time ticks out of the finished segments of one log, or of all logs of a data directory. */
import type { Command } from 'commander'
import { type CompactionReport, compactLog, nodeEnvironment } from '../../../native-free-storage/index.ts'
import { kernelLock } from '../../daemon/kernel-lock.ts'
import { TidelogError } from '../../errors.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { ExitCode } from '../exit-codes.ts'
import { jsonText } from '../json-text.ts'
import { requireLogs } from '../log-paths.ts'
import { bytesText } from '../notes.ts'
import { printable } from '../text-table.ts'

interface CompactFlags {
  dryRun?: boolean
  json?: boolean
}

/** Whoever asks wants it done: what is worth a file of its own at all. */
const THRESHOLDS = { savedBytesMin: 4096, savedShareMin: 0.01 }

export function addCompact(program: Command, context: CommandContext): void {
  program
    .command('compact')
    .description('make runs of stored time ticks one tick each; not beside a running daemon')
    .argument('<path>', "a data directory or one log's directory")
    .option('-n, --dry-run', 'say what it would save, and change nothing; also beside a running daemon')
    .option('--json', 'one JSON object: {"dryRun","logs":[{"path","segments","bytesBefore","bytesAfter",...}]}')
    .addHelpText(
      'after',
      `
Records, LSNs and ticks of records stay. Each finished segment that holds runs of ticks is written anew beside the old
one, so that there must be room for one segment; a crash leaves the old one or the new one. A running daemon does the
same by itself, in the background, where it saves an eighth of a segment.
${examples('tidelog compact ./data --dry-run', 'tidelog compact ./data', 'tidelog compact ./data/pchannels/0 --json')}`,
    )
    .action((path: string, flags: CompactFlags) => runCompact(path, flags, context))
}

async function runCompact(
  path: string,
  { dryRun = false, json }: CompactFlags,
  context: CommandContext,
): Promise<void> {
  const environment = nodeEnvironment({ kernelLock: kernelLock() })
  const logs: CompactionReport[] = []
  const { signal } = context.interrupt
  for (const directory of await requireLogs(environment, path)) {
    if (signal.aborted) throw new TidelogError('ABORTED', 'interrupted')
    const onSegment = (file: string): void => context.notes.progress(() => `${printable(directory)}: ${file}`)
    logs.push(await compactLog(environment, directory, { ...THRESHOLDS, dryRun, signal, onSegment }))
  }
  context.notes.clearProgress()
  await context.out.write(json ? `${jsonText({ dryRun, logs })}\n` : logs.map(textOf).join(''))
  if (logs.every(({ hindered }) => hindered.every(({ why }) => why !== 'damaged'))) return
  context.notes.line('note: segments are damaged; run "tidelog verify" on the path to see what that means')
  context.exitCode = ExitCode.failed
}

function textOf(report: CompactionReport): string {
  const { path, dryRun, segments, compacted, hindered, bytesBefore, bytesAfter } = report
  const { tickFramesBefore, tickFramesAfter } = report
  const many = `${segments} finished ${segments === 1 ? 'segment' : 'segments'}`
  if (compacted.length === 0) {
    const ticks = `${tickFramesBefore} stored ${tickFramesBefore === 1 ? 'tick' : 'ticks'}`
    return `${printable(path)}: nothing to save (${many} of ${bytesText(bytesBefore)}, ${ticks})\n${hinderedText(hindered)}`
  }
  const would = dryRun ? 'would be compacted' : 'compacted'
  const saved = bytesBefore - bytesAfter
  const share = Math.round((saved / bytesBefore) * 100)
  const lines = [
    `${printable(path)}: ${compacted.length} of ${many} ${would}`,
    `  bytes  ${bytesText(bytesBefore)} -> ${dryRun ? 'at most ' : ''}${bytesText(bytesAfter)}, ${share} % saved`,
    `  ticks  ${tickFramesBefore} -> ${tickFramesAfter}`,
  ]
  return `${lines.join('\n')}\n${hinderedText(hindered)}`
}

const hindrances: Readonly<Record<CompactionReport['hindered'][number]['why'], string>> = {
  damaged: 'left as it is: it is damaged',
  'later-version': 'left as it is: a later version wrote it',
  'not-sealed': 'left as it is: it was cut, and has no seal',
}

function hinderedText(hindered: CompactionReport['hindered']): string {
  return hindered.map(({ file, why }) => `  ${printable(file)}: ${hindrances[why]}\n`).join('')
}
