import { describe, expect, test } from 'vitest'
import { type InputItem, type InputMode, readInput } from '../../src/cli/produce-input.ts'

async function* chunked(text: string | Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function items(mode: InputMode, input: string | Uint8Array, recordBytesMax = 100): Promise<InputItem[]> {
  const all: InputItem[] = []
  for await (const some of readInput(chunked(input, 3), { mode, type: 5, recordBytesMax })) all.push(...some)
  return all
}

function shown(item: InputItem): unknown {
  if ('error' in item) return `${item.error.code} ${item.error.outcome}: ${item.error.message}`
  const { payload, ...rest } = item.record
  return { ...rest, payload: payload === null ? null : Buffer.from(payload).toString('latin1') }
}

describe('the input of produce', () => {
  test('--lines: each line as it is, with the type', async () => {
    expect((await items('lines', Buffer.from([0xff, 13, 10, 10, 65]))).map(shown)).toEqual([
      { type: 5, payload: '\u00ff\r' },
      { type: 5, payload: '' },
      { type: 5, payload: 'A' },
    ])
  })

  test('--ndjson: what is not JSON is an error in its place, and the others keep theirs', async () => {
    const all = (await items('ndjson', '{"a": 1}\n\n"x"\n{\n')).map(shown)
    expect(all[0]).toEqual({ type: 5, payload: '{"a": 1}' })
    expect(all[1]).toMatch(/^INVALID_ARGUMENT not-written: line 2: the line is not JSON/)
    expect(all[2]).toEqual({ type: 5, payload: '"x"' })
    expect(all[3]).toMatch(/^INVALID_ARGUMENT not-written: line 4: /)
  })

  test('--envelope: its type counts more than that of --type', async () => {
    const all = await items('envelope', '{"payload":"a","type":9,"properties":{"k":"v"}}\n{"payload":null}\n{}')
    expect(all.map(shown).slice(0, 2)).toEqual([
      { type: 9, properties: { k: 'v' }, payload: 'a' },
      { type: 5, payload: null },
    ])
    expect(shown(all[2]!)).toMatch(/^INVALID_ARGUMENT not-written: line 3: neither/)
  })

  test('--raw: the whole input, also when it is empty; too long is refused', async () => {
    expect((await items('raw', 'a\nb\n')).map(shown)).toEqual([{ type: 5, payload: 'a\nb\n' }])
    expect((await items('raw', '')).map(shown)).toEqual([{ type: 5, payload: '' }])
    expect((await items('raw', 'x'.repeat(101))).map(shown)).toEqual([
      'LIMIT_EXCEEDED not-written: the input is longer than a record may be: 100 bytes',
    ])
  })

  test('a line that is too long is refused with its number and length', async () => {
    const all = (await items('lines', `a\n${'x'.repeat(101)}\n${'y'.repeat(100)}`)).map(shown)
    expect(all[1]).toBe('LIMIT_EXCEEDED not-written: line 2 has 101 bytes; at most 100 are allowed')
    expect(all[2]).toEqual({ type: 5, payload: 'y'.repeat(100) })
  })
})
