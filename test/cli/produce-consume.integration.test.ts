import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { budgetName } from '../budget.ts'
import { exitOf, jsonLines, printed, temporaryDirectory } from './cli-process.ts'
import { shareDaemon } from './shared-daemon.ts'

const { run, start, records, payloads } = shareDaemon(['--record-bytes-max', '64KiB'])

describe('produce', () => {
  test('--lines: an empty line is an empty record, CR is kept, a last line without LF counts', async () => {
    const result = await run(['produce', 'lines', '--json'], { input: 'a\r\n\nä\nlast' })
    expect(result.stderr).toBe('')
    expect(result.status).toBe(0)
    const lines = result.json()
    expect(lines).toHaveLength(4)
    lines.forEach((line, index) => {
      expect(Object.keys(line)).toEqual(['index', 'vchannel', 'lsn', 'timeTick'])
      expect(line).toMatchObject({ index, vchannel: 'lines' })
      expect(line.timeTick).toMatch(/^[0-9]+$/)
    })
    const read = await records('lines')
    expect(read.map(({ payload }) => payload)).toEqual(['a\r', '', 'ä', 'last'])
    expect(read.map(({ lsn, timeTick }) => ({ lsn, timeTick }))).toEqual(
      lines.map(({ lsn, timeTick }) => ({ lsn, timeTick })),
    )
    for (const record of read) {
      expect(Object.keys(record)).toEqual(['vchannel', 'lsn', 'timeTick', 'type', 'properties', 'payload', 'position'])
    }
  })

  test('bytes that are not UTF-8 come back exactly, plain and as payloadBase64', async () => {
    const bytes = Buffer.from([0x61, 0xff, 0xfe, 0x00, 0x0d])
    expect((await run(['produce', 'bytes'], { input: Buffer.concat([bytes, Buffer.from('\nok\n')]) })).status).toBe(0)
    const plain = await run(['consume', 'bytes', '--until-caught-up'])
    expect(plain.stdout).toEqual(Buffer.concat([bytes, Buffer.from('\nok\n')]))
    const [first, second] = await records('bytes')
    expect(first).toMatchObject({ payloadBase64: bytes.toString('base64') })
    expect(first).not.toHaveProperty('payload')
    expect(second).toMatchObject({ payload: 'ok' })
  })

  test('without --json nothing is on standard output, and a note on standard error says how many', async () => {
    const result = await run(['produce', 'quiet'], { input: 'a\nb\n' })
    expect(result.stdout.toString()).toBe('')
    expect(result.stderr).toMatch(/^2 records durable on quiet, LSN \d+ to \d+\n$/)
  })

  test('no input is no record, with --raw it is an empty one', async () => {
    expect((await run(['produce', 'nothing', '--json'])).json()).toEqual([])
    expect((await run(['produce', 'nothing', '--json', '--raw'])).json()).toHaveLength(1)
    expect(await payloads('nothing')).toEqual([''])
  })

  test('--raw: the whole input is one record, --type is its type', async () => {
    const result = await run(['produce', 'raw', '--raw', '--type', '40000', '--json'], { input: 'a\nb\n' })
    expect(result.json()).toHaveLength(1)
    expect(await records('raw')).toMatchObject([{ payload: 'a\nb\n', type: 40000, properties: {} }])
  })

  test('a file stands for standard input', async () => {
    const file = join(await temporaryDirectory(), 'input')
    await writeFile(file, 'from a file\n')
    expect((await run(['produce', 'file', file])).status).toBe(0)
    expect(await payloads('file')).toEqual(['from a file'])
    const missing = await run(['produce', 'file', `${file}.missing`])
    expect(missing.status).toBe(1)
    expect(missing.stderr).toContain('there is no such file')
    expect(missing.stderr).toContain('[IO_FAILED]')
  })

  test('--envelope takes what consume --json prints, byte for byte; its vchannel and LSN do not count', async () => {
    const lines = [
      '{"payload":"p","properties":{"k":"v","constructor":"x"},"type":33000,"vchannel":"other","lsn":99,"timeTick":"1"}',
      '{"payloadBase64":"/wA="}',
      '{"payload":null}',
    ]
    expect((await run(['produce', 'one', '--envelope', '--type', '7'], { input: lines.join('\n') })).status).toBe(0)
    const copied = await run(['produce', 'two', '--envelope'], {
      input: (await run(['consume', 'one', '--until-caught-up', '--json'])).stdout,
    })
    expect(copied.stderr).toMatch(/^3 records/)
    const [one, two] = [await records('one'), await records('two')]
    const bare = (all: Record<string, unknown>[]) =>
      all.map(({ lsn: _lsn, timeTick: _tick, vchannel: _vchannel, position: _position, ...rest }) =>
        JSON.stringify(rest),
      )
    expect(bare(two)).toEqual(bare(one))
    expect(bare(one)).toEqual([
      '{"type":33000,"properties":{"k":"v","constructor":"x"},"payload":"p"}',
      '{"type":7,"properties":{},"payloadBase64":"/wA="}',
      '{"type":7,"properties":{},"payload":null}',
    ])
  })

  test('--ndjson: a bad line is named, those before it are written, nothing behind it is', async () => {
    const result = await run(['produce', 'ndjson', '--ndjson', '--json'], { input: '{"a":1}\n2\nnope\n4\n' })
    expect(result.status).toBe(1)
    expect(result.json()).toMatchObject([
      { index: 0, vchannel: 'ndjson' },
      { index: 1 },
      { index: 2, error: { code: 'INVALID_ARGUMENT', retriable: false, outcome: 'not-written' } },
      { index: 3, error: { code: 'FAILED_BEFORE', retriable: true, outcome: 'not-written' } },
    ])
    const error = JSON.parse(result.stderr).error
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', outcome: 'not-written' })
    expect(error.message).toContain('line 3: the line is not JSON')
    expect(await payloads('ndjson')).toEqual(['{"a":1}', '2'])
  })

  test('a line over the limit is refused with its length, those before it are written', async () => {
    const huge = 'x'.repeat(20_000_000)
    const result = await run(['produce', 'huge', '--json'], { input: `first\n${huge}\nlast\n` })
    expect(result.status).toBe(1)
    expect(result.json()).toMatchObject([
      { index: 0, vchannel: 'huge' },
      { index: 1, error: { code: 'LIMIT_EXCEEDED', retriable: false, outcome: 'not-written' } },
      { index: 2, error: { code: 'FAILED_BEFORE' } },
    ])
    expect(JSON.parse(result.stderr).error.message).toMatch(/line 2 has 20000000 bytes; at most 65536/)
    expect(await payloads('huge')).toEqual(['first'])
  })

  test('a record that the daemon refuses is its own error', async () => {
    const result = await run(['produce', 'refused', '--envelope', '--json'], {
      input: '{"payload":"a","properties":{"_mine":"x"}}\n',
    })
    expect(result.status).toBe(1)
    expect(result.json()).toMatchObject([{ index: 0, error: { outcome: 'not-written', retriable: false } }])
  })

  test('records are acknowledged while the input is still open', async () => {
    const child = start(['produce', 'live', '--json'])
    const first = printed(child, (text) => text.includes('\n'))
    child.stdin!.write('one\n')
    expect(jsonLines(await first)).toMatchObject([{ index: 0, vchannel: 'live' }])
    child.stdin!.end('two')
    expect((await exitOf(child))[0]).toBe(0)
    expect(await payloads('live')).toEqual(['one', 'two'])
  })

  test.skipIf(budgetName() === 'small')('100,000 lines come back in order', async () => {
    const lines = Array.from({ length: 100_000 }, (_, index) => `line ${index}`)
    const result = await run(['produce', 'many', '--json'], { input: `${lines.join('\n')}\n` })
    expect(result.status).toBe(0)
    expect(result.json().map(({ index }) => index)).toEqual(lines.map((_, index) => index))
    const read = await run(['consume', 'many', '--until-caught-up'])
    expect(read.stdout.toString()).toBe(`${lines.join('\n')}\n`)
  })
})

