/**
 * Every setting of the daemon: one row each, from which flags, environment names, YAML keys, `config show` and the
 * table in docs/OPERATIONS.md come.
 */
import { logFormats, logLevels } from '../observability/logger.ts'
import type { ConfigKey, DaemonConfig } from './daemon-config.ts'
import { AUTO, between, DAY_MS, GIB, KIB, MIB, NONE, orWord, path, type Setting, setting } from './setting.ts'
import { formatHostPort, parseBytes, parseChoice, parseDuration, parseHostPort, parseInteger } from './units.ts'
import { walSettings } from './wal-settings.ts'

export type { ConfigKey, DaemonConfig } from './daemon-config.ts'
export type { Setting } from './setting.ts'

export const settings: readonly Setting[] = [
  setting('data', 'data', 'DIR', './data', path, 'Directory of the data; created with mode 0700.'),
  setting('listen', 'listen', 'HOST:PORT', '127.0.0.1:7420', parseHostPort, 'Where producers and consumers connect.'),
  setting(
    'socket',
    'socket',
    'PATH',
    NONE,
    orWord(NONE, path),
    'Unix socket for producers and consumers, mode 0600, at most 107 bytes.',
  ),
  setting(
    'http',
    'http',
    'HOST:PORT',
    '127.0.0.1:7421',
    orWord(NONE, parseHostPort),
    'Health and metrics over HTTP; `none` switches it off.',
  ),
  setting(
    'pchannels',
    'pchannels',
    'N',
    AUTO,
    orWord(AUTO, between(parseInteger, 1, 1024, 'from 1 to 1024')),
    'Number of logs in the data directory, fixed when it is created; `auto` is what the directory has, and 4 for a new one.',
  ),
  setting(
    'writeMode',
    'write-mode',
    'dsync|fdatasync',
    AUTO,
    orWord(AUTO, (text) => parseChoice(text, ['dsync', 'fdatasync'])),
    'How flushes reach the disk; `auto` takes what a probe of at most 1 s finds, kept for each device.',
  ),
  setting(
    'writeDepth',
    'write-depth',
    'N',
    AUTO,
    orWord(AUTO, between(parseInteger, 1, 16, 'from 1 to 16')),
    'Synced writes in flight for each log; `auto` takes what the probe finds.',
  ),
  setting(
    'durability',
    'durability',
    'disk|os',
    'disk',
    (text) => parseChoice(text, ['disk', 'os']),
    'When a record is acknowledged: synced to disk, or handed to the operating system. Fixed for each log when it is created.',
  ),
  setting(
    'segmentBytes',
    'segment-bytes',
    'BYTES',
    '64MiB',
    between(parseBytes, 64 * KIB, GIB, 'from 64KiB to 1GiB'),
    'Full size of a log segment.',
  ),
  setting(
    'cacheBytes',
    'cache-bytes',
    'BYTES',
    '64MiB',
    between(parseBytes, 0, 64 * GIB, 'from 0 to 64GiB'),
    'Write-ahead cache of the newest frames, shared by all logs.',
  ),
  setting(
    'poolBytes',
    'pool-bytes',
    'BYTES',
    '256MiB',
    between(parseBytes, 0, 64 * GIB, 'from 0 to 64GiB'),
    'Bound of the files that lie prepared for the logs.',
  ),
  setting(
    'queueBytes',
    'queue-bytes',
    'BYTES',
    '64MiB',
    between(parseBytes, 4 * KIB, 16 * GIB, 'from 4KiB to 16GiB'),
    'Bytes that may wait for the disk in each log before producers are held back.',
  ),
  setting(
    'recordBytesMax',
    'record-bytes-max',
    'BYTES',
    '16MiB',
    between(parseBytes, 1, 256 * MIB, 'from 1 to 256MiB'),
    'Largest record: payload and properties together.',
  ),
  setting(
    'retentionBytes',
    'retention-bytes',
    'BYTES',
    NONE,
    orWord(NONE, between(parseBytes, 0, Number.MAX_SAFE_INTEGER, 'not negative')),
    'Bytes that each pchannel keeps: whole segments go from the front beyond it.',
  ),
  setting(
    'retentionAgeMs',
    'retention-age',
    'DURATION',
    NONE,
    orWord(NONE, between(parseDuration, 0, 36_500 * DAY_MS, 'at most 36500d')),
    'A segment goes when its newest record is older.',
  ),
  setting(
    'writeDeadlineMs',
    'write-deadline',
    'DURATION',
    '30s',
    between(parseDuration, 10, 3_600_000, 'from 10ms to 1h'),
    'A write that takes longer is given up; the log goes on in a new segment.',
  ),
  setting(
    'recovery',
    'recovery',
    'tail|strict',
    'tail',
    (text) => parseChoice(text, ['tail', 'strict']),
    'What a start does with the end that a killed daemon left in a log: keep every whole frame, or refuse the log when the end cannot be proven to be whole.',
  ),
  setting(
    'diskWarnPercent',
    'disk-warn-percent',
    'PERCENT',
    '80',
    between(parseInteger, 1, 100, 'from 1 to 100'),
    'Warns when so much of the file system of the data is used, as `df` counts it; 100 is never.',
  ),
  setting(
    'diskRefusePercent',
    'disk-refuse-percent',
    'PERCENT',
    '90',
    between(parseInteger, 1, 100, 'from 1 to 100'),
    'Refuses appends from there on, until there is room again; 100 is never.',
  ),
  setting(
    'diskWarnFreeBytes',
    'disk-warn-free',
    'BYTES',
    NONE,
    orWord(NONE, between(parseBytes, 0, Number.MAX_SAFE_INTEGER, 'not negative')),
    'Warns when no more than this is free, in the place of `disk-warn-percent`; for large disks.',
  ),
  setting(
    'diskRefuseFreeBytes',
    'disk-refuse-free',
    'BYTES',
    NONE,
    orWord(NONE, between(parseBytes, 0, Number.MAX_SAFE_INTEGER, 'not negative')),
    'Refuses appends when no more than this is free, in the place of `disk-refuse-percent`; for large disks.',
  ),
  setting(
    'timeTickIntervalMs',
    'time-tick-interval',
    'DURATION',
    '10ms',
    between(parseDuration, 1, 60_000, 'from 1ms to 1m'),
    'How often consumers are told the watermark.',
  ),
  ...walSettings,
  setting(
    'vchannelsMax',
    'vchannels-max',
    'N',
    '100000',
    between(parseInteger, 1, 10_000_000, 'from 1 to 10000000'),
    'Vchannels that may be created in the data directory.',
  ),
  setting(
    'connectionsMax',
    'connections-max',
    'N',
    '1024',
    between(parseInteger, 1, 100_000, 'from 1 to 100000'),
    'Connections at a time; more are closed at once.',
  ),
  setting(
    'drainTimeoutMs',
    'drain-timeout',
    'DURATION',
    '10s',
    between(parseDuration, 0, 3_600_000, 'at most 1h'),
    'How long a stop waits for what is under way before it stops all the same.',
  ),
  setting(
    'logLevel',
    'log-level',
    'LEVEL',
    'info',
    (text) => parseChoice(text, logLevels),
    `Least important lines that are logged: ${logLevels.join(', ')}.`,
  ),
  setting(
    'logFormat',
    'log-format',
    'text|json',
    'text',
    (text) => parseChoice(text, logFormats),
    'Form of the log lines on stderr.',
  ),
]

