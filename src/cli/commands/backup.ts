/** `backup`: a copy of one log or of a data directory, also beside a running daemon; only reads what it copies. */
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { type BackupReport, backupLog, type Environment } from '../../../native-free-storage/index.ts'
import { readDescriptor } from '../../log-store/data-directory.ts'
import { backupDataDirectory } from '../../log-store/data-directory-backup.ts'
import { DESCRIPTOR_FILE } from '../../log-store/descriptor.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { jsonText } from '../json-text.ts'
import { requireLogs } from '../log-paths.ts'
import { bytesText } from '../notes.ts'
import { printable } from '../text-table.ts'
import { watchedEnvironment } from '../watched-environment.ts'

interface BackupFlags {
  out: string
  copy?: boolean
  json?: boolean
}

export function addBackup(program: Command, context: CommandContext): void {
  program
    .command('backup')
    .description('copy a data directory or one log, also beside a running daemon; only reads what it copies')
    .argument('<path>', "a data directory or one log's directory")
    .requiredOption('--out <DIR>', 'where the copy goes: a directory that does not exist or is empty')
    .option('--copy', 'copy every file; without it, finished files are hard links where possible')
    .option('--json', 'one JSON object: {"path","out","dataDirectory","logs":[{"path","out","logId",...}]}')
    .addHelpText(
      'after',
      `
The copy is a data directory (or a log) of its own, with new log ids: check it and start it like any other.
A hard link is no second copy of the bytes: take another disk, or --copy, against the loss of the disk.
${examples('tidelog backup ./data --out ./backup', 'tidelog verify ./backup', 'tidelog serve --data ./backup')}`,
    )
    .action((path: string, flags: BackupFlags) => runBackup(path, flags, context))
}

async function runBackup(given: string, flags: BackupFlags, context: CommandContext): Promise<void> {
  const path = resolve(given)
  const out = resolve(flags.out)
  let readBytes = 0
  const environment = watchedEnvironment({
    signal: context.interrupt.signal,
    writeBelow: out,
    onRead: (bytes) => {
      readBytes += bytes
      context.notes.progress(() => `${bytesText(readBytes)} read`)
    },
  })
  const { copy } = flags
  const isData = (await readDescriptor(environment, path)) !== null
  let logs: BackupReport[]
  if (isData) logs = await backupDataDirectory(environment, path, out, { copy })
  else {
    const [directory, ...more] = await requireLogs(environment, path)
    // A folder of logs is none that could be opened as one.
    const log = more.length === 0 ? directory! : path
    logs = [
      await backupLog(environment, log, out, { copy, leaseDirectories: await dataDirectoriesAbove(environment, log) }),
    ]
  }
  context.notes.clearProgress()
  await context.out.write(flags.json ? `${jsonText({ path, out, dataDirectory: isData, logs })}\n` : textOf(logs))
  if (flags.json) return
  context.notes.line(`Check it with: tidelog verify ${printable(flags.out)}`)
  if (isData) context.notes.line(`Start it with: tidelog serve --data ${printable(flags.out)}`)
}

/** A pchannel's ticks are bounded by the lease of its data directory. */
async function dataDirectoriesAbove(environment: Environment, log: string): Promise<string[]> {
  const above: string[] = []
  for (const directory of [dirname(log), dirname(dirname(log))]) {
    if (environment.disk.existsSync(`${directory}/${DESCRIPTOR_FILE}`)) above.push(directory)
  }
  return above
}

function textOf(logs: readonly BackupReport[]): string {
  const lines = logs.map((log) => {
    const { firstLsn, lastLsn, linkedFiles, copiedFiles, copiedBytes } = log
    const lsns = lastLsn === null ? 'no record' : `LSN ${firstLsn} to ${lastLsn}`
    const files = `${linkedFiles} files linked, ${copiedFiles} copied (${bytesText(copiedBytes)})`
    return `${printable(log.out)}: ${lsns}, ${files}, copy of ${log.originLogId} as ${log.logId}`
  })
  return `${lines.join('\n')}\n`
}
