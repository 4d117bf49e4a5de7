/** `salvage`: every intact record of one log or a data directory, into a new directory; only reads what it salvages. */
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import {
  type Environment,
  type LostRange,
  nodeEnvironment,
  type SalvageReport,
  salvageLog,
} from '../../../native-free-storage/index.ts'
import { kernelLock } from '../../daemon/kernel-lock.ts'
import { DESCRIPTOR_FILE } from '../../log-store/data-directory.ts'
import {
  type DataDirectorySalvage,
  looksLikeDataDirectory,
  salvageDataDirectory,
} from '../../log-store/data-directory-salvage.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { ExitCode } from '../exit-codes.ts'
import { jsonText } from '../json-text.ts'
import { bytesText } from '../notes.ts'
import { printable } from '../text-table.ts'
import { watchedEnvironment } from '../watched-environment.ts'

interface SalvageFlags {
  out: string
  quarantine?: boolean
  json?: boolean
}

/** Ranges and notes that are printed; `--json` has all of them. */
const LINES_MAX = 20

export function addSalvage(program: Command, context: CommandContext): void {
  program
    .command('salvage')
    .description('get every intact record out of a damaged data directory or log, into a new one; only reads PATH')
    .argument('<path>', "a data directory or one log's directory, of which any file may be missing")
    .requiredOption('--out <DIR>', 'where to: a directory that does not exist or is empty')
    .option('--quarantine', 'also take from quarantine/ what is lost otherwise')
    .option(
      '--json',
      'one JSON object: {"records","lost":[{"lsnFrom","lsnTo"}],"files":[...],"snapshots":[...],"assumptions":[...]}',
    )
    .addHelpText(
      'after',
      `
Records keep their LSN, time tick, vchannel, type, properties and payload; what is missing is a gap in the new log.
Exit code 0: nothing was lost. 9: something was; it says which LSNs.
${examples('tidelog salvage ./data --out ./salvaged', 'tidelog verify ./salvaged', 'tidelog serve --data ./salvaged')}`,
    )
    .action((path: string, flags: SalvageFlags) => runSalvage(path, flags, context))
}

async function runSalvage(given: string, flags: SalvageFlags, context: CommandContext): Promise<void> {
  const path = resolve(given)
  const out = resolve(flags.out)
  let readBytes = 0
  const watch = {
    signal: context.interrupt.signal,
    writeBelow: out,
    onRead: (bytes: number) => {
      readBytes += bytes
      context.notes.progress(() => `${bytesText(readBytes)} read`)
    },
  }
  const environment = watchedEnvironment(watch, nodeEnvironment({ kernelLock: kernelLock() }))
  const { quarantine } = flags
  if (await looksLikeDataDirectory(environment, path)) {
    const salvage = await salvageDataDirectory(environment, path, out, { quarantine })
    context.notes.clearProgress()
    await context.out.write(flags.json ? `${jsonText({ path, out, ...salvage })}\n` : textOfData(salvage))
    conclude(salvage.lost.length > 0, `tidelog serve --data ${printable(flags.out)}`, flags, context)
    return
  }
  const leaseDirectory = dataDirectoryAbove(environment, path)
  const report = await salvageLog(environment, path, out, { quarantine, leaseDirectory })
  context.notes.clearProgress()
  await context.out.write(flags.json ? `${jsonText(report)}\n` : textOf(printable(out), report))
  conclude(report.lost.length > 0, null, flags, context)
}

/** A pchannel's ticks are bounded by the lease of its data directory. */
function dataDirectoryAbove(environment: Environment, log: string): string | undefined {
  const above = [dirname(log), dirname(dirname(log))]
  return above.find((directory) => environment.disk.existsSync(`${directory}/${DESCRIPTOR_FILE}`))
}

function conclude(isLost: boolean, start: string | null, flags: SalvageFlags, context: CommandContext): void {
  if (isLost) context.exitCode = ExitCode.dataLost
  if (flags.json) return
  context.notes.line(`Check it with: tidelog verify ${printable(flags.out)}`)
  if (start !== null) context.notes.line(`Start it with: ${start}`)
}

function textOfData({ logs, assumptions, lost }: DataDirectorySalvage): string {
  const parts = logs.map((log) => textOf(log.log, log))
  parts.push(...assumptions.map((text) => `assumed: ${printable(text)}\n`))
  parts.push(lost.length === 0 ? 'Nothing was lost.\n' : 'Something was lost.\n')
  return parts.join('')
}

function textOf(
  name: string,
  {
    records,
    lost,
    lostOmitted,
    files,
    snapshots,
    assumptions,
  }: Pick<SalvageReport, 'records' | 'lost' | 'lostOmitted' | 'files' | 'snapshots' | 'assumptions'>,
): string {
  const used = files.filter(({ state }) => state === 'used').length
  const lines = [`${name}: ${records} records from ${used} of ${files.length} files`]
  lines.push(...lost.slice(0, LINES_MAX).map((range) => `  lost: ${rangeText(range)}`))
  const more = lost.length - LINES_MAX + lostOmitted
  if (more > 0) lines.push(`  and ${more} more ranges`)
  for (const { file, state, holes, unreadableBytes } of files) {
    if (state === 'used' && holes === 0 && unreadableBytes === 0) continue
    const unread = unreadableBytes === 0 ? '' : `, ${unreadableBytes} bytes cannot be read`
    lines.push(`  ${printable(file)}: ${state}, ${holes} holes${unread}`)
  }
  for (const { file, state } of snapshots) lines.push(`  ${file}: ${snapshotWords[state]}`)
  lines.push(...assumptions.slice(0, LINES_MAX).map((text) => `  assumed: ${printable(text)}`))
  return `${lines.join('\n')}\n`
}

const snapshotWords: Readonly<Record<SalvageReport['snapshots'][number]['state'], string>> = {
  copied: 'copied',
  older: 'left out: two newer ones are copied',
  unplaced: 'left out: what it stands behind was not salvaged',
  restored: 'left out: records below it came back from quarantine/',
  foreign: 'left out: it is of another log',
  damaged: 'left out: it is damaged, or of a later version',
}

function rangeText({ lsnFrom, lsnTo }: LostRange): string {
  return lsnTo === null ? `from LSN ${lsnFrom}, how far is not known` : `LSN ${lsnFrom} to ${lsnTo}`
}
