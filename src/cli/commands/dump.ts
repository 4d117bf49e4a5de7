/** `dump`: the frames and records of one log or of a data directory as they stand in the files; never writes. */
import type { Command } from 'commander'
import { type DumpedFrame, type DumpFilter, dump } from '../../../native-free-storage/index.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { frameJson, frameText, recordJson, recordText } from '../dump-lines.ts'
import { ExitCode } from '../exit-codes.ts'
import { requireLogs } from '../log-paths.ts'
import { intersect, type LsnRange, parseLsnRange, parseTickRange, parseTimeRange, type TickRange } from '../ranges.ts'
import { FrameWords } from '../record-words.ts'
import { printable } from '../text-table.ts'
import { parseCount } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'
import { watchedEnvironment } from '../watched-environment.ts'

interface DumpOptions {
  lsn?: LsnRange
  tick?: TickRange
  time?: TickRange
  vchannel?: string[]
  type?: number[]
  headers?: boolean
  hex?: boolean
  json?: boolean
}

const typeMax = 65_535

export function addDump(program: Command, context: CommandContext): void {
  const vchannel = (text: string, before: string[] = []) => {
    requireVchannelName(text)
    return [...before, text]
  }
  const type = (text: string, before: number[] = []) => [...before, parseCount(text, '--type', typeMax)]
  program
    .command('dump')
    .description('print frames and records with their file and position, also beside a running daemon; never writes')
    .argument('<path>', "a data directory or one log's directory")
    .option('--lsn <A..B>', 'only these LSNs; both ends belong to it, either may be left out', parseLsnRange)
    .option('--tick <A..B>', 'only these time ticks', parseTickRange)
    .option('--time <FROM..TO>', 'only what was written between two ISO times', parseTimeRange)
    .option('--vchannel <NAME>', 'only this vchannel; may be repeated', vchannel)
    .option('--type <N>', 'only this type; may be repeated', type)
    .option('--headers', 'frames only, without their records')
    .option('--hex', 'payloads in hex')
    .option('--json', 'one JSON object a record, or a frame that holds none; payloads as `consume --json` has them')
    .addHelpText(
      'after',
      `
Damaged frames are printed with what is wrong; the exit code is then 1, and \`verify\` says what it means.
${examples(
  'tidelog dump ./data --vchannel orders --lsn 100..199',
  'tidelog dump ./data/pchannels/0 --headers',
  'tidelog dump ./data --time 2026-01-31T12:00:00Z.. --json | jq .properties',
)}`,
    )
    .action((path: string, options: DumpOptions) => runDump(path, options, context))
}

async function runDump(path: string, options: DumpOptions, context: CommandContext): Promise<void> {
  const environment = watchedEnvironment({ signal: AbortSignal.any([context.interrupt.signal, context.out.gone]) })
  const logs = await requireLogs(environment, path)
  const filter = filterOf(options)
  if (filter === null) return
  let damagedCount = 0
  try {
    for (const [index, log] of logs.entries()) {
      if (!options.json) await context.out.write(`${index === 0 ? '' : '\n'}log ${printable(log)}\n`)
      for await (const frame of dump(environment, log, filter)) {
        if (context.out.gone.aborted) return
        if (frame.faults.length > 0) damagedCount++
        await writeFrame(log, frame, options, context)
      }
    }
  } catch (error) {
    if (!context.out.gone.aborted) throw error
  }
  if (damagedCount === 0) return
  context.notes.line(`note: ${damagedCount} damaged; run "tidelog verify" on the path to see what that means`)
  context.exitCode = ExitCode.failed
}

async function writeFrame(
  log: string,
  frame: DumpedFrame,
  options: DumpOptions,
  context: CommandContext,
): Promise<void> {
  const { out } = context
  const { json, hex } = options
  const words = frame.records === null ? null : new FrameWords(frame.records)
  if (!json) await out.write(frameText(frame, words?.voidCount ?? 0))
  else if (frame.records === null) await out.write(`${frameJson(log, frame)}\n`)
  if (frame.records === null || words === null) return
  for (const record of frame.records) {
    const meaning = words.of(record)
    const line = json ? `${recordJson(log, frame, record, meaning)}\n` : recordText(record, hex === true, meaning)
    const behind = out.write(line)
    if (behind !== undefined) await behind
  }
}

/** Null: nothing can pass. */
function filterOf({ lsn, tick, time, vchannel, type, headers }: DumpOptions): DumpFilter | null {
  const ticks = intersect(tick, time)
  if (ticks === null) return null
  return {
    lsnFrom: lsn?.from,
    lsnTo: lsn?.to,
    tickFrom: ticks?.from,
    tickTo: ticks?.to,
    vchannels: vchannel,
    types: type,
    headersOnly: headers,
  }
}
