import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cli, removeTemporaryDirectories, startDaemonProcess, temporaryDirectory } from './cli-process.ts'
import { fileIn, flip } from './damaged-files.ts'

/** A data directory that a daemon filled, sealed and left. */
let data: string

beforeAll(async () => {
  const daemon = await startDaemonProcess({ flags: ['--pchannels', '2'] })
  data = daemon.data
  const { env } = daemon
  for (const line of ['first', 'second', 'third']) {
    expect((await cli(['produce', 'orders'], { env, input: `${line}\n` })).status).toBe(0)
  }
  expect((await cli(['produce', 'others'], { env, input: 'elsewhere\n' })).status).toBe(0)
  const beside = await cli(['repair', data, '--apply'])
  expect(beside.status).toBe(1)
  expect(beside.stderr).toContain('LOCKED')
  expect(await daemon.kill()).toBe(0)
})

afterAll(removeTemporaryDirectories)

async function copied(): Promise<string> {
  const copy = join(await temporaryDirectory(), 'data')
  await cp(data, copy, { recursive: true })
  return copy
}

/** A bit in the frame of the record with this payload. */
async function flipRecord(log: string, payload: string): Promise<void> {
  const record = (await cli(['dump', log, '--json'])).json().find((each) => each.payload === payload)
  await flip(join(log, record!.file as string), (record!.position as number) + 100)
}

async function bytesOf(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile() && !entry.name.startsWith('LOCK')) files.set(path, (await readFile(path)).toString('base64'))
  }
  return new Map([...files].sort())
}

const keys = ['path', 'mode', 'applied', 'actions', 'lost', 'skipped', 'assumptions', 'quarantined', 'nextLsn', 'sound']

describe('repair', () => {
  test('a sound data directory: nothing to repair, exit code 0', async () => {
    const result = await cli(['repair', data, '--json'])
    expect(result.status).toBe(0)
    const [report] = result.json()
    expect(Object.keys(report!)).toEqual([...keys, 'logs'])
    expect(report).toMatchObject({ path: data, mode: 'tail', applied: false, actions: [], lost: [], sound: true })
  })

  test('one log: told and not done, done, found sound, taken back byte for byte', async () => {
    const copy = await copied()
    const log = join(copy, 'pchannels', '0')
    await flipRecord(log, 'second')
    const damaged = await bytesOf(log)
    const dry = await cli(['repair', log, '--json'])
    expect(dry.status).toBe(9)
    const [told] = dry.json()
    expect(Object.keys(told!)).toEqual([...keys, 'damage', 'findings'])
    expect(told).toMatchObject({ applied: false, lost: [{ lsnFrom: 1, lsnTo: 1 }], nextLsn: 3, quarantined: [] })
    expect((told!.actions as { action: string }[]).map(({ action }) => action)).toEqual([
      'rewrite',
      'quarantine',
      'publish-manifest',
    ])
    expect(await bytesOf(log)).toEqual(damaged)

    const done = await cli(['repair', log, '--apply'])
    expect(done.status).toBe(0)
    expect(done.stdout.toString()).toContain('LSN 1\n')
    expect((await cli(['verify', log])).status).toBe(0)
    expect((await cli(['repair', log])).stdout.toString()).toContain('nothing to repair')
    const dumped = (await cli(['dump', log, '--json'])).json()
    expect(dumped.flatMap(({ kind, payload }) => (kind === 'record' ? [payload] : []))).toEqual(['first', 'third'])

    expect((await cli(['repair', log, '--undo', '--apply', '--json'])).json()[0]).toMatchObject({ applied: true })
    expect(await bytesOf(log)).toEqual(damaged)
    const refused = await cli(['repair', log, '--undo', '--apply', '--json'])
    expect(refused.status).toBe(1)
    expect(JSON.parse(refused.stderr).error.code).toBe('UNDO_REFUSED')
  })

  test('--mode point-in-time: what lies behind the damage goes too', async () => {
    const copy = await copied()
    const log = join(copy, 'pchannels', '0')
    await flipRecord(log, 'second')
    const done = await cli(['repair', log, '--mode', 'point-in-time', '--apply', '--json'])
    expect(done.status).toBe(0)
    expect(done.json()[0]).toMatchObject({ mode: 'point-in-time', lost: [{ lsnFrom: 1, lsnTo: 2 }], nextLsn: 3 })
    expect((await cli(['repair', log, '--mode', 'sideways'])).status).toBe(2)
  })

  test('a data directory: logs, descriptor, lease, and a catalog that is made again from the records', async () => {
    const copy = await copied()
    await rm(join(copy, 'catalog'), { recursive: true })
    await rm(join(copy, 'tidelog.json'))
    await flip(join(copy, 'LEASE'), 30)
    await rm(await fileIn(join(copy, 'pchannels', '1'), 'MANIFEST-'))
    expect((await cli(['repair', copy])).status).toBe(9)
    const done = await cli(['repair', copy, '--apply', '--json'])
    expect(done.stderr).toBe('')
    expect(done.status).toBe(0)
    const actions = (done.json()[0]!.actions as { action: string; file: string }[]).map(({ action }) => action)
    expect(actions).toEqual(['publish-manifest', 'rebuild-descriptor', 'renew-lease', 'rebuild-catalog'])
    expect((await cli(['verify', copy])).status).toBe(0)
    const daemon = await startDaemonProcess({ data: copy })
    const { env } = daemon
    const read = await cli(['consume', 'orders', 'others', '--until-caught-up'], { env })
    expect(read.stdout.toString().split('\n').sort()).toEqual(['', 'elsewhere', 'first', 'second', 'third'])
    expect((await cli(['produce', 'orders'], { env, input: 'fourth\n' })).stderr).toContain('LSN 3')
    expect(await daemon.kill()).toBe(0)
  })
})
