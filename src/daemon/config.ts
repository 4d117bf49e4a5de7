/**
 * Loads the daemon's configuration: flag > environment (TIDELOG_...) > YAML file > default, and remembers where each
 * value came from. An unknown key is an error with the near names, never ignored.
 */
import { readFile } from 'node:fs/promises'
import { parse as parseYaml, YAMLParseError } from 'yaml'
import { TidelogError } from '../errors.ts'
import { type ConfigKey, type DaemonConfig, environmentName, formatValue, type Setting, settings } from './settings.ts'
import { isLoopbackHost, nearNames } from './units.ts'

export type ConfigSource = 'flag' | 'environment' | 'file' | 'default'

export interface ConfigOrigin {
  source: ConfigSource
  /** `--listen`, `TIDELOG_LISTEN`, `/etc/tidelog.yaml: listen`; empty for a default. */
  name: string
}

export interface LoadedConfig {
  config: DaemonConfig
  /** In the order of the settings table. */
  entries: readonly { name: string; key: ConfigKey; value: string; origin: ConfigOrigin }[]
}

export interface ConfigSources {
  /** By setting name (`write-mode`); undefined ones are left out. */
  flags?: Readonly<Record<string, string | undefined>>
  /** Path of the YAML file. Default: what TIDELOG_CONFIG names; none without it. */
  file?: string | undefined
  /** Default: the process's. */
  environment?: Readonly<Record<string, string | undefined>>
}

/** Names of the environment that belong to Tidelog and are no settings of the daemon. */
const OTHER_ENVIRONMENT = new Set(['TIDELOG_CONFIG', 'TIDELOG_SERVER', 'TIDELOG_BUDGET', 'TIDELOG_RUNS'])
/** What container orchestrators set for a service that is called tidelog, and what tests set. */
const FOREIGN_ENVIRONMENT = /^TIDELOG_(TEST_.+|SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP)(_.+)?)?)$/
/** A configuration is small: a wrong path must not read a log. */
const FILE_BYTES_MAX = 1024 * 1024

/**
 * @throws TidelogError CONFIG_INVALID (unknown key, wrong type or unit, out of bounds, unreadable file) or
 *   HOST_NOT_LOOPBACK. The message names the source, what is wrong and what would be right.
 */
export async function loadConfig(sources: ConfigSources = {}): Promise<LoadedConfig> {
  const environment = sources.environment ?? process.env
  const filePath = sources.file ?? environment.TIDELOG_CONFIG
  const fromFile = filePath === undefined ? new Map<string, string>() : await readConfigFile(filePath)
  const flags = sources.flags ?? {}
  refuseUnknown(Object.keys(flags), settingNames(), (name) => `--${name}`)
  refuseUnknownEnvironment(environment)

  const values: Partial<Record<ConfigKey, unknown>> = {}
  const origins: ConfigOrigin[] = []
  for (const setting of settings) {
    const { text, origin } = pick(setting, flags, environment, fromFile, filePath ?? '')
    values[setting.key] = parseValue(setting, text, origin)
    origins.push(origin)
  }
  // Every key of the interface stands in the table (a test compares them).
  const config = values as unknown as DaemonConfig
  for (const setting of settings) refuseOpenHost(setting, config, origins[settings.indexOf(setting)]!)
  const entries = settings.map((setting, index) => ({
    name: setting.name,
    key: setting.key,
    value: formatValue(setting, config),
    origin: origins[index]!,
  }))
  return { config, entries }
}

function settingNames(): string[] {
  return settings.map((setting) => setting.name)
}

function pick(
  setting: Setting,
  flags: Readonly<Record<string, string | undefined>>,
  environment: Readonly<Record<string, string | undefined>>,
  fromFile: ReadonlyMap<string, string>,
  filePath: string,
): { text: string; origin: ConfigOrigin } {
  const flag = flags[setting.name]
  if (flag !== undefined) return { text: flag, origin: { source: 'flag', name: `--${setting.name}` } }
  const name = environmentName(setting)
  const variable = environment[name]
  // Set to nothing is how shells say unset.
  if (variable !== undefined && variable !== '') return { text: variable, origin: { source: 'environment', name } }
  const text = fromFile.get(setting.name)
  if (text !== undefined) return { text, origin: { source: 'file', name: `${filePath}: ${setting.name}` } }
  return { text: setting.byDefault, origin: { source: 'default', name: '' } }
}

function parseValue(setting: Setting, text: string, origin: ConfigOrigin): unknown {
  const parsed = setting.parse(text)
  if ('reason' in parsed) throw invalid(`${origin.name} is "${text}": ${parsed.reason}.`)
  return parsed.value
}

function refuseOpenHost(setting: Setting, config: DaemonConfig, origin: ConfigOrigin): void {
  if (setting.key !== 'listen' && setting.key !== 'http') return
  const address = config[setting.key]
  if (address === null || isLoopbackHost(address.host)) return
  throw new TidelogError(
    'HOST_NOT_LOOPBACK',
    `${origin.name} names ${address.host}, which others can reach. Connections are neither encrypted nor authenticated, so only loopback is allowed: 127.0.0.1, ::1 or localhost.`,
  )
}

function refuseUnknown(names: readonly string[], known: readonly string[], show: (name: string) => string): void {
  const isKnown = new Set(known)
  for (const name of names) {
    if (isKnown.has(name)) continue
    const near = nearNames(name, known)
    const hint =
      near.length > 0 ? `Did you mean ${near.map(show).join(' or ')}?` : `Known: ${known.map(show).join(', ')}.`
    throw invalid(`${show(name)} is not a setting. ${hint}`)
  }
}

function refuseUnknownEnvironment(environment: Readonly<Record<string, string | undefined>>): void {
  const known = settings.map(environmentName)
  const names = Object.keys(environment).filter(
    (name) => name.startsWith('TIDELOG_') && !OTHER_ENVIRONMENT.has(name) && !FOREIGN_ENVIRONMENT.test(name),
  )
  refuseUnknown(names, known, (name) => name)
}

/** The file's values as text by setting name. */
async function readConfigFile(path: string): Promise<Map<string, string>> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (cause) {
    throw invalid(`the configuration file ${path} cannot be read (${(cause as NodeJS.ErrnoException).code}).`, cause)
  }
  if (bytes.length > FILE_BYTES_MAX) throw invalid(`${path} has ${bytes.length} bytes; that is no configuration file.`)
  let content: unknown
  try {
    // `maxAliasCount` 0: an alias cannot make a small file large.
    content = parseYaml(bytes.toString('utf8'), { maxAliasCount: 0, uniqueKeys: true, schema: 'core' })
  } catch (cause) {
    const line = cause instanceof YAMLParseError ? cause.linePos?.[0].line : undefined
    throw invalid(`${path}${line === undefined ? '' : `, line ${line}`}: ${(cause as Error).message}`, cause)
  }
  const values = new Map<string, string>()
  if (content === null || content === undefined) return values
  if (typeof content !== 'object' || Array.isArray(content)) throw invalid(`${path} has to hold keys and values.`)
  refuseUnknown(Object.keys(content), settingNames(), (name) => `${name} (in ${path})`)
  for (const [name, value] of Object.entries(content)) {
    if (value === null) continue
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw invalid(
        `${path}: ${name} is ${Array.isArray(value) ? 'a list' : `a ${typeof value}`}; it has to be text or a number.`,
      )
    }
    values.set(name, String(value))
  }
  return values
}

function invalid(message: string, cause?: unknown): TidelogError<'CONFIG_INVALID'> {
  return new TidelogError('CONFIG_INVALID', message, { cause })
}