describe('consume', () => {
  /** Two vchannels in one group or not: their records alternate. */
  beforeAll(async () => {
    for (let round = 0; round < 3; round++) {
      for (const vchannel of ['left', 'right']) {
        const input = `${vchannel} ${2 * round}\n${vchannel} ${2 * round + 1}\n`
        expect((await run(['produce', vchannel], { input })).status).toBe(0)
      }
    }
  })

  test('--from last:N is the last N records of each vchannel', async () => {
    expect(await payloads('left', '--from', 'last:2')).toEqual(['left 4', 'left 5'])
    expect(await payloads('left', '--from', 'last:5')).toEqual(['left 1', 'left 2', 'left 3', 'left 4', 'left 5'])
    expect(await payloads('left', '--from', 'last:100')).toHaveLength(6)
    expect(await payloads('left', '--from', 'last:0')).toEqual([])
    const both = await run(['consume', 'left', 'right', '--from', 'last:3', '--until-caught-up'])
    const lines = both.stdout.toString().trim().split('\n')
    expect(lines.filter((line) => line.startsWith('left'))).toEqual(['left 3', 'left 4', 'left 5'])
    expect(lines.filter((line) => line.startsWith('right'))).toEqual(['right 3', 'right 4', 'right 5'])
  })

  test.skipIf(budgetName() === 'small')(
    '--from last:N finds the last records behind a long stretch of other vchannels',
    async () => {
      // Enough that vchannels of every group get some: the placement is the daemon's own.
      const noise = `${Array.from({ length: 5000 }, (_, index) => index).join('\n')}\n`
      for (let vchannel = 0; vchannel < 4; vchannel++) {
        expect((await run(['produce', `noise-${vchannel}`], { input: noise })).status).toBe(0)
      }
      expect(await payloads('right', '--from', 'last:1')).toEqual(['right 5'])
      expect(await payloads('right', '--from', 'last:4')).toEqual(['right 2', 'right 3', 'right 4', 'right 5'])
    },
  )

  test('--from lsn:N, tick:T and a time begin at or after', async () => {
    const all = await records('left')
    const third = all[2]!
    expect(await records('left', '--from', `lsn:${third.lsn}`)).toEqual(all.slice(2))
    expect(await records('left', '--from', `tick:${third.timeTick}`)).toEqual(all.slice(2))
    expect(await records('left', '--from', `tick:${BigInt(String(third.timeTick)) + 1n}`)).toEqual(all.slice(3))
    const time = new Date(Number(BigInt(String(third.timeTick)) >> 18n)).toISOString()
    expect(await records('left', '--from', time)).toEqual(all.slice(2))
    expect(await records('left', '--from', '2020-01-01')).toEqual(all)
    expect(await records('left', '--from', 'latest')).toEqual([])
    expect(await records('left', '--limit', '2')).toEqual(all.slice(0, 2))
    expect(await records('left', '--limit', '0')).toEqual([])
  })

  test('--limit ends a command that follows', async () => {
    const result = await run(['consume', 'left', '--limit', '6', '--json'])
    expect(result.status).toBe(0)
    expect(result.json()).toHaveLength(6)
  })

  test('--format prints the verbs of kcat', async () => {
    const result = await run(['consume', 'left', '--limit', '1', '--format', '%t|%S|%s|%p|%y\\n'])
    expect(result.stdout.toString()).toBe('left|6|left 0|0|0\n')
  })

  test('an unknown vchannel is an error with near names, in text and as JSON', async () => {
    const text = await run(['consume', 'lefd', '--until-caught-up'])
    expect(text.status).toBe(1)
    expect(text.stdout.toString()).toBe('')
    expect(text.stderr).toMatch(/there is no vchannel "lefd"; did you mean "left".*\[VCHANNEL_UNKNOWN\]/)
    const json = await run(['consume', 'left', 'lefd', '--json'])
    expect(json.status).toBe(1)
    expect(JSON.parse(json.stderr).error).toMatchObject({ code: 'VCHANNEL_UNKNOWN', retriable: false })
    expect((await run(['vchannels', '--json'])).stdout.toString()).not.toContain('lefd')
  })

  test('--wait waits for a vchannel that does not exist, beside those that do', async () => {
    const child = start(['consume', 'left', 'to-come', '--wait', '--limit', '8'])
    const known = printed(child, (text) => text.split('\n').length > 6)
    await known
    const rest = printed(child, (text) => text.split('\n').length > 2)
    expect((await run(['produce', 'to-come'], { input: 'a\nb\n' })).status).toBe(0)
    expect(await rest).toBe('a\nb\n')
    expect((await exitOf(child))[0]).toBe(0)
  })

  test('--wait with --until-caught-up: what does not exist holds nothing', async () => {
    const result = await run(['consume', 'never', '--wait', '--until-caught-up'])
    expect(result).toMatchObject({ status: 0, stderr: '' })
  })

  test('follows: what is produced later is printed at once', async () => {
    const child = start(['consume', 'left', '--from', 'latest', '--json', '--limit', '1'])
    // From `latest` on nothing is printed that could say that it has begun: produce until it has.
    let done = false
    const line = printed(child, (text) => text.includes('\n')).then((text) => {
      done = true
      return text
    })
    while (!done) await run(['produce', 'left'], { input: 'news\n' })
    expect(jsonLines(await line)).toMatchObject([{ vchannel: 'left', payload: 'news' }])
    expect((await exitOf(child))[0]).toBe(0)
  })
})
