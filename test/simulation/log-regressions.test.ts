/** Faults of the engine that the simulation has found, each made small. */
import { beforeAll, expect, it } from 'vitest'
import { loadChecksum, openLog } from '../../native-free-storage/index.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { newDisk, readBack } from './crash-runner.ts'
import { logDirectory, logEnvironment, Session, ways } from './log-session.ts'

beforeAll(async () => {
  await loadChecksum()
})

it('padding that a torn write left is no damage, and the next open does not copy it', async () => {
  // Up to a multiple of 8 it belongs to the body, and from there to the frame. No hash covers either.
  for (let bytes = 300; bytes < 309; bytes++) {
    const disk = newDisk({ names: 'strict', seed: bytes })
    const session = new Session(disk, ways[0]!, bytes)
    await session.open()
    await session.submit(100)
    await session.submit(bytes)
    session.dies()
    const segment = session.disk.paths().find((path) => path.endsWith('.seg'))!
    const end = session.disk.contents(segment).findLastIndex((byte) => byte !== 0) + 1
    const padding = Math.ceil(end / 512) * 512 - end
    expect(padding).toBeGreaterThan(8)
    session.disk.poke(segment, end, new Uint8Array(padding).fill(0x5a))
    const environment = logEnvironment(session.disk, bytes)
    const before = await verifyLog(environment, logDirectory)
    expect(before.findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    const log = await openLog(logDirectory, session.options())
    await session.ledger.check(log)
    await log.close()
    const after = await verifyLog(environment, logDirectory)
    expect(after.findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    disk.powerLoss()
  }
})

it('a segment that holds durable markers alone gives its place to the next one: no two begin with the same LSN', async () => {
  // Which of two with the same LSN came first in the list was left to their random ids.
  for (let seed = 0; seed < 12; seed++) {
    const disk = newDisk({ names: 'strict', seed })
    const session = new Session(disk, ways[seed % 3]!, seed)
    await session.open({ segmentBytes: 16_384 })
    await session.submit(100, 200)
    // The marker that follows when the log is idle.
    await session.sleep(130)
    session.dies()
    await session.open({ segmentBytes: 16_384 })
    await session.submit(300)
    if (seed % 2 === 0) session.dies()
    else await session.close()
    await session.open({ segmentBytes: 16_384 })
    // A frame that does not fit behind the marker of a segment that is otherwise empty.
    for (let i = 0; i < 3; i++) {
      await session.submit(6_000)
      await session.sleep(130)
      await session.submit(15_000)
    }
    await session.close()
    for (let i = 0; i < 2; i++) await readBack(session)
    const bases = session.disk
      .paths()
      .filter((path) => path.endsWith('.seg'))
      .map((path) => path.slice(logDirectory.length + 1, -21))
    expect(new Set(bases).size).toBe(bases.length)
    const { findings } = await verifyLog(session.environment, logDirectory)
    expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    disk.powerLoss()
  }
})
