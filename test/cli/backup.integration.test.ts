/** The command `backup`, beside a running daemon and on what it left. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cli, removeTemporaryDirectories, startDaemonProcess, temporaryDirectory } from './cli-process.ts'

let folder: string
let daemon: Awaited<ReturnType<typeof startDaemonProcess>>

const logKeys = [
  ...['path', 'out', 'logId', 'originLogId', 'forkLsn', 'firstLsn', 'lastLsn', 'nextLsn', 'upTo', 'writerRunning'],
  ...['segments', 'linkedFiles', 'copiedFiles', 'copiedBytes'],
]

beforeAll(async () => {
  folder = await temporaryDirectory()
  daemon = await startDaemonProcess({ flags: ['--pchannels', '2'] })
  const { env } = daemon
  expect((await cli(['produce', 'orders'], { env, input: 'first\nsecond\nthird\n' })).status).toBe(0)
})

afterAll(async () => {
  await daemon.kill()
  await removeTemporaryDirectories()
})

describe('backup', () => {
  test('of a data directory beside its daemon: one JSON object, clean, and served by another daemon', async () => {
    const out = join(folder, 'copy')
    const result = await cli(['backup', daemon.data, '--out', out, '--json'])
    expect(result.status).toBe(0)
    expect(result.stderr).toBe('')
    const [report] = result.json() as [{ logs: Record<string, unknown>[] }]
    expect(Object.keys(report)).toEqual(['path', 'out', 'dataDirectory', 'logs'])
    expect(report).toMatchObject({ path: daemon.data, out, dataDirectory: true })
    expect(report.logs.map(({ path }) => path)).toEqual(
      ['pchannels/0', 'pchannels/1', 'catalog'].map((name) => join(daemon.data, name)),
    )
    for (const log of report.logs) expect(Object.keys(log).sort()).toEqual([...logKeys].sort())
    expect((await cli(['verify', out])).status).toBe(0)
    const described = await cli(['describe', join(out, 'catalog')])
    expect(described.stdout.toString()).toContain(`copy of ${report.logs[2]!.originLogId}, its own from LSN`)
    const restored = await startDaemonProcess({ data: out })
    const texts = await cli(['consume', 'orders', '--from', 'earliest', '--until-caught-up'], { env: restored.env })
    expect('first\nsecond\nthird\n'.startsWith(texts.stdout.toString())).toBe(true)
    expect(await restored.kill()).toBe(0)
  })

  test('of one log, by hand: says what to type next', async () => {
    const out = join(folder, 'deep', 'er', 'log')
    const result = await cli(['backup', join(daemon.data, 'pchannels', '0'), '--out', out, '--copy'])
    expect(result.status).toBe(0)
    expect(result.stdout.toString()).toMatch(/: LSN 0 to \d, 0 files linked, \d+ copied .*, copy of [0-9a-f]{32} as /)
    expect(result.stderr).toContain(`tidelog verify ${out}`)
    // The bound of its ticks stands in the data directory.
    expect(await readdir(out)).toContain('LEASE')
  })

  test('refuses what it cannot do, and leaves nothing behind', async () => {
    const full = join(folder, 'full')
    await mkdir(full)
    await writeFile(join(full, 'notes.txt'), '')
    for (const [args, status, code] of [
      [[daemon.data, '--out', full], 1, 'INVALID_ARGUMENT'],
      [[daemon.data, '--out', join(daemon.data, 'copy')], 1, 'INVALID_ARGUMENT'],
      [[join(folder, 'nothing'), '--out', join(folder, 'new')], 1, 'LOG_MISSING'],
      [[daemon.data], 2, 'USAGE'],
    ] as const) {
      const result = await cli(['backup', ...args, '--json'])
      expect([result.status, JSON.parse(result.stderr).error.code]).toEqual([status, code])
    }
    expect(await readdir(full)).toEqual(['notes.txt'])
    expect(await readdir(folder)).not.toContain('new')
    expect(await readdir(daemon.data)).not.toContain('copy')
  })

  test('one that was interrupted is refused', async () => {
    const out = join(folder, 'interrupted')
    expect((await cli(['backup', daemon.data, '--out', out])).status).toBe(0)
    await writeFile(join(out, 'BACKUP.incomplete'), '')
    await rm(join(out, 'tidelog.json'))
    for (const command of [['verify'], ['backup', '--out', join(folder, 'again')], ['serve', '--data']]) {
      const result = await cli([...command, out])
      expect([result.status, result.stderr]).toEqual([1, expect.stringContaining('[BACKUP_INCOMPLETE]')])
    }
  })
})
