import { CommanderError } from 'commander'
import { describe, expect, test } from 'vitest'
import { ExitCode, exitCodeHelp, exitCodeOf } from '../../src/cli/exit-codes.ts'
import { serviceErrorCodes, TidelogError } from '../../src/errors.ts'

describe('exit codes', () => {
  test('are these numbers, for good, and the help says the same', () => {
    expect(ExitCode).toEqual({ clean: 0, failed: 1, usage: 2, damaged: 8, dataLost: 9, interrupted: 130 })
    expect([...exitCodeHelp.matchAll(/^ {2}(\d+)/gm)].map(([, code]) => Number(code))).toEqual(Object.values(ExitCode))
  })

  test.each(['USAGE', 'CONFIG_INVALID', 'HOST_NOT_LOOPBACK'] as const)('%s is 2: nothing was tried', (code) => {
    expect(exitCodeOf(new TidelogError(code, 'x'))).toBe(2)
  })

  test('every other code is 1', () => {
    for (const code of serviceErrorCodes) {
      if (['USAGE', 'CONFIG_INVALID', 'HOST_NOT_LOOPBACK'].includes(code)) continue
      expect(exitCodeOf(new TidelogError(code, 'x'))).toBe(1)
    }
    expect(exitCodeOf(new TidelogError('LOG_DAMAGED', 'x'))).toBe(1)
    expect(exitCodeOf(new Error('x'))).toBe(1)
    expect(exitCodeOf(undefined)).toBe(1)
  })

  test('what the parser refuses is 2, what it shows when asked is 0', () => {
    expect(exitCodeOf(new CommanderError(1, 'commander.unknownOption', 'x'))).toBe(2)
    expect(exitCodeOf(new CommanderError(1, 'commander.help', '(outputHelp)'))).toBe(2)
    expect(exitCodeOf(new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'))).toBe(0)
    expect(exitCodeOf(new CommanderError(0, 'commander.version', '0.1.0'))).toBe(0)
  })
})
