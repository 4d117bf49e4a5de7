/** `describe`: what one log or every log of a data directory consists of, from manifests and headers. */
import type { Command } from 'commander'
import { describe, type LogDescription, type SegmentDescription } from '../../../native-free-storage/index.ts'
import { readDescriptor } from '../../log-store/data-directory.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { jsonText } from '../json-text.ts'
import { requireLogs } from '../log-paths.ts'
import { bytesText } from '../notes.ts'
import { printable, textTable } from '../text-table.ts'
import { isoOfTick } from '../wall-time.ts'
import { watchedEnvironment } from '../watched-environment.ts'

export function addDescribe(program: Command, context: CommandContext): void {
  program
    .command('describe')
    .description('show what a data directory or one log consists of, also beside a running daemon; never writes')
    .argument('<path>', "a data directory or one log's directory")
    .option('--json', 'one JSON object: {"path","dataDirectory","logs":[{...,"segments":[...]}]}')
    .addHelpText('after', examples('tidelog describe ./data', 'tidelog describe ./data/pchannels/0 --json'))
    .action((path: string, options: { json?: boolean }) => runDescribe(path, options, context))
}

async function runDescribe(path: string, { json }: { json?: boolean }, context: CommandContext): Promise<void> {
  const environment = watchedEnvironment({ signal: context.interrupt.signal })
  const directories = await requireLogs(environment, path)
  const dataDirectory = await readDescriptor(environment, path)
  const logs: LogDescription[] = []
  for (const directory of directories) logs.push(await describe(environment, directory))
  if (json) {
    await context.out.write(`${jsonText({ path, dataDirectory, logs })}\n`)
    return
  }
  if (dataDirectory !== null) {
    const { pchannels, durability, createdMs } = dataDirectory
    const created = new Date(createdMs).toISOString()
    await context.out.write(
      `data directory ${printable(path)}: ${pchannels} pchannels, durability ${durability}, created ${created}\n\n`,
    )
  }
  for (const [index, log] of logs.entries()) await context.out.write(`${index === 0 ? '' : '\n'}${logText(log)}`)
}

function logText(log: LogDescription): string {
  const { logId, generation, durability, ownerTerm, incarnation, firstLsn, nextLsn, provenNextLsn } = log
  const state = log.writerRunning ? 'open for writing' : log.closed ? 'closed' : 'not closed'
  const proven = provenNextLsn !== nextLsn ? `, proven below ${provenNextLsn ?? '?'}` : ''
  const lines = [
    `log ${printable(log.path)} (${state})`,
    `  id ${logId ?? '?'}, manifest ${generation ?? '?'}, durability ${durability ?? '?'}, ` +
      `term ${ownerTerm ?? '?'}, incarnation ${incarnation ?? '?'}`,
    ...log.origins.slice(-1).map((origin) => `  copy of ${origin.logId}, its own from LSN ${origin.forkLsn} on`),
    `  LSN ${firstLsn ?? '?'} to below ${nextLsn ?? '?'}${proven}`,
    ...(log.quarantinedBytes > 0
      ? [`  quarantine: ${bytesText(log.quarantinedBytes)}, which nothing removes but you`]
      : []),
    ...log.quarantined.map((name) => `  quarantined: ${printable(name)}`),
    ...log.findings.map(({ severity, code, message }) => `  ${severity} ${code}: ${printable(message)}`),
  ]
  const header = ['SEGMENT', 'BASE LSN', 'NEXT LSN', 'DATA', 'FILE', 'INDEX', 'TERM', 'BASE TIME']
  const table = log.segments.length === 0 ? '  no segments\n' : indented(textTable(header, log.segments.map(rowOf)))
  return `${lines.join('\n')}\n${table}`
}

function rowOf(segment: SegmentDescription): (string | number)[] {
  const { file, baseLsn, nextLsn, end, fileBytes, hasIndex, ownerTerm, incarnation, baseTimeTick } = segment
  return [
    file,
    baseLsn,
    nextLsn ?? '?',
    end === null ? '?' : bytesText(end),
    bytesText(fileBytes),
    hasIndex ? 'yes' : 'no',
    `${ownerTerm ?? '?'}/${incarnation ?? '?'}`,
    baseTimeTick === null ? '?' : isoOfTick(baseTimeTick),
  ]
}

function indented(text: string): string {
  return text.replace(/^(?=.)/gm, '  ')
}
