import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { thinned } from '../budget.ts'
import {
  binPath,
  cli,
  type DaemonProcess,
  exitOf,
  jsonLines,
  printed,
  removeTemporaryDirectories,
  startCli,
  startDaemonProcess,
  temporaryDirectory,
} from './cli-process.ts'

const daemons: DaemonProcess[] = []

async function startDaemon(...args: Parameters<typeof startDaemonProcess>): Promise<DaemonProcess> {
  const started = await startDaemonProcess(...args)
  daemons.push(started)
  return started
}

/** For all tests that leave it as it is but for vchannels of their own. */
let shared: DaemonProcess

beforeAll(async () => {
  shared = await startDaemon()
})

afterAll(async () => {
  for (const { kill } of daemons) await kill('SIGKILL')
  await removeTemporaryDirectories()
})

describe('wrong usage', () => {
  const wrong: [string, string[], string][] = [
    ['no command', [], 'Usage: tidelog'],
    ['an unknown command', ['prodcue', 'x'], 'Did you mean produce?'],
    ['an unknown flag', ['consume', 'x', '--jsno'], 'Did you mean --json?'],
    ['a missing operand', ['produce'], "missing required argument 'vchannel'"],
    ['an operand too many', ['produce', 'x', 'f', 'g'], 'too many arguments'],
    ['two modes at once', ['produce', 'x', '--raw', '--lines'], 'cannot be used with'],
    ['two forms at once', ['consume', 'x', '--json', '--format', '%s'], 'cannot be used with'],
    ['a type that is none', ['produce', 'x', '--type', '65536'], '--type is "65536"'],
    ['a position that is none', ['consume', 'x', '--from', 'first'], '--from is "first"'],
    ['a limit that is none', ['consume', 'x', '--limit', '-1'], '--limit is "-1"'],
    ['a verb that is none', ['consume', 'x', '--format', '%z'], '%z is no verb'],
    ['a name that is none', ['produce', ''], '1 to 255 bytes'],
    ['a name too long', ['vchannels', 'create', 'x'.repeat(256)], '1 to 255 bytes'],
    ['a subcommand that is none', ['vchannels', 'craete', 'x'], 'did you mean "create"?'],
    ['an address that is none', ['status', '--server', 'http://127.0.0.1:7420'], '--server'],
    ['an address in the environment that is none', ['status'], 'TIDELOG_SERVER'],
    ['a truncation without a position', ['truncate', 'x'], "required option '--before <LSN>' not specified"],
    ['a range that is none', ['dump', '.', '--lsn', '5..1'], '--lsn is "5..1"'],
    ['a setting that is none', ['serve', '--listne', '127.0.0.1:1'], 'Did you mean --listen?'],
    ['a value that a setting cannot have', ['serve', '--pchannels', 'many'], '--pchannels is "many"'],
    ['a host that is not loopback', ['serve', '--listen', '0.0.0.0:7420'], '[HOST_NOT_LOOPBACK]'],
  ]
  test.each(thinned(wrong, 4))('%s is exit code 2, and nothing is on standard output', async (name, args, message) => {
    const env = { TIDELOG_SERVER: name.includes('environment') ? 'nonsense' : 'tcp://127.0.0.1:9' }
    const result = await cli(args, { env })
    expect(result.stderr).toContain(message)
    expect(result.stdout.toString()).toBe('')
    expect(result.status).toBe(2)
  })

  test('with --json it is one line of JSON', async () => {
    const { stderr, status } = await cli(['consume', 'x', '--json', '--limt', '3'])
    expect(status).toBe(2)
    expect(jsonLines(stderr)).toMatchObject([{ error: { code: 'USAGE', retriable: false } }])
  })

  test('help is 0, on standard output, with an example for every command', async () => {
    const help = (await cli(['--help'])).stdout.toString()
    for (const text of ['Exit codes:', 'TIDELOG_SERVER', 'NO_COLOR']) expect(help).toContain(text)
    const commands = [...help.slice(help.indexOf('Commands:')).matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name!)
    expect(commands).toContain('serve')
    const asked = commands.filter((name) => name !== 'help' && name !== 'config')
    for (const command of thinned(asked, 5)) {
      const result = await cli([command, '--help'])
      expect(result).toMatchObject({ status: 0, stderr: '' })
      expect(result.stdout.toString()).toMatch(/\nExamples?:\n {2}\$ /)
    }
    expect((await cli(['config', 'show', '--help'])).stdout.toString()).toContain('$ tidelog config show')
    expect((await cli(['--version'])).stdout.toString()).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})

describe('a daemon that is not there', () => {
  test('is SERVER_UNREACHABLE, in text and as JSON', async () => {
    const env = { TIDELOG_SERVER: 'tcp://127.0.0.1:9' }
    const text = await cli(['status'], { env })
    expect(text).toMatchObject({ status: 1, signal: null })
    expect(text.stderr).toMatch(/\[SERVER_UNREACHABLE\]\n(.*\n)* {2}next: Start one with `tidelog serve`/)
    const json = await cli(['consume', 'x', '--json'], { env })
    expect(json.status).toBe(1)
    expect(jsonLines(json.stderr)).toMatchObject([{ error: { code: 'SERVER_UNREACHABLE' } }])
  })

  test('leaves every record of produce not written, one line each', async () => {
    const result = await cli(['produce', 'x', '--json', '--server', 'unix:/nonexistent/socket'], { input: 'a\nb\n' })
    expect(result.status).toBe(1)
    const error = { code: 'SERVER_UNREACHABLE', retriable: true, outcome: 'not-written' }
    expect(result.json()).toEqual([
      { index: 0, error },
      { index: 1, error },
    ])
  })
})

describe('a reader that goes away', () => {
  test.each([
    ['at the end', '--until-caught-up'],
    ['while it follows and nothing comes any more', '--json'],
  ])('ends consume quietly with 0: %s', async (_name, flag) => {
    const { env } = shared
    expect((await cli(['produce', 'piped'], { env, input: 'first\nsecond\n' })).status).toBe(0)
    const shell = spawn(
      'bash',
      ['-c', `set -o pipefail; "$0" "$1" consume piped ${flag} | head -1`, process.execPath, binPath],
      { env: { ...process.env, ...env } },
    )
    let stdout = ''
    let stderr = ''
    shell.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk
    })
    shell.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    expect((await once(shell, 'close'))[0]).toBe(0)
    expect(stdout.split('\n')).toHaveLength(2)
    expect(stdout).toContain('first')
    expect(stderr).toBe('')
  })

  test('does not keep produce from writing all of its input', async () => {
    const { env } = shared
    const shell = spawn(
      'bash',
      ['-c', 'seq 20000 | "$0" "$1" produce counted --json | head -1', process.execPath, binPath],
      { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] },
    )
    shell.stdout!.resume()
    await once(shell, 'close')
    const read = await cli(['consume', 'counted', '--until-caught-up', '--from', 'last:1'], { env })
    expect(read.stdout.toString()).toBe('20000\n')
  })
})

