import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LineSplitter } from '../../src/cli/line-splitter.ts'
import { budget } from '../budget.ts'

function split(chunks: readonly Uint8Array[], lineBytesMax = 1000): (string | number)[] {
  const splitter = new LineSplitter(lineBytesMax)
  const lines = [...chunks.flatMap((chunk) => [...splitter.push(chunk)]), ...splitter.end()]
  return lines.map(({ bytes, length }) => (bytes === null ? length : Buffer.from(bytes).toString('latin1')))
}

describe('lines of produce', () => {
  test('an empty line is a line, CR is kept, and a last line without LF counts', () => {
    expect(split([Buffer.from('a\r\n\n\nb')])).toEqual(['a\r', '', '', 'b'])
  })

  test('no input is no line, and a LF at the end begins none', () => {
    expect(split([])).toEqual([])
    expect(split([Buffer.from('a\n')])).toEqual(['a'])
    expect(split([Buffer.from('\n')])).toEqual([''])
  })

  test('a line over the limit is dropped with its length, in one chunk or many, and the next line is whole', () => {
    expect(split([Buffer.from('12345\n123456\nok\n')], 5)).toEqual(['12345', 6, 'ok'])
    expect(split(Array.from('1234567\nok', Buffer.from), 5)).toEqual([7, 'ok'])
  })

  test('any bytes in any chunks are the lines of the whole', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), (chunks) => {
        const dense = chunks.map((chunk) => chunk.map((byte) => (byte % 3 === 0 ? 10 : byte)))
        const whole = Buffer.concat(dense).toString('latin1')
        const expected = whole.split('\n')
        if (expected.at(-1) === '') expected.pop()
        expect(split(dense)).toEqual(expected)
      }),
      { numRuns: budget({ small: 200, ci: 5000 }) },
    )
  })
})
