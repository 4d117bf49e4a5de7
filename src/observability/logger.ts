/**
 * Logging: a few levels, one line an event, text for people or JSON for collectors. A logger is passed in; nothing in
 * the library prints by itself, and the default is silent.
 */

export const logLevels = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof logLevels)[number]

export const logFormats = ['text', 'json'] as const
export type LogFormat = (typeof logFormats)[number]

export type LogFields = Readonly<Record<string, unknown>>

export interface Logger {
  error(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  debug(message: string, fields?: LogFields): void
  /** A logger that adds `fields` to each of its lines. */
  with(fields: LogFields): Logger
}

export interface LoggerOptions {
  /** Lines less important than this are dropped; default `info`. */
  level?: LogLevel
  /** Default `text`. */
  format?: LogFormat
  /** Takes one line without its end. */
  write(line: string): void
  /** Milliseconds since 1970; default the wall clock. */
  nowMs?: () => number
}

const nothing = () => {}

export const silentLogger: Logger = {
  error: nothing,
  warn: nothing,
  info: nothing,
  debug: nothing,
  with: () => silentLogger,
}

export function createLogger(options: LoggerOptions): Logger {
  const { level = 'info', format = 'text', write, nowMs = Date.now } = options
  const most = logLevels.indexOf(level)
  const render = format === 'json' ? jsonLine : textLine
  const make = (base: LogFields): Logger => {
    const at = (lineLevel: LogLevel) => {
      if (logLevels.indexOf(lineLevel) > most) return nothing
      return (message: string, fields?: LogFields) => write(render(nowMs(), lineLevel, message, { ...base, ...fields }))
    }
    return {
      error: at('error'),
      warn: at('warn'),
      info: at('info'),
      debug: at('debug'),
      with: (fields) => make({ ...base, ...fields }),
    }
  }
  return make({})
}

function jsonLine(nowMs: number, level: LogLevel, message: string, fields: LogFields): string {
  const line: Record<string, unknown> = { time: new Date(nowMs).toISOString(), level, message }
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) line[key in line ? `field_${key}` : key] = plain(value)
  }
  return JSON.stringify(line)
}

function textLine(nowMs: number, level: LogLevel, message: string, fields: LogFields): string {
  let line = `${new Date(nowMs).toISOString()} ${level.toUpperCase().padEnd(5)} ${escapeControls(message)}`
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue
    const shown = plain(value)
    const text = typeof shown === 'string' ? shown : JSON.stringify(shown)
    line += ` ${key}=${/[\s"=]/.test(text) || text === '' ? JSON.stringify(text) : escapeControls(text)}`
  }
  return line
}

/** A value as JSON can hold it: errors with their code and cause, time ticks as decimal text. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (!(value instanceof Error)) return value
  const { code, file, position, lsn } = value as { code?: unknown; file?: unknown; position?: unknown; lsn?: unknown }
  if (code === undefined && value.cause === undefined) return value.message
  return {
    code,
    message: value.message,
    file,
    position,
    lsn,
    cause: value.cause === undefined ? undefined : plain(value.cause),
  }
}

/** What comes from outside (a name, a message) must not forge a line or drive a terminal. */
function escapeControls(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
