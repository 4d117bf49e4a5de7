import { describe, expect, it } from 'vitest'
import { openLog } from '../../../native-free-storage/index.ts'
import { reindexLog } from '../../../native-free-storage/maintenance/reindex.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const directory = '/data/log'
const writeWay = { mode: 'dsync', depth: 4, reason: 'a simulation' } as const

async function filledLog() {
  const disk = new SimDisk({ seed: 3 })
  disk.prepareDirectory('/data')
  const environment = logEnvironment(disk, 3)
  const open = () => openLog(directory, { environment, segmentBytes: 16 * 1024, cacheBytes: 0, writeWay })
  const log = await open()
  for (let i = 0; i < 24; i++) await log.append([{ vchannel: `v${i % 4}`, payload: Buffer.alloc(1500, i) }])
  await log.close()
  const names = disk.paths().map((path) => path.slice(directory.length + 1))
  const indexes = names.filter((name) => name.endsWith('.idx')).sort()
  const path = (name: string): string => `${directory}/${name}`
  const codes = async (): Promise<string[]> => {
    return (await verifyLog(environment, directory)).findings.map(({ code }) => code)
  }
  return { disk, environment, open, indexes, path, codes }
}

describe('reindex', () => {
  it('makes what is missing or wrong, keeps what is right, byte for byte as the writer made them', async () => {
    const { disk, environment, indexes, path, codes } = await filledLog()
    expect(indexes.length).toBeGreaterThan(3)
    const before = indexes.map((name) => Buffer.from(disk.contents(path(name))))
    await disk.unlink(path(indexes[0]!))
    disk.flipBit(path(indexes[1]!), 4100, 2)
    disk.poke(path(indexes[2]!), 0, disk.contents(path(indexes[3]!)))
    expect(await codes()).toEqual(['INDEX_MISSING', 'INDEX_WRONG', 'INDEX_WRONG'])
    const told: string[] = []
    const report = await reindexLog(environment, directory, { onIndex: (file) => told.push(file) })
    expect(report).toEqual({
      path: directory,
      made: [
        { file: indexes[0], was: 'missing' },
        { file: indexes[1], was: 'wrong' },
        { file: indexes[2], was: 'wrong' },
      ],
      kept: indexes.length - 3,
      failed: [],
    })
    expect(told).toEqual(indexes)
    expect(await codes()).toEqual([])
    expect(indexes.map((name) => Buffer.from(disk.contents(path(name))))).toEqual(before)
  })

  it('makes the indexes of a log whose process died, also behind the tail that the manifest names', async () => {
    const { disk, open } = await filledLog()
    const log = await open()
    for (let i = 0; i < 12; i++) await log.append([{ vchannel: 'a', payload: Buffer.alloc(1500, i) }])
    const names = disk.paths().filter((name) => name.endsWith('.idx'))
    disk.processCrash(1)
    const next = disk.nextProcess()
    const after = logEnvironment(next, 4)
    for (const name of names) await next.unlink(name)
    const { made, failed } = await reindexLog(after, directory)
    expect(made.length).toBeGreaterThanOrEqual(names.length)
    expect(failed).toEqual([])
    expect((await reindexLog(after, directory)).made).toEqual([])
    expect((await verifyLog(after, directory)).findings.filter(({ code }) => code.startsWith('INDEX_'))).toEqual([])
  })

  it('refuses beside a writer, and where there is no log', async () => {
    const { environment, open } = await filledLog()
    const log = await open()
    await expect(reindexLog(environment, directory)).rejects.toMatchObject({ code: 'LOCKED' })
    await log.close()
    await expect(reindexLog(environment, '/data')).rejects.toMatchObject({ code: 'LOG_MISSING' })
  })

  it('makes no index of a damaged segment, and says so', async () => {
    const { disk, environment, indexes, path } = await filledLog()
    await disk.unlink(path(indexes[1]!))
    disk.flipBit(path(indexes[1]!.replace('.idx', '.seg')), 4096 + 20, 1)
    disk.flipBit(path(indexes[2]!.replace('.idx', '.seg')), 20, 1)
    const { made, kept, failed } = await reindexLog(environment, directory)
    expect(made).toEqual([])
    expect(kept).toBe(indexes.length - 2)
    expect(failed).toEqual([
      { file: indexes[1], was: 'damaged-segment' },
      { file: indexes[2], was: 'damaged-segment' },
    ])
  })

  it('tells when there is no room, and leaves what was there', async () => {
    const { disk, environment, indexes, path } = await filledLog()
    disk.flipBit(path(indexes[0]!), 4100, 2)
    const before = Buffer.from(disk.contents(path(indexes[0]!)))
    disk.setFreeBytes(8192)
    await expect(reindexLog(environment, directory)).rejects.toMatchObject({ code: 'DISK_FULL', retriable: true })
    expect(Buffer.from(disk.contents(path(indexes[0]!)))).toEqual(before)
    expect(disk.paths().filter((name) => name.endsWith('.tmp'))).toEqual([])
    disk.setFreeBytes(1024 * 1024)
    expect((await reindexLog(environment, directory)).made.length).toBe(1)
  })
})
