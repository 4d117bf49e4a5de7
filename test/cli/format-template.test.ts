import { describe, expect, test } from 'vitest'
import { formatHelp, parseFormatTemplate } from '../../src/cli/format-template.ts'

const record = {
  vchannel: 'orders',
  lsn: 7,
  timeTick: (1769860800250n << 18n) + 3n,
  type: 2,
  properties: { key: 'ä', colour: 'red' },
  payload: Buffer.from([0xff, 0x0a]),
}

function render(template: string, of: Parameters<ReturnType<typeof parseFormatTemplate>>[0] = record): Buffer {
  return Buffer.concat(parseFormatTemplate(template)(of).map((piece) => Buffer.from(piece)))
}

describe('--format', () => {
  test.each([
    ['%t [%p] at %o: %k\\n', 'orders [0] at 7: ä\n'],
    ['%S %K %T %h', '2 2 1769860800250 key=ä,colour=red'],
    ['%y %c', `2 ${record.timeTick}`],
    ['100%% \\t\\\\\\r|', '100% \t\\\r|'],
    ['', ''],
    ['no verb', 'no verb'],
  ])('%j', (template, expected) => {
    expect(render(template).toString()).toBe(expected)
  })

  test('payloads and escaped bytes come out as they are', () => {
    expect(render('%s\\x00\\xfe\\0')).toEqual(Buffer.from([0xff, 0x0a, 0x00, 0xfe, 0x00]))
    expect(render('%R')).toEqual(Buffer.from([0, 0, 0, 2]))
  })

  test('no key and a null payload are -1', () => {
    const bare = { ...record, properties: {}, payload: Buffer.alloc(0), isNull: true }
    expect(render('%S|%K|%k|%s|%h', bare).toString()).toBe('-1|-1|||')
    expect(render('%R', bare)).toEqual(Buffer.from([255, 255, 255, 255]))
  })

  test.each(['%', '%x', 'a%', '%_', '\\q', '\\', '\\x1', '\\xzz'])('%j is refused as wrong usage', (template) => {
    expect(() => parseFormatTemplate(template)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  test('the help names every verb', () => {
    for (const verb of '%sSRtpoTkKhyc') expect(formatHelp).toContain(`%${verb} `)
  })
})
