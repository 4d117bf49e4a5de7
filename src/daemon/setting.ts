/** What a setting of the daemon is, and how the rows of the tables are written. */
import type { ConfigKey, DaemonConfig } from './daemon-config.ts'
import type { Parsed } from './units.ts'

export const KIB = 1024
export const MIB = 1024 * KIB
export const GIB = 1024 * MIB
export const DAY_MS = 86_400_000

export interface Setting<T = unknown> {
  readonly key: ConfigKey
  /** `--name` of the flag, the key in YAML, and, in capitals with underscores, the environment name. */
  readonly name: string
  /** What stands for the value in help: HOST:PORT. */
  readonly placeholder: string
  /** As it would be written. */
  readonly byDefault: string
  readonly description: string
  parse(text: string): Parsed<T>
}

/** Stands for null where a setting can be switched off. */
export const NONE = 'none'
/** Stands for null where the daemon finds the value out. */
export const AUTO = 'auto'

export function orWord<T>(word: string, parse: (text: string) => Parsed<T>): (text: string) => Parsed<T | null> {
  return (text) => {
    if (text === word) return { value: null }
    const parsed = parse(text)
    return 'reason' in parsed ? { reason: `${parsed.reason}, or ${word}` } : parsed
  }
}

export function between(
  parse: (text: string) => Parsed<number>,
  least: number,
  most: number,
  shown: string,
): (text: string) => Parsed<number> {
  return (text) => {
    const parsed = parse(text)
    if ('reason' in parsed) return { reason: `${parsed.reason}, ${shown}` }
    return parsed.value < least || parsed.value > most ? { reason: `it has to be ${shown}` } : parsed
  }
}

export function path(text: string): Parsed<string> {
  if (text === '' || text.includes('\0')) return { reason: 'it has to be a path' }
  return { value: text }
}

export function setting<K extends ConfigKey>(
  key: K,
  name: string,
  placeholder: string,
  byDefault: string,
  parse: (text: string) => Parsed<DaemonConfig[K]>,
  description: string,
): Setting<DaemonConfig[K]> {
  return { key, name, placeholder, byDefault, parse, description }
}
