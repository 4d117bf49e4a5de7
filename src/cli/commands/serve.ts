/** `serve`: the daemon. Says where it listens and what to type next; signals end it. */
import { basename, relative } from 'node:path'
import type { Command } from 'commander'
import type { Daemon } from '../../daemon/daemon.ts'
import { stopOnSignals } from '../../daemon/signals.ts'
import { formatHostPort } from '../../daemon/units.ts'
import { createLogger } from '../../observability/logger.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { addDaemonFlags, loadDaemonConfig } from '../daemon-flags.ts'
import { ExitCode } from '../exit-codes.ts'
import { defaultServer } from '../server-address.ts'

export function addServe(program: Command, context: CommandContext): void {
  const serve = program
    .command('serve')
    .description('start the daemon: a durable log for many producers and consumers')
    .option('--json', 'say where it listens as one line of JSON')
    .addHelpText(
      'after',
      `
Every setting can also stand in the environment (--write-mode as TIDELOG_WRITE_MODE) or in the file of --config.
Port 0 takes a free one. SIGTERM and Ctrl-C drain and stop; a second one stops at once.
${examples(
  'tidelog serve',
  'tidelog serve --data /var/lib/tidelog --socket /run/tidelog.sock --retention-age 7d',
  'tidelog serve --listen 127.0.0.1:0 --http none --json',
)}`,
    )
  addDaemonFlags(serve).action((options: Record<string, unknown>) => runServe(options, context))
}

async function runServe(options: Record<string, unknown>, context: CommandContext): Promise<void> {
  const { config } = await loadDaemonConfig(options, context.environment)
  const { logLevel: level, logFormat: format } = config
  const logger = createLogger({ level, format, write: (line) => context.notes.line(line) })
  // Loaded only here: the other commands start without the daemon's parts.
  const { startDaemon } = await import('../../daemon/daemon.ts')
  const daemon = await startDaemon(config, { logger })
  const stopped = stopOnSignals(daemon, logger)
  await context.out.write(options.json ? `${JSON.stringify(whereJson(daemon))}\n` : whereText(daemon))
  context.exitCode = (await stopped) === 0 ? ExitCode.clean : ExitCode.failed
}

/** Everything that a script needs to reach it. */
function whereJson(daemon: Daemon): Record<string, unknown> {
  const { tcp, socket, http } = daemon.addresses
  return {
    listen: `tcp://${formatHostPort(tcp)}`,
    socket: socket === null ? null : `unix:${socket}`,
    http: http === null ? null : `http://${formatHostPort(http)}`,
    data: daemon.data,
    pchannels: daemon.pchannels,
    pid: process.pid,
  }
}

function whereText(daemon: Daemon): string {
  const { tcp, socket, http } = daemon.addresses
  const address = `tcp://${formatHostPort(tcp)}`
  const program = programName(process.argv[1])
  const server = address === defaultServer ? '' : ` --server ${address}`
  const lines = [
    `Tidelog listens on ${address}${socket === null ? '' : ` and unix:${socket}`}`,
    `  data    ${daemon.data} (${daemon.pchannels} pchannels)`,
    ...(http === null ? [] : [`  health  http://${formatHostPort(http)}/readyz, /health/data and /metrics`]),
    `  write   echo hello | ${program} produce greetings${server}`,
    `  read    ${program} consume greetings${server}`,
    '  stop    Ctrl-C, or SIGTERM',
  ]
  return `${lines.join('\n')}\n`
}

/** How somebody in this directory starts the same program. */
function programName(script: string | undefined): string {
  if (script === undefined || basename(script) === 'tidelog') return 'tidelog'
  return `node ${relative(process.cwd(), script)}`
}
