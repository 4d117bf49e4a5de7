/** The daemon's settings as flags of a command: `serve` and `config show` take the same ones. */
import { type Command, Option } from 'commander'
import type { LoadedConfig } from '../daemon/config.ts'
import { settings } from '../daemon/settings.ts'

export function addDaemonFlags(command: Command): Command {
  return addSettingFlags(
    command,
    settings.map(({ name }) => name),
  )
}

/** Of the settings with these names; `--config` belongs to them. */
export function addSettingFlags(command: Command, names: readonly string[]): Command {
  for (const { name, placeholder, byDefault, description } of settings) {
    if (!names.includes(name)) continue
    command.addOption(new Option(`--${name} <${placeholder}>`, `${description} (default: ${byDefault})`))
  }
  return command.option('--config <FILE>', 'YAML file of settings (default: TIDELOG_CONFIG, else none)')
}

/**
 * The configuration that the flags, the environment and the file give together. Throws CONFIG_INVALID or
 * HOST_NOT_LOOPBACK.
 */
export async function loadDaemonConfig(
  options: Readonly<Record<string, unknown>>,
  environment: NodeJS.ProcessEnv,
): Promise<LoadedConfig> {
  const flags: Record<string, string | undefined> = {}
  for (const { name } of settings) flags[name] = options[camelCase(name)] as string | undefined
  // Loaded only here: the other commands start without a reader of YAML.
  const { loadConfig } = await import('../daemon/config.ts')
  return loadConfig({ flags, file: options.config as string | undefined, environment })
}

/** How commander names the value of a flag. */
function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
}
