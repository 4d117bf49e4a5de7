/**
 * A whole log of format version 1, as a process left it that was killed at work: two sealed segments with their indexes,
 * a tail that an opening has begun, a front that is truncated away. Its files never change. Every later version opens
 * it, reads the same records, finds it sound, and goes on in it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, type Log, loadChecksum, openLog } from '../../native-free-storage/index.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { logEnvironment } from '../simulation/log-session.ts'
import { SimDisk } from '../simulation/sim-disk.ts'
import { parseHexDump } from './format/hex-dump.ts'

const golden = new URL('../golden/v1-log/', import.meta.url)
const directory = '/data/log'

beforeAll(loadChecksum)

async function restored(): Promise<SimDisk> {
  const disk = new SimDisk({ names: 'ext4' })
  disk.prepareDirectory(directory)
  for (const name of readdirSync(golden).filter((name) => name.endsWith('.hex'))) {
    const file = await disk.create(`${directory}/${name.slice(0, -'.hex'.length)}`, 'dsync')
    await file.write(parseHexDump(readFileSync(new URL(name, golden), 'utf8')), 0)
    await file.close()
  }
  return disk
}

/** A record a line: LSN, tick, vchannel, type, properties, length and hash of the payload. */
async function listing(log: Log, vchannel?: string): Promise<string> {
  const lines: string[] = []
  const vchannels = vchannel === undefined ? undefined : [vchannel]
  for await (const frame of log.read({ from: { lsn: log.firstLsn }, vchannels })) {
    for (const { lsn, timeTick, vchannel: name, type, properties, payload } of frame) {
      const hash = payload === null ? 'null' : hash64(payload).toString(16)
      lines.push(`${lsn} ${timeTick} ${name} ${type} ${JSON.stringify({ ...properties })} ${payload?.length} ${hash}`)
    }
  }
  return `${lines.join('\n')}\n`
}

describe('the golden log of format version 1', () => {
  const records = () => readFileSync(new URL('records.txt', golden), 'utf8')

  it('is sound, and read from beside up to what is proven', async () => {
    const disk = await restored()
    const environment = logEnvironment(disk)
    const { findings } = await verifyLog(environment, directory)
    expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    const log = await openLog(directory, { environment, readOnly: true })
    const seen = await listing(log)
    expect(seen.length).toBeGreaterThan(0)
    expect(records().startsWith(seen)).toBe(true)
    await log.close()
    disk.powerLoss()
  })

  it('is opened, read to the last record, and goes on', async () => {
    const disk = await restored()
    const environment = logEnvironment(disk)
    const writeWay = { mode: 'dsync', depth: 4, reason: 'a test' } as const
    const log = await openLog(directory, { environment, writeWay })
    expect(log.firstLsn).toBe(3)
    expect(await listing(log)).toBe(records())
    const ofOne = records()
      .split('\n')
      .filter((line) => /^\d+ \d+ (v1)? \d/.test(line))
    expect(await listing(log, 'v1')).toBe(`${ofOne.join('\n')}\n`)
    const { firstLsn } = await log.append([{ vchannel: 'v1', payload: Buffer.from('later') }])
    expect(firstLsn).toBe(records().trimEnd().split('\n').length + 3)
    await log.close()
    const { findings } = await verifyLog(environment, directory)
    expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    disk.powerLoss()
  })
})
