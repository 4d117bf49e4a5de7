/** A log that is opened read-only while its writer goes on. */
import { expect, it } from 'vitest'
import { openFilePool, openLog } from '../../../native-free-storage/index.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const directory = '/data/log'
const writeWay = { mode: 'dsync', depth: 1, reason: 'a test' } as const

// The tail is read piece by piece. Found by looking at backups: frames that land between two reads look like frames
// behind a hole, and prove that what was empty a moment ago was durable.
it('is not taken for damaged when frames land between two reads of its tail', async () => {
  const disk = new SimDisk({ names: 'ext4', seed: 1 })
  disk.prepareDirectory(directory)
  const environment = logEnvironment(disk)
  const pool = await openFilePool(environment, directory)
  const options = { environment, pool, writeWay, segmentBytes: 4 * 1024 * 1024 }
  pool.want(1024 * 1024, 1)
  pool.want(2 * 1024 * 1024, 1)
  await pool.settled()
  const log = await openLog(directory, options)
  const append = () => log.append([{ vchannel: 'a', payload: Buffer.alloc(300_000, 7) }])
  // Into the second file, which is larger than one read.
  while (log.statistics().segments < 2) await append()
  await pool.settled()
  let stalledReads = 0
  const tail = disk
    .paths()
    .filter((path) => path.endsWith('.seg'))
    .sort()
    .at(-1)!
  disk.inject(({ kind, path, position }) =>
    kind === 'read' && path === tail && position! >= 1024 * 1024 && stalledReads++ === 0
      ? { stall: 'late' }
      : undefined,
  )
  const opening = openLog(directory, { environment, readOnly: true })
  while (disk.stalled.length === 0) await new Promise<void>((resolve) => disk.clock.after(1, resolve))
  for (let index = 0; index < 4; index++) await append()
  for (const stalled of disk.stalled) stalled.release()
  const reader = await opening
  let records = 0
  for await (const _ of reader.readRecords()) records++
  expect(records).toBe(reader.nextLsn)
  expect(reader.nextLsn).toBeGreaterThanOrEqual(log.nextLsn - 1)
  await log.close()
})
