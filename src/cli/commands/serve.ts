/** `serve`: the daemon. Says where it listens and what to type next; signals end it. */
import type { Command } from 'commander'
import { type CommandContext, examples } from '../command-context.ts'
import { addDaemonFlags, loadDaemonConfig } from '../daemon-flags.ts'

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
  void config
}
