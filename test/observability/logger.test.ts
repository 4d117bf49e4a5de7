import { describe, expect, test } from 'vitest'
import { TidelogError } from '../../src/errors.ts'
import { createLogger, type LoggerOptions, silentLogger } from '../../src/observability/logger.ts'

function collecting(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = []
  return { lines, logger: createLogger({ nowMs: () => 0, ...options, write: (line) => lines.push(line) }) }
}

describe('logger', () => {
  test('text: time, level, message and fields on one line', () => {
    const { lines, logger } = collecting()
    logger.info('started', { data: './my data', pchannels: 4, left: undefined, empty: '' })
    expect(lines).toEqual(['1970-01-01T00:00:00.000Z INFO  started data="./my data" pchannels=4 empty=""'])
  })

  test('json: one object a line, an error with its code and cause, ticks as text', () => {
    const { lines, logger } = collecting({ format: 'json' })
    const error = new TidelogError('POISONED', 'write failed', { position: 8, cause: new Error('EIO') })
    logger.error('append failed', { error, tick: 1n << 60n, level: 'mine' })
    expect(JSON.parse(lines[0]!)).toEqual({
      time: '1970-01-01T00:00:00.000Z',
      level: 'error',
      message: 'append failed',
      error: { code: 'POISONED', message: 'write failed', position: 8, cause: 'EIO' },
      tick: '1152921504606846976',
      field_level: 'mine',
    })
  })

  test('what is less important than the level is dropped', () => {
    const { lines, logger } = collecting({ level: 'warn' })
    for (const level of ['error', 'warn', 'info', 'debug'] as const) logger[level](level)
    expect(lines.length).toBe(2)
  })

  test('a name from outside can neither forge a line nor drive a terminal', () => {
    const { lines, logger } = collecting()
    logger.warn('refused \u001b[31m\nERROR forged', { name: 'a\nb\u001b' })
    expect(lines.length).toBe(1)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(lines[0]).not.toMatch(/[\u0000-\u001f\u007f]/)
  })

  test('with() adds its fields to each line; the silent logger stays silent', () => {
    const { lines, logger } = collecting()
    logger.with({ pchannel: 3 }).with({ term: 1 }).info('open')
    expect(lines[0]).toContain('open pchannel=3 term=1')
    silentLogger.with({ a: 1 }).error('nothing')
  })
})
