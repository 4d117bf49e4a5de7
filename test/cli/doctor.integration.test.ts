import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { DoctorReport } from '../../src/cli/doctor/examine.ts'
import { cli, removeTemporaryDirectories, startDaemonProcess, temporaryDirectory } from './cli-process.ts'

/** However full the disk is on which the tests run. */
const roomy = ['--disk-warn-percent', '100', '--disk-refuse-percent', '100']

afterAll(() => removeTemporaryDirectories())

async function report(args: readonly string[]): Promise<{ status: number | null; report: DoctorReport }> {
  const result = await cli(['doctor', '--json', ...roomy, ...args])
  expect(result.stderr).toBe('')
  return { status: result.status, report: result.json()[0] as unknown as DoctorReport }
}

test('beside a running daemon: says which process has it, measures, and changes nothing', async () => {
  const daemon = await startDaemonProcess()
  try {
    expect((await cli(['produce', 'orders'], { input: 'one\n', env: daemon.env })).status).toBe(0)
    const names = async (): Promise<string[]> => (await readdir(daemon.data)).sort()
    const before = await names()
    const { status, report: found } = await report(['--data', daemon.data])
    expect(status).toBe(found.healthy ? 0 : 1)
    const messageOf = (code: string) => found.checks.find((check) => check.code === code)!.message
    expect(messageOf('DAEMON')).toBe(`process ${daemon.child.pid} has it open`)
    expect(messageOf('DESCRIPTOR')).toBe('4 pchannels, durability disk')
    expect(messageOf('WRITE_WAY')).toMatch(/^(dsync|fdatasync) at depth \d+: /)
    expect(found.latencies).toHaveLength(8)
    expect(found.parallel.map(({ depth }) => depth)).toEqual([1, 2, 4])
    expect(await names()).toEqual(before)
    expect((await readdir(join(daemon.data, 'pool'))).filter((name) => name.startsWith('write-probe-'))).toEqual([])
    expect((await cli(['produce', 'orders'], { input: 'two\n', env: daemon.env })).status).toBe(0)
  } finally {
    await daemon.kill()
  }
})

test('exit code 1 when a check fails, with what to do; 2 for a setting that cannot be; text for people', async () => {
  const directory = await temporaryDirectory()
  const fresh = await report(['--data', join(directory, 'not-yet')])
  expect(fresh.report.checks[0]).toMatchObject({ code: 'DIRECTORY', status: 'ok' })
  expect(await readdir(directory)).toEqual([])
  await writeFile(join(directory, 'thesis.tex'), 'precious')
  const result = await cli(['doctor', ...roomy, '--data', directory])
  expect(result.status).toBe(1)
  const text = result.stdout.toString()
  expect(text).toMatch(
    /^fail {2}DESCRIPTOR +.* holds something else \(thesis\.tex\) and no tidelog\.json\n +next: Choose/m,
  )
  expect(text).toMatch(/^SYNCED WRITE +BYTES +SAMPLES +MEDIAN MS/m)
  expect(text).toMatch(/^1 failed, \d+ warnings\.$/m)
  expect(await readdir(directory)).toEqual(['thesis.tex'])
  expect((await cli(['doctor', '--write-depth', '99'])).status).toBe(2)
})
