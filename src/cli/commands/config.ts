/** `config show`: the settings with which `serve` would start, and where each one comes from. */
import type { Command } from 'commander'
import { type CommandContext, examples } from '../command-context.ts'
import { addDaemonFlags, loadDaemonConfig } from '../daemon-flags.ts'
import { textTable } from '../text-table.ts'

export function addConfig(program: Command, context: CommandContext): void {
  const config = program.command('config').description('show the settings of the daemon')
  const show = config
    .command('show')
    .description('print the settings with which `serve` would start, given the same flags, environment and file')
    .option('--origin', 'say where each value comes from: flag, environment, file or default')
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `\nA flag counts more than the environment, that more than the file, that more than the default.\n${examples(
        'tidelog config show --origin',
        'TIDELOG_LISTEN=127.0.0.1:9000 tidelog config show --origin --config tidelog.yaml --json',
      )}`,
    )
  addDaemonFlags(show).action(async (options: Record<string, unknown>) => {
    const { entries } = await loadDaemonConfig(options, context.environment)
    if (options.json) {
      const shown = entries.map(({ name, value, origin }) => [name, { value, origin }] as const)
      await context.out.write(`${JSON.stringify({ settings: Object.fromEntries(shown) })}\n`)
    } else if (options.origin) {
      const rows = entries.map(({ name, value, origin }) => [name, value, origin.source, origin.name])
      await context.out.write(textTable(['SETTING', 'VALUE', 'ORIGIN', 'NAME'], rows))
    } else {
      // As the file would have it: what this prints can be the configuration.
      for (const { name, value } of entries) await context.out.write(`${name}: ${yamlScalar(value)}\n`)
    }
  })
}

function yamlScalar(value: string): string {
  return /^[A-Za-z0-9./_-][A-Za-z0-9./_:-]*$/.test(value) ? value : JSON.stringify(value)
}
