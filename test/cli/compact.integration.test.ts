import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Log, openLog } from '../../native-free-storage/index.ts'
import { cli, removeTemporaryDirectories, temporaryDirectory } from './cli-process.ts'

let path: string

const open = (): Promise<Log> =>
  openLog(path, {
    segmentBytes: 64 * 1024,
    writeWay: { mode: 'dsync', depth: 4, reason: 'a test' },
    compaction: { enabled: false },
  })

beforeAll(async () => {
  path = join(await temporaryDirectory(), 'log')
  const log = await open()
  while (log.statistics().rolls < 3) {
    await Promise.all([log.append([{ vchannel: 'a', payload: Buffer.from('x') }]), log.appendTick()])
    await Promise.all(Array.from({ length: 300 }, () => log.appendTick()))
  }
  await log.close()
})

afterAll(removeTemporaryDirectories)

test('compact: says what it would save, is refused beside a writer, does it, and has nothing more to do', async () => {
  const log = await open()
  const refused = await cli(['compact', path])
  expect([refused.status, refused.stdout.length]).toEqual([1, 0])
  expect(refused.stderr).toContain('LOCKED')
  const beside = await cli(['compact', path, '--dry-run'])
  expect(beside.status).toBe(0)
  await log.close()
  expect(beside.stdout.toString()).toMatch(
    /^.*: 3 of 3 finished segments would be compacted\n {2}bytes {2}\d+\.\d kB -> at most .*, \d+ % saved\n {2}ticks {2}\d+ -> \d+\n$/,
  )
  const done = await cli(['compact', path, '--json'])
  expect(done.stderr).toBe('')
  const [report] = done.json() as [{ dryRun: boolean; logs: Record<string, unknown>[] }]
  expect(Object.keys(report)).toEqual(['dryRun', 'logs'])
  expect(report.logs).toHaveLength(1)
  const { bytesBefore, bytesAfter, tickFramesBefore, tickFramesAfter, compacted } = report.logs[0]!
  expect(bytesAfter).toBeLessThan((bytesBefore as number) / 4)
  expect(tickFramesAfter).toBeLessThan((tickFramesBefore as number) / 20)
  expect(compacted).toHaveLength(3)
  expect((await cli(['verify', path])).status).toBe(0)
  const again = await cli(['compact', path])
  expect(again.status).toBe(0)
  expect(again.stdout.toString()).toMatch(/: nothing to save \(3 finished segments of .*, \d+ stored ticks\)\n$/)
})