describe('Ctrl-C', () => {
  test('ends consume with 130, what was printed is whole', async () => {
    const { env } = shared
    expect((await cli(['produce', 'read'], { env, input: 'first\nsecond\n' })).status).toBe(0)
    const child = startCli(['consume', 'read', '--json'], env)
    let stderr = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    const text = await printed(child, (all) => all.split('\n').length === 3)
    child.kill('SIGINT')
    expect(await exitOf(child)).toEqual([130, null])
    expect(jsonLines(text)).toMatchObject([{ payload: 'first' }, { payload: 'second' }])
    expect(stderr).toBe('')
  })

  test('ends produce with 130, and every record that it read is acknowledged', async () => {
    const { env } = shared
    const child = startCli(['produce', 'typed', '--json'], env)
    const first = printed(child, (all) => all.includes('\n'))
    child.stdin!.write('first\n')
    await first
    child.kill('SIGINT')
    expect(await exitOf(child)).toEqual([130, null])
    const read = await cli(['consume', 'typed', '--until-caught-up'], { env })
    expect(read.stdout.toString()).toBe('first\n')
  })
})

describe('a daemon that is killed', () => {
  test('leaves produce with one line for each record, exit code 1, and nothing acknowledged is lost', async () => {
    const first = await startDaemon()
    const child = startCli(['produce', 'orders', '--json'], first.env)
    let stdout = ''
    let stderr = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    child.stdin!.on('error', () => {})
    let sent = 0
    let killed = false
    child.stdout!.on('data', (chunk: Buffer) => {
      stdout += chunk
      if (killed || stdout.length < 200_000) return
      killed = true
      void first.kill('SIGKILL')
    })
    const closed = exitOf(child)
    while (!killed) {
      if (!child.stdin!.write(`record ${sent++}\n`.repeat(1))) await once(child.stdin!, 'drain')
    }
    for (let more = 0; more < 1000; more++) child.stdin!.write(`record ${sent++}\n`)
    child.stdin!.end()
    expect(await closed).toEqual([1, null])

    const lines = jsonLines(stdout)
    expect(lines.map(({ index }) => index)).toEqual(Array.from({ length: sent }, (_, index) => index))
    const failures = lines.filter((line) => 'error' in line)
    expect(failures.length).toBeGreaterThan(0)
    // A beginning of the input is acknowledged, and nothing behind it.
    expect(lines.findIndex((line) => 'error' in line)).toBe(lines.length - failures.length)
    for (const { error } of failures) {
      expect(Object.keys(error as object)).toEqual(['code', 'retriable', 'outcome'])
      expect(['not-written', 'unknown']).toContain((error as { outcome: string }).outcome)
    }
    expect(jsonLines(stderr)).toMatchObject([
      { error: { outcome: (failures[0]!.error as { outcome: string }).outcome } },
    ])

    const second = await startDaemon({ data: first.data })
    const read = await cli(['consume', 'orders', '--until-caught-up', '--json'], { env: second.env })
    const byLsn = new Map(read.json().map(({ lsn, payload }) => [lsn, payload]))
    for (const line of lines) {
      if ('lsn' in line) expect(byLsn.get(line.lsn)).toBe(`record ${line.index}`)
    }
    const notWritten = failures.filter(({ error }) => (error as { outcome: string }).outcome === 'not-written')
    const written = new Set(byLsn.values())
    for (const { index } of notWritten) expect(written.has(`record ${index}`)).toBe(false)
  })
})

