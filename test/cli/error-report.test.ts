import { Command, type CommanderError } from 'commander'
import { describe, expect, test } from 'vitest'
import { reportOf, writeReport } from '../../src/cli/error-report.ts'
import { bytesText, Notes, progressBar, wantsColour } from '../../src/cli/notes.ts'
import { printable, textTable } from '../../src/cli/text-table.ts'
import { TidelogError } from '../../src/errors.ts'

function notes(options: { isTTY?: boolean } = {}, environment: NodeJS.ProcessEnv = {}) {
  let text = ''
  const stream = {
    ...options,
    write: (chunk: string | Uint8Array) => {
      text += chunk
      return true
    },
    on: () => stream as never,
  }
  return { notes: new Notes(stream, environment), text: () => text }
}

const damaged = new TidelogError('FRAME_DAMAGED', 'a checksum does not fit', {
  file: 'a.seg',
  position: 4096,
  lsnFrom: 3,
  lsnTo: 5,
})

describe('an error on the command line', () => {
  test('says what failed, where, what is safe, what to do, and the code', () => {
    const { notes: target, text } = notes()
    writeReport(reportOf(damaged), target, false)
    expect(text()).toMatch(/^error: a checksum does not fit \[FRAME_DAMAGED\]\n/)
    expect(text()).toContain('  where: file a.seg, position 4096, LSN 3 to 5\n')
    expect(text()).toMatch(/\n {2}safe: Every other frame/)
    expect(text()).toMatch(/\n {2}next: Run `tidelog verify`/)
  })

  test('is one line of JSON where JSON is wanted, and what is not known is left out', () => {
    const { notes: target, text } = notes()
    writeReport(reportOf(damaged), target, true)
    const { error } = JSON.parse(text())
    expect(text().endsWith('}\n')).toBe(true)
    expect(Object.keys(error).sort()).toEqual(
      ['code', 'file', 'lsnFrom', 'lsnTo', 'message', 'next', 'position', 'retriable', 'safe'].sort(),
    )
    expect(error).toMatchObject({ code: 'FRAME_DAMAGED', retriable: false, position: 4096 })
  })

  test('of the parser has its suggestion and the code USAGE', () => {
    const program = new Command().exitOverride().configureOutput({ outputError: () => {} })
    program.command('produce').option('--lines')
    const thrown = (argv: string[]): CommanderError => {
      try {
        program.parse(argv, { from: 'user' })
      } catch (error) {
        return error as CommanderError
      }
      throw new Error('nothing was thrown')
    }
    expect(reportOf(thrown(['prduce']))).toMatchObject({
      code: 'USAGE',
      message: "unknown command 'prduce'; Did you mean produce?",
    })
  })

  test('that is a bug says so', () => {
    expect(reportOf(new RangeError('x'))).toMatchObject({ code: 'INTERNAL', message: 'x', retriable: false })
    expect(reportOf('thrown text')).toMatchObject({ code: 'INTERNAL', message: 'thrown text' })
  })

  test('cannot steer the terminal with what came from outside', () => {
    const { notes: target, text } = notes()
    writeReport(reportOf(new TidelogError('VCHANNEL_UNKNOWN', 'no \u001b[31m\u202e one\nor two')), target, false)
    expect(text()).toContain('error: no \\u{1b}[31m\\u{202e} one\n  or two ')
  })
})

describe('what people see', () => {
  test('colour on a terminal only, and neither with NO_COLOR nor on a dumb one', () => {
    expect(wantsColour({ isTTY: true }, {})).toBe(true)
    expect(wantsColour({ isTTY: true }, { NO_COLOR: '1' })).toBe(false)
    expect(wantsColour({ isTTY: true }, { NO_COLOR: '' })).toBe(true)
    expect(wantsColour({ isTTY: true }, { TERM: 'dumb' })).toBe(false)
    expect(wantsColour({}, {})).toBe(false)
  })

  test('progress on a terminal only, taken away before a line is written', () => {
    const plain = notes()
    plain.notes.progress(() => 'half')
    expect(plain.text()).toBe('')
    const terminal = notes({ isTTY: true })
    terminal.notes.progress(() => 'half')
    terminal.notes.line('done')
    expect(terminal.text()).toBe('\rhalf\u001b[K\r\u001b[Kdone\n')
  })

  test('numbers to the right, no trailing blanks, names made harmless', () => {
    expect(
      textTable(
        ['NAME', 'LSN'],
        [
          ['a\u0007', 5],
          ['long name', 1234],
        ],
      ),
    ).toBe('NAME        LSN\na\\u{7}        5\nlong name  1234\n')
    expect(printable('ok ä 日本')).toBe('ok ä 日本')
  })

  test('bytes and shares', () => {
    expect([0, 999, 1000, 1_234_567, 5e15].map(bytesText)).toEqual(['0 B', '999 B', '1.0 kB', '1.2 MB', '5000.0 TB'])
    expect(progressBar(1, 4)).toBe('[#####               ] 25%')
    expect(progressBar(5, 4)).toBe('[####################] 100%')
    expect(progressBar(0, 0)).toBe('[####################] 100%')
  })
})
