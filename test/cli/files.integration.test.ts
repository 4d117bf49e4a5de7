import { cp, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { thinned } from '../budget.ts'
import { cli, removeTemporaryDirectories, startDaemonProcess, temporaryDirectory } from './cli-process.ts'
import { fileIn, flip } from './damaged-files.ts'

/** A data directory that a daemon filled, sealed and left: two segments in the log of `orders`. */
let data: string
/** The directory of that log. */
let log: string
let acknowledged: Record<string, unknown>[]

const verificationKeys = ['path', 'firstLsn', 'lastLsn', 'provenLsn', 'records', 'bytes', 'findings']
const findingKeys = ['code', 'severity', 'file', 'position', 'lsnFrom', 'lsnTo', 'acknowledged', 'message']

beforeAll(async () => {
  const daemon = await startDaemonProcess({ flags: ['--pchannels', '2'] })
  data = daemon.data
  log = join(data, 'pchannels', '0')
  const { env } = daemon
  acknowledged = (await cli(['produce', 'orders', '--json'], { env, input: 'first\n\u00e4\n\n' })).json()
  const envelope = '{"payloadBase64":"/wA=","type":40000,"properties":{"k":"v"}}\n'
  acknowledged.push(...(await cli(['produce', 'orders', '--envelope', '--json'], { env, input: envelope })).json())
  expect((await cli(['produce', 'others'], { env, input: 'elsewhere\n' })).status).toBe(0)
  // Beside the running daemon: what is proven is read, and nothing is written.
  const beside = await cli(['verify', data, '--json'])
  expect(beside.status).toBe(0)
  expect(beside.json()[0]).toMatchObject({ clean: true })
  expect((await cli(['dump', data])).status).toBe(0)
  expect((await cli(['describe', data])).stdout.toString()).toContain('open for writing')
  expect(await daemon.kill()).toBe(0)
})

afterAll(removeTemporaryDirectories)

/** A copy of the data, changed. */
async function changed(change: (log: string) => Promise<void>): Promise<string> {
  const copy = join(await temporaryDirectory(), 'data')
  await cp(data, copy, { recursive: true })
  await change(join(copy, 'pchannels', '0'))
  return copy
}

describe('verify', () => {
  test('clean: exit code 0, one entry for each log, in the fixed form', async () => {
    const result = await cli(['verify', data, '--json'])
    expect(result.stderr).toBe('')
    expect(result.status).toBe(0)
    const [verification] = result.json() as [{ clean: boolean; logs: Record<string, unknown>[] }]
    expect(Object.keys(verification)).toEqual(['clean', 'logs'])
    expect(verification.clean).toBe(true)
    expect(verification.logs.map(({ path }) => path)).toEqual(
      ['catalog', 'pchannels/0', 'pchannels/1'].map((name) => join(data, name)),
    )
    for (const each of verification.logs) expect(Object.keys(each)).toEqual(verificationKeys)
    expect(verification.logs[1]).toMatchObject({ firstLsn: 0, lastLsn: 3, provenLsn: 3, records: 4, findings: [] })
    expect((await cli(['verify', log])).stdout.toString()).toMatch(/^clean .*: 4 records, .*LSN 0 to 3\nClean\.\n$/)
  })

  const changes: [string, number, string, (log: string) => Promise<void>][] = [
    ['a lost index', 8, 'INDEX_MISSING', async (log) => rm(await fileIn(log, '.idx'))],
    ['a stale index', 8, 'INDEX_WRONG', async (log) => flip(await fileIn(log, '.idx'), 100)],
    ['a flip in unused bytes of a header', 8, 'PADDING_NOT_ZERO', async (log) => flip(await fileIn(log, '.seg'), 4000)],
    ['a flip in a record', 9, 'FRAME_DAMAGED', async (log) => flip(await fileIn(log, '.seg'), 4096 + 100)],
    ['a segment that is gone', 9, 'SEGMENT_MISSING', async (log) => rm(await fileIn(log, '.seg'))],
    ['a segment that is shorter', 9, 'TAIL_DAMAGED', async (log) => truncate(await fileIn(log, '.seg'), 4096)],
    ['a manifest that is damaged', 9, 'MANIFEST_DAMAGED', async (log) => flip(await fileIn(log, 'MANIFEST'), 50)],
    ['a flip in the lease of the data', 8, 'LEASE_DAMAGED', async (log) => flip(join(log, '../../LEASE'), 25)],
    ['a lost lease of the data', 8, 'LEASE_DAMAGED', async (log) => rm(join(log, '../../LEASE'))],
    ['a lost descriptor', 8, 'DESCRIPTOR_DAMAGED', async (log) => rm(join(log, '../../tidelog.json'))],
    ['a flip in the descriptor', 8, 'DESCRIPTOR_DAMAGED', async (log) => flip(join(log, '../../tidelog.json'), 0)],
    ['a flip in its numbers', 8, 'DESCRIPTOR_DAMAGED', async (log) => flip(join(log, '../../tidelog.json'), 66)],
    ['a log that is gone', 9, 'LOG_MISSING', async (log) => rm(log, { recursive: true })],
    ['a catalog that is gone', 9, 'LOG_MISSING', async (log) => rm(join(log, '../../catalog'), { recursive: true })],
    ['a file that is none of ours', 0, 'FILE_STRAY', async (log) => writeFile(join(log, 'left.tmp'), '')],
  ]
  test.each(thinned(changes, 3))('%s: exit code %i, %s', async (_name, status, code, change) => {
    const copy = await changed(change)
    const result = await cli(['verify', copy, '--json'])
    expect(result.status).toBe(status)
    const [verification] = result.json() as [{ clean: boolean; logs: { findings: Record<string, unknown>[] }[] }]
    expect(verification.clean).toBe(status === 0)
    const findings = verification.logs.flatMap((each) => each.findings)
    expect(findings.map((finding) => finding.code)).toContain(code)
    for (const finding of findings) expect(Object.keys(finding)).toEqual(findingKeys)
    const text = await cli(['verify', copy])
    expect(text.status).toBe(status)
    expect(text.stdout.toString()).toContain(code)
  })
})

describe('dump', () => {
  test('prints every record with file and position, and its bytes come back exactly', async () => {
    const result = await cli(['dump', log, '--json'])
    expect(result.status).toBe(0)
    const records = result.json().filter(({ kind }) => kind === 'record')
    expect(records.map(({ lsn, timeTick }) => ({ lsn, timeTick }))).toEqual(
      acknowledged.map(({ lsn, timeTick }) => ({ lsn, timeTick })),
    )
    expect(records.map(({ payload }) => payload)).toEqual(['first', '\u00e4', '', undefined])
    expect(records[3]).toMatchObject({ payloadBase64: '/wA=', type: 40000, properties: { k: 'v' }, vchannel: 'orders' })
    for (const { file, position } of records) {
      expect(file).toMatch(/\.seg$/)
      expect(position).toBeGreaterThanOrEqual(4096)
    }
  })

  test('filters by LSN, tick, time, vchannel and type', async () => {
    const lsns = async (...flags: string[]) =>
      (await cli(['dump', data, '--json', ...flags])).json().flatMap(({ kind, vchannel, lsn }) => {
        return kind === 'record' && vchannel !== 'vchannels' ? [`${vchannel} ${lsn}`] : []
      })
    expect(await lsns()).toEqual(['orders 0', 'orders 1', 'orders 2', 'orders 3', 'others 0'])
    expect(await lsns('--lsn', '1..2')).toEqual(['orders 1', 'orders 2'])
    expect(await lsns('--vchannel', 'others')).toEqual(['others 0'])
    expect(await lsns('--vchannel', 'others', '--vchannel', 'orders', '--lsn', '3..')).toEqual(['orders 3'])
    expect(await lsns('--type', '40000')).toEqual(['orders 3'])
    const { timeTick } = acknowledged[1]!
    expect(await lsns('--tick', `${timeTick}`, '--vchannel', 'orders')).toEqual(['orders 1'])
    expect(await lsns('--time', '2020-01-01..2020-01-02')).toEqual([])
    expect(await lsns('--time', '2020-01-01..', '--type', '40000')).toEqual(['orders 3'])
    expect(await lsns('--time', '2020-01-01..2020-01-02', '--tick', `${timeTick}..`)).toEqual([])
  })

  test('--headers prints frames alone, --hex payloads in hex', async () => {
    const headers = (await cli(['dump', log, '--headers', '--json'])).json()
    expect(headers.map(({ kind }) => kind)).toContain('records')
    expect(headers.some(({ kind }) => kind === 'record')).toBe(false)
    expect(headers[0]).toMatchObject({ position: 4096, baseLsn: 0, faults: [] })
    expect((await cli(['dump', log, '--hex', '--lsn', '0'])).stdout.toString()).toContain(
      '    00000000: 6669 7273 74                             first\n',
    )
  })

  test('damage is printed in its place and does not end it', async () => {
    const copy = await changed(async (at) => flip(await fileIn(at, '.seg'), 4096 + 100))
    const result = await cli(['dump', copy])
    expect(result.status).toBe(1)
    expect(result.stdout.toString()).toContain('DAMAGED')
    expect(result.stdout.toString()).toContain('elsewhere')
    expect(result.stderr).toContain('tidelog verify')
  })
})

describe('describe', () => {
  test('says what a data directory consists of', async () => {
    const [described] = (await cli(['describe', data, '--json'])).json() as [{ logs: Record<string, unknown>[] }]
    expect(described).toMatchObject({ path: data, dataDirectory: { pchannels: 2, durability: 'disk' } })
    expect(described.logs[1]).toMatchObject({ firstLsn: 0, nextLsn: 4, closed: true, writerRunning: false })
    const text = (await cli(['describe', data])).stdout.toString()
    expect(text).toContain('2 pchannels')
    expect(text).toMatch(/SEGMENT +BASE LSN/)
  })
})

describe('a path without logs', () => {
  test.each(thinned(['describe', 'dump', 'verify'], 3))(
    '%s says LOG_MISSING, whatever the path is',
    async (command) => {
      const empty = await temporaryDirectory()
      const file = join(empty, 'file')
      await writeFile(file, '')
      for (const path of [empty, file, join(empty, 'missing')]) {
        const result = await cli([command, path, '--json'])
        expect(result.status).toBe(1)
        expect(JSON.parse(result.stderr).error).toMatchObject({ code: 'LOG_MISSING', file: path })
      }
    },
  )
})