describe('serve', () => {
  test('says where it listens and what to type next, and SIGTERM ends it with 0', async () => {
    const data = join(await temporaryDirectory(), 'data')
    const socket = join(await temporaryDirectory(), 'socket')
    const args = ['serve', '--data', data, '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0', '--socket', socket]
    const child = startCli(args, { TIDELOG_LOG_LEVEL: 'error' })
    const text = await printed(child, (all) => all.includes('stop '))
    const address = /tcp:\/\/127\.0\.0\.1:[1-9]\d*/.exec(text)![0]
    expect(text).toContain(`unix:${socket}`)
    expect(text).toMatch(/http:\/\/127\.0\.0\.1:[1-9]\d*/)
    expect(text).toContain(`--server ${address}`)
    expect(
      (await cli(['vchannels', 'create', 'by-socket'], { env: { TIDELOG_SERVER: `unix:${socket}` } })).status,
    ).toBe(0)
    expect((await cli(['vchannels', '--server', address])).stdout.toString()).toContain('by-socket')
    expect((await stat(socket)).mode & 0o777).toBe(0o600)
    child.kill('SIGTERM')
    expect(await exitOf(child)).toEqual([0, null])
  })

  test('a second daemon on the same data is refused with a code', async () => {
    const { data } = shared
    const result = await cli(['serve', '--data', data, '--listen', '127.0.0.1:0', '--http', 'none', '--json'])
    expect(result.status).toBe(1)
    expect(jsonLines(result.stderr.trim().split('\n').at(-1)!)).toMatchObject([{ error: { code: 'LOCKED' } }])
  })
})

describe('administration', () => {
  test('vchannels, status and truncate, in text and as JSON', async () => {
    // Its own: it truncates.
    const { env, address } = await startDaemon()
    const created = (await cli(['vchannels', 'create', 'b', 'a', '--json'], { env })).json()
    expect(created).toMatchObject([{ vchannel: 'b' }, { vchannel: 'a' }])
    expect((await cli(['vchannels', '--json'], { env })).json()).toEqual([created[1], created[0]])
    expect((await cli(['vchannels', 'list'], { env })).stdout.toString()).toMatch(/^VCHANNEL +GROUP +CREATED\na /)

    const lines = (await cli(['produce', 'a', '--json'], { env, input: 'one\ntwo\nthree\n' })).json()
    const [status] = (await cli(['status', '--json'], { env })).json()
    expect(status).toMatchObject({ address, healthy: true })
    expect(status!.groups).toHaveLength(4)
    expect((status!.groups as { group: number }[])[created[1]!.group as number]).toMatchObject({
      nextLsn: (lines.at(-1)!.lsn as number) + 1,
    })
    expect((await cli(['status'], { env })).stdout.toString()).toContain('NEXT LSN')

    const before = String(lines[1]!.lsn)
    const refused = await cli(['truncate', 'a', '--before', before], { env })
    expect(refused.status).toBe(2)
    expect(refused.stderr).toContain('--yes')
    const done = (await cli(['truncate', 'a', '--before', before, '--yes', '--json'], { env })).json()
    expect(done).toMatchObject([{ vchannel: 'a', firstLsn: lines[1]!.lsn }])
    const read = await cli(['consume', 'a', '--until-caught-up'], { env })
    expect(read.stdout.toString()).toBe('two\nthree\n')
    const gone = await cli(['consume', 'a', '--until-caught-up', '--from', 'lsn:0', '--json'], { env })
    expect(gone.status).toBe(1)
    expect(jsonLines(gone.stderr)).toMatchObject([{ error: { code: 'POSITION_TRUNCATED' } }])
  })
})
