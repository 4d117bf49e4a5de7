/** `repair`: makes damaged logs open again, or says what it would do; and takes the last repair back. */
import { relative } from 'node:path'
import { type Command, Option } from 'commander'
import {
  acquireLock,
  type Environment,
  exitCodeOf,
  type LogVerification,
  nodeEnvironment,
  type RepairMode,
  type RepairReport,
  repairLog,
  type UndoReport,
  undoRepair,
  verifyLog,
} from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { checkDataDirectory } from '../data-directory-check.ts'
import { ExitCode } from '../exit-codes.ts'
import { jsonText } from '../json-text.ts'
import { requireLogs } from '../log-paths.ts'
import { type DirectoryRepair, pchannelLogs, repairDataDirectory } from '../repair-data-directory.ts'
import { type RepairSummary, repairText, undoText } from '../repair-text.ts'
import { watchedEnvironment } from '../watched-environment.ts'

interface RepairFlags {
  apply?: boolean
  undo?: boolean
  mode: RepairMode
  json?: boolean
}

export function addRepair(program: Command, context: CommandContext): void {
  program
    .command('repair')
    .description('make a damaged data directory or log open again; without --apply it only says what it would do')
    .argument('<path>', "a data directory or one log's directory")
    .option('--apply', 'do it')
    .addOption(
      new Option('--mode <mode>', 'tail: all that is intact stays; point-in-time: the log ends before its first damage')
        .choices(['tail', 'point-in-time'])
        .default('tail'),
    )
    .option('--undo', 'put back what the last repair took out; as long as nothing was written since')
    .option('--json', 'one JSON object: {"path","mode","applied","actions":[...],"lost":[...],...}')
    .addHelpText(
      'after',
      `
Nothing is deleted and no record gets another LSN: what is taken out goes to quarantine/, what is lost becomes a gap.
Stop the daemon first. Exit code without --apply: 0 nothing to repair, 8 damaged, 9 acknowledged data is lost; with it:
0 sound now, 1 not. docs/OPERATIONS.md, "Damage and repair", says what to type when.
${examples('tidelog repair ./data', 'tidelog repair ./data --apply', 'tidelog repair ./data --undo --apply')}`,
    )
    .action(async (path: string, flags: RepairFlags) => {
      if (flags.undo) await runUndo(path, flags, context)
      else await runRepair(path, flags, context)
    })
}

async function runRepair(path: string, flags: RepairFlags, context: CommandContext): Promise<void> {
  const { mode, apply = false, json = false } = flags
  const reading = watchedEnvironment({ signal: context.interrupt.signal })
  const environment = apply ? nodeEnvironment() : reading
  const root = withoutSlash(path)
  const logs = await requireLogs(reading, root)
  const pchannels = pchannelLogs(root, logs)
  const before = await damageOf(reading, root, logs)
  const lock = apply && pchannels !== null ? await acquireLock(environment, root) : null
  const runMs = Date.now()
  const reports: RepairReport[] = []
  let whole: DirectoryRepair | null = null
  try {
    // All of them first: where one cannot be repaired, none is.
    if (apply) for (const log of logs) await repairLog(reading, log, { apply: false, mode })
    for (const log of logs) {
      context.notes.progress(() => `${log}: ${apply ? 'repairing' : 'looking'}`)
      reports.push(await repairLog(environment, log, { apply, mode, runMs }))
    }
    if (pchannels !== null) whole = await repairDataDirectory(environment, root, pchannels, reports, apply)
  } finally {
    await lock?.release()
  }
  context.notes.clearProgress()
  const after = apply ? await damageOf(reading, root, await requireLogs(reading, root)) : before
  const summary = summarize(root, mode, reports, whole, apply)
  summary.sound = after === ExitCode.clean
  await context.out.write(
    json ? `${jsonText(jsonOf(summary, logs.length === 1 && pchannels === null))}\n` : repairText(summary, before),
  )
  context.exitCode = apply ? (summary.sound ? ExitCode.clean : ExitCode.failed) : before
}

async function runUndo(path: string, flags: RepairFlags, context: CommandContext): Promise<void> {
  const { apply = false, json = false } = flags
  const reading = watchedEnvironment({ signal: context.interrupt.signal })
  const root = withoutSlash(path)
  const logs = await requireLogs(reading, root)
  const found: UndoReport[] = []
  let refusal: TidelogError | null = null
  for (const log of logs) {
    try {
      found.push(await undoRepair(reading, log, { apply: false }))
    } catch (error) {
      if (!(error instanceof TidelogError) || error.code !== 'UNDO_REFUSED') throw error
      refusal ??= error
    }
  }
  // The logs of a data directory that were repaired together.
  const lastMs = Math.max(...found.map(({ runMs }) => runMs))
  const last = found.filter(({ runMs }) => runMs === lastMs)
  if (last.length === 0) throw refusal!
  const reports: UndoReport[] = []
  for (const report of last) {
    reports.push(apply ? await undoRepair(nodeEnvironment(), report.path, { apply: true }) : report)
  }
  const undone = { path: root, applied: apply, logs: reports }
  await context.out.write(json ? `${jsonText(undone)}\n` : undoText(undone))
}

function withoutSlash(path: string): string {
  return path.length > 1 ? path.replace(/(?<=.)\/+$/, '') : path
}

/** What `verify` says. */
async function damageOf(environment: Environment, path: string, logs: readonly string[]): Promise<0 | 8 | 9> {
  const verified: LogVerification[] = []
  for (const log of logs) verified.push(await verifyLog(environment, log))
  verified.push(...(await checkDataDirectory(environment, path, verified)))
  return exitCodeOf({ clean: false, logs: verified })
}

function summarize(
  path: string,
  mode: RepairMode,
  reports: readonly RepairReport[],
  whole: DirectoryRepair | null,
  apply: boolean,
): RepairSummary {
  const summary: RepairSummary = {
    path,
    mode,
    applied: apply,
    actions: [],
    lost: [],
    skipped: [],
    assumptions: [],
    quarantined: [],
    nextLsn: reports.length === 1 ? reports[0]!.nextLsn : null,
    sound: false,
    logs: [...reports],
  }
  for (const report of reports) {
    const log = relative(path, report.path)
    const inLog = (name: string): string => (log === '' ? name : `${log}/${name}`)
    for (const action of report.actions) summary.actions.push({ ...action, file: inLog(action.file) })
    for (const range of report.lost) summary.lost.push(log === '' ? range : { log, ...range })
    for (const range of report.skipped) summary.skipped.push(log === '' ? range : { log, ...range })
    for (const assumption of report.assumptions)
      summary.assumptions.push(log === '' ? assumption : `${log}: ${assumption}`)
    for (const name of report.quarantined) summary.quarantined.push(inLog(`quarantine/${name}`))
  }
  summary.actions.push(...(whole?.actions ?? []))
  summary.assumptions.push(...(whole?.assumptions ?? []))
  return summary
}

/** Of one log the report alone; of a data directory the totals, with the reports of its logs. */
function jsonOf(summary: RepairSummary, isLog: boolean): object {
  const { logs, ...totals } = summary
  if (!isLog) return summary
  const { damage, findings } = logs[0]!
  return { ...totals, damage, findings }
}