/** `write-mode` -> `TIDELOG_WRITE_MODE`. */
export function environmentName(setting: Pick<Setting, 'name'>): string {
  return `TIDELOG_${setting.name.toUpperCase().replaceAll('-', '_')}`
}

/** What a daemon has when nothing is said. */
export function defaultConfig(): DaemonConfig {
  const values: Partial<Record<ConfigKey, unknown>> = {}
  for (const { key, name, byDefault, parse } of settings) {
    const parsed = parse(byDefault)
    if ('reason' in parsed) throw new Error(`invariant broken: the default of ${name}: ${parsed.reason}`)
    values[key] = parsed.value
  }
  // Every key of the interface stands in the table (a test compares them).
  return values as unknown as DaemonConfig
}

/** A value as it would be written in a flag or file; for `config show`. */
export function formatValue(setting: Setting, config: DaemonConfig): string {
  const value = config[setting.key]
  if (value === null) {
    const auto = setting.parse(AUTO)
    return 'value' in auto && auto.value === null ? AUTO : NONE
  }
  if (typeof value === 'object') return formatHostPort(value)
  if (setting.placeholder === 'DURATION') return formatDuration(value as number)
  if (setting.placeholder === 'BYTES') return formatBytes(value as number)
  return String(value)
}

function formatDuration(ms: number): string {
  if (ms !== 0 && ms % DAY_MS === 0) return `${ms / DAY_MS}d`
  if (ms !== 0 && ms % 3_600_000 === 0) return `${ms / 3_600_000}h`
  if (ms !== 0 && ms % 60_000 === 0) return `${ms / 60_000}m`
  return ms !== 0 && ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`
}

function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes !== 0 && bytes % size === 0) return `${bytes / size}${unit}`
  }
  return String(bytes)
}
