/** Logs that a later version wrote: what each kind of feature bit means for this one. docs/OPERATIONS.md, "Upgrade and downgrade". */
import { describe, expect, it } from 'vitest'
import { hash64, openLog } from '../../../native-free-storage/index.ts'
import { backupLog } from '../../../native-free-storage/maintenance/backup.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const directory = '/data/log'
const COMPATIBLE = 24
const READ_ONLY = 28
const INCOMPATIBLE = 32

/** A closed log of two records; its manifest has the bits at `offset` set. */
async function logWith(offset: number, bits: number) {
  const disk = new SimDisk({ names: 'ext4', seed: 1 })
  disk.prepareDirectory('/data')
  const options = {
    environment: logEnvironment(disk),
    writeWay: { mode: 'dsync', depth: 1, reason: 'a test' },
  } as const
  const log = await openLog(directory, options)
  await log.append([{ vchannel: 'a' }, { vchannel: 'b' }])
  await log.close()
  const path = disk.paths().find((name) => name.includes('/MANIFEST-'))!
  const bytes = Buffer.from(disk.contents(path))
  bytes.writeUInt32LE(bits, offset)
  bytes.writeBigUInt64LE(hash64(bytes.subarray(8)), 0)
  const file = await disk.open(path, 'write')
  await file.write(bytes, 0)
  await file.close()
  const state = (): string[] =>
    disk
      .paths()
      .filter((name) => !name.includes('/LOCK') && !name.includes('/pool'))
      .map((name) => `${name} ${Buffer.from(disk.contents(name)).toString('hex')}`)
  return { options, state }
}

async function countOf(log: Awaited<ReturnType<typeof openLog>>): Promise<number> {
  let count = 0
  for await (const _ of log.readRecords()) count++
  await log.close()
  return count
}

describe('a log of a later version', () => {
  const unknown = expect.objectContaining({ code: 'FORMAT_UNKNOWN', retriable: false })

  it('with an unknown compatible feature is read and written', async () => {
    const { options } = await logWith(COMPATIBLE, 0x40)
    const log = await openLog(directory, options)
    await log.append([{ vchannel: 'c' }])
    expect(await countOf(log)).toBe(3)
  })

  it('with an unknown read-only feature is read, and neither written nor copied; nothing is changed', async () => {
    const { options, state } = await logWith(READ_ONLY, 0x8000_0000)
    const before = state()
    await expect(openLog(directory, options)).rejects.toEqual(unknown)
    await expect(backupLog(options.environment, directory, '/data/copy')).rejects.toEqual(unknown)
    expect(state().filter((line) => line.startsWith(directory))).toEqual(before)
    expect(await countOf(await openLog(directory, { ...options, readOnly: true }))).toBe(2)
  })

  it('with an unknown incompatible feature is refused; nothing is changed', async () => {
    const { options, state } = await logWith(INCOMPATIBLE, 2)
    const before = state()
    await expect(openLog(directory, options)).rejects.toEqual(unknown)
    await expect(openLog(directory, { ...options, readOnly: true })).rejects.toEqual(unknown)
    expect(state()).toEqual(before)
  })
})
