import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { budgetName } from '../budget.ts'
import { cli, removeTemporaryDirectories, startDaemonProcess, temporaryDirectory } from './cli-process.ts'
import { fileIn, flip } from './damaged-files.ts'

/** A data directory that a daemon filled and left, with a vchannel on each of two pchannels. */
let data: string
let printed: Record<string, string>

beforeAll(async () => {
  const daemon = await startDaemonProcess({ flags: ['--pchannels', '2'] })
  data = daemon.data
  const { env } = daemon
  expect((await cli(['produce', 'orders'], { env, input: 'first\n\u00e4\n\n' })).status).toBe(0)
  expect((await cli(['produce', 'others', '--raw', '--type', '7'], { env, input: Buffer.from([255, 0]) })).status).toBe(
    0,
  )
  expect((await cli(['produce', 'orders', '--producer', 'loader'], { env, input: 'second\n' })).status).toBe(0)
  printed = await allOf(env)
  expect(await daemon.kill()).toBe(0)
})

afterAll(removeTemporaryDirectories)

async function allOf(env: Record<string, string>): Promise<Record<string, string>> {
  const all: Record<string, string> = {}
  for (const name of ['orders', 'others']) {
    const result = await cli(['consume', name, '--until-caught-up', '--json'], { env })
    expect(result.stderr).toBe('')
    all[name] = result.stdout.toString()
  }
  return all
}

async function changed(change: (data: string) => Promise<void>): Promise<{ copy: string; out: string }> {
  const directory = await temporaryDirectory()
  const copy = join(directory, 'data')
  await cp(data, copy, { recursive: true })
  await change(copy)
  return { copy, out: join(directory, 'out') }
}

describe('salvage', () => {
  test.skipIf(budgetName() === 'small')(
    'a data directory without manifests, headers, descriptor, lease and catalog: a daemon serves what comes out',
    async () => {
      const { copy, out } = await changed(async (at) => {
        for (const name of ['tidelog.json', 'LEASE', 'catalog']) await rm(join(at, name), { recursive: true })
        for (const pchannel of ['0', '1']) {
          const log = join(at, 'pchannels', pchannel)
          await rm(await fileIn(log, 'MANIFEST-'))
          await flip(await fileIn(log, '.seg'), 60)
        }
      })
      const before = await readdir(copy, { recursive: true })
      const result = await cli(['salvage', copy, '--out', out, '--json'])
      expect(result.stderr).toBe('')
      const [salvage] = result.json() as [
        { records: number; lost: unknown[]; assumptions: string[]; logs: { snapshots: object[] }[] },
      ]
      // Which vchannels there were without records, nobody knows.
      expect(salvage.lost).toEqual([{ log: 'catalog', lsnFrom: 0, lsnTo: null }])
      expect(result.status).toBe(9)
      // With that of the producer.
      expect(salvage.records).toBe(6)
      expect(salvage.logs.flatMap(({ snapshots }) => snapshots)).toMatchObject([
        { state: 'copied' },
        { state: 'copied' },
      ])
      expect(salvage.assumptions.length).toBe(2)
      expect(salvage.logs.length).toBe(3)
      expect(await readdir(copy, { recursive: true })).toEqual(before)
      expect((await cli(['verify', out, '--json'])).json()).toMatchObject([{ clean: true }])
      const daemon = await startDaemonProcess({ data: out })
      // The producer that wrote it is known: it is not written again.
      const again = ['produce', 'orders', '--producer', 'loader', '--json']
      const repeated = await cli(again, { env: daemon.env, input: 'second\n' })
      expect(repeated.json()).toMatchObject([{ sequence: 1, duplicate: true }])
      expect(await allOf(daemon.env)).toEqual(printed)
      expect((await cli(['produce', 'orders'], { env: daemon.env, input: 'third\n' })).status).toBe(0)
      expect(await daemon.kill()).toBe(0)
      expect((await cli(['verify', out])).status).toBe(0)
    },
  )

  test('a sound data directory: nothing is lost, and people are told what to type next', async () => {
    const { copy, out } = await changed(async () => {})
    const result = await cli(['salvage', copy, '--out', out])
    expect(result.status).toBe(0)
    expect(result.stdout.toString()).toContain('Nothing was lost.')
    expect(result.stderr).toContain('tidelog verify')
    expect((await cli(['verify', out])).status).toBe(0)
    const again = await cli(['salvage', copy, '--out', out, '--json'])
    expect(again.status).toBe(1)
    expect(JSON.parse(again.stderr).error).toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('one log with a damaged record: exit code 9, the LSNs, and the rest', async () => {
    const { copy, out } = await changed(async (at) => {
      const segment = await fileIn(join(at, 'pchannels', '0'), '.seg')
      const bytes = await readFile(segment)
      await flip(segment, bytes.indexOf('second'))
    })
    const result = await cli(['salvage', join(copy, 'pchannels', '0'), '--out', out, '--json'])
    expect(result.status).toBe(9)
    expect(result.json()).toMatchObject([{ records: 4, lost: [{ lsnFrom: 4, lsnTo: 4 }], assumptions: [] }])
    const dumped = (await cli(['dump', out, '--json'])).json().filter(({ kind }) => kind === 'record')
    // The fourth is the epoch of the producer.
    expect(dumped.slice(0, 3).map(({ lsn, payload }) => [lsn, payload])).toEqual([
      [0, 'first'],
      [1, '\u00e4'],
      [2, ''],
    ])
    expect(dumped).toHaveLength(4)
  })

  test('a path with nothing of a log in it is an error', async () => {
    const empty = await temporaryDirectory()
    const result = await cli(['salvage', empty, '--out', join(empty, 'out', 'x'), '--json'])
    expect(result.status).toBe(1)
    expect(JSON.parse(result.stderr).error).toMatchObject({ code: 'LOG_MISSING' })
  })
})

describe('reindex', () => {
  test('makes the indexes of every log that are missing or wrong, and prints which', async () => {
    const { copy } = await changed(async (at) => {
      await rm(await fileIn(join(at, 'pchannels', '0'), '.idx'))
      await flip(await fileIn(join(at, 'catalog'), '.idx'), 200)
    })
    expect((await cli(['verify', copy])).status).toBe(8)
    const result = await cli(['reindex', copy, '--json'])
    expect(result.stderr).toBe('')
    expect(result.status).toBe(0)
    const [{ logs }] = result.json() as [{ logs: { path: string; made: { was: string }[]; failed: unknown[] }[] }]
    const made = logs.map(({ path, made }) => [path.slice(copy.length), made.map(({ was }) => was)])
    expect(made).toEqual([
      ['/catalog', ['wrong']],
      ['/pchannels/0', ['missing']],
      ['/pchannels/1', []],
    ])
    expect((await cli(['verify', copy])).status).toBe(0)
    const again = await cli(['reindex', join(copy, 'pchannels', '0')])
    expect(again.stdout.toString()).toContain('0 indexes made')
  })
})
