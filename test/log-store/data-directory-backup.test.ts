/** A data directory is copied as one: what its logs hold is in its catalog, and its ticks go on above the original's. */
import { describe, expect, it } from 'vitest'
import { type Environment, type Log, openLog, openTickOracle } from '../../native-free-storage/index.ts'
import { openDataDirectory, readDescriptor } from '../../src/log-store/data-directory.ts'
import { backupDataDirectory } from '../../src/log-store/data-directory-backup.ts'
import { logEnvironment } from '../simulation/log-session.ts'
import { SimDisk } from '../simulation/sim-disk.ts'

const path = '/data'
const out = '/copy'

async function dataDirectory() {
  const disk = new SimDisk({ names: 'strict', seed: 1 })
  disk.prepareDirectory(path)
  const environment = logEnvironment(disk)
  const directory = await openDataDirectory(environment, path, { pchannels: 2, durability: 'disk' })
  const ticks = await openTickOracle(environment, path)
  const open = (name: string): Promise<Log> => openLog(`${path}/${name}`, { environment, ticks, writeWay })
  return { disk, environment, directory, ticks, open }
}

const writeWay = { mode: 'dsync', depth: 1, reason: 'a test' } as const

async function textsOf(environment: Environment, directory: string): Promise<string[]> {
  const log = await openLog(directory, { environment, readOnly: true })
  const texts: string[] = []
  for await (const { payload } of log.readRecords()) texts.push(Buffer.from(payload).toString())
  await log.close()
  return texts
}

describe('a copy of a data directory', () => {
  it('has in its catalog what was placed a moment ago, although nothing proves it yet', async () => {
    const { environment, open } = await dataDirectory()
    const catalog = await open('catalog')
    const logs = [await open('pchannels/0'), await open('pchannels/1')]
    await catalog.append([{ vchannel: 'vchannels', payload: Buffer.from('orders') }])
    for (const text of ['first', 'second']) await logs[0]!.append([{ vchannel: 'orders', payload: Buffer.from(text) }])
    const reports = await backupDataDirectory(environment, path, out)
    // The second record proves the first one; the catalog's only record is proven by nothing.
    expect(reports.map(({ lastLsn, upTo }) => [lastLsn, upTo])).toEqual([
      [0, 'proven'],
      [null, 'proven'],
      [0, 'written'],
    ])
    expect(await textsOf(environment, `${out}/pchannels/0`)).toEqual(['first'])
    expect(await textsOf(environment, `${out}/catalog`)).toEqual(['orders'])
    expect(await readDescriptor(environment, out)).toEqual(await readDescriptor(environment, path))
  })

  it('gives no tick that the original may have given', async () => {
    const { environment, ticks, open } = await dataDirectory()
    await open('catalog')
    await open('pchannels/0')
    const log = await open('pchannels/1')
    await log.append([{ vchannel: 'a' }])
    // Told to consumers as a watermark, and in no record.
    const told = log.watermark()
    await backupDataDirectory(environment, path, out)
    expect(ticks.last).toBeGreaterThanOrEqual(told)
    const given = await openTickOracle(environment, out)
    expect(given.last).toBeGreaterThanOrEqual(told)
  })

  it('without a log of a pchannel is made only when there is no vchannel', async () => {
    const { environment, open } = await dataDirectory()
    const catalog = await open('catalog')
    await open('pchannels/0')
    expect(await backupDataDirectory(environment, path, out)).toHaveLength(2)
    await catalog.append([{ vchannel: 'vchannels', payload: Buffer.from('orders') }])
    await expect(backupDataDirectory(environment, path, '/another')).rejects.toMatchObject({ code: 'LOG_MISSING' })
  })

  it('is refused where there is no data directory', async () => {
    const { environment } = await dataDirectory()
    await expect(backupDataDirectory(environment, '/elsewhere', out)).rejects.toMatchObject({
      code: 'DATA_DIRECTORY_INVALID',
    })
  })
})
