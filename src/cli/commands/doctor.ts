/** `doctor`: looks at the machine, the disk and the data directory, and says what to do. */
import type { Command } from 'commander'
import { nodeEnvironment } from '../../../native-free-storage/index.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { addSettingFlags, loadDaemonConfig } from '../daemon-flags.ts'
import type { DoctorReport } from '../doctor/examine.ts'
import { ExitCode } from '../exit-codes.ts'
import { bytesText } from '../notes.ts'
import { printable, textTable } from '../text-table.ts'

/** The settings that a check looks at. */
const SETTINGS = [
  'data',
  'pchannels',
  'durability',
  'write-mode',
  'write-depth',
  'disk-warn-percent',
  'disk-refuse-percent',
  'disk-warn-free',
  'disk-refuse-free',
  'connections-max',
]

export function addDoctor(program: Command, context: CommandContext): void {
  const doctor = program
    .command('doctor')
    .description(
      'look at the disk, the machine and the data directory, also beside a running daemon, and say what to do',
    )
    .option(
      '--json',
      'one JSON object: {"data","healthy","checks":[...],"latencies":[...],"parallel":[...],"writeWay"}',
    )
    .addHelpText(
      'after',
      `
Measures synced writes for a few seconds in a file of 4 MiB without a name; changes nothing else. Settings also come from
the environment and the file of --config, as for serve. Exit code 1 when a check fails; warnings alone are 0.
docs/OPERATIONS.md lists every check.
${examples('tidelog doctor', 'tidelog doctor --data /var/lib/tidelog', 'tidelog doctor --json | jq \'.checks[] | select(.status != "ok")\'')}`,
    )
  addSettingFlags(doctor, SETTINGS).action((options: Record<string, unknown>) => runDoctor(options, context))
}

async function runDoctor(options: Record<string, unknown>, context: CommandContext): Promise<void> {
  const { config } = await loadDaemonConfig(options, context.environment)
  // Loaded only here: the other commands start without them.
  const [{ examine }, { systemFacts }, { loadFlockAddon }] = await Promise.all([
    import('../doctor/examine.ts'),
    import('../doctor/system-facts.ts'),
    import('../../daemon/kernel-lock.ts'),
  ])
  context.notes.progress(() => 'measuring synced writes ...')
  const report = await examine({
    environment: nodeEnvironment(),
    facts: systemFacts(),
    config,
    hasFlock: loadFlockAddon() !== null,
  })
  context.notes.clearProgress()
  await context.out.write(options.json ? `${JSON.stringify(report)}\n` : textOf(report))
  if (!report.healthy) context.exitCode = ExitCode.failed
}

function textOf({ data, checks, latencies, parallel }: DoctorReport): string {
  const lines = [`data directory ${printable(data)}`]
  const width = Math.max(...checks.map(({ code }) => code.length))
  for (const { code, status, message, next } of checks) {
    lines.push(`${status.padEnd(4)}  ${code.padEnd(width)}  ${printable(message)}`)
    if (next !== undefined) lines.push(`${' '.repeat(width + 8)}next: ${printable(next)}`)
  }
  const tables: string[] = []
  if (latencies.length > 0) {
    const header = ['SYNCED WRITE', 'BYTES', 'SAMPLES', 'MEDIAN MS', 'P99 MS', 'MAX MS']
    const rows = latencies.map(({ mode, bytes, samples, p50Ms, p99Ms, maxMs }) => {
      return [mode, bytes, samples, ...[p50Ms, p99Ms, maxMs].map((ms) => Number(ms.toFixed(3)))]
    })
    tables.push(textTable(header, rows))
  }
  if (parallel.length > 0) {
    const rows = parallel.map(({ depth, bytesPerSecond }) => [depth, `${bytesText(bytesPerSecond)}/s`])
    tables.push(textTable(['IN FLIGHT', '64 KIB WRITES'], rows))
  }
  const count = (status: string): number => checks.filter((check) => check.status === status).length
  const failed = count('fail')
  const end = failed > 0 ? `${failed} failed, ${count('warn')} warnings.` : `${count('warn')} warnings.`
  return `${[`${lines.join('\n')}\n`, ...tables].join('\n')}\n${end}\n`
}
