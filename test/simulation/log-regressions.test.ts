/** Faults of the engine that the simulation has found, each made small. */
import { beforeAll, expect, it } from 'vitest'
import { loadChecksum, openLog, repairLog } from '../../native-free-storage/index.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { loseAll } from './choices.ts'
import { dieAt, newDisk, readBack } from './crash-runner.ts'
import { readAll } from './log-ledger.ts'
import { logDirectory, logEnvironment, Session, ways } from './log-session.ts'
import { repairWorkloads } from './repair-workload.ts'

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

it('a truncation leaves the segment that the manifest names as the tail, when the change after a roll could not be written', async () => {
  let tried = 0
  for (const fail of ['ENOSPC', 'EIO']) {
    const disk = newDisk({ names: 'strict', seed: 1 })
    const session = new Session(disk, ways[2]!, 1)
    session.ledger.askedFirstLsn = Number.POSITIVE_INFINITY
    await session.open({ segmentBytes: 16_384 })
    await session.submit(9_000)
    // The change of the manifest that follows the roll fails in the background.
    const heal = disk.inject(({ kind, path }) => {
      return kind === 'create' && path.includes('/MANIFEST-') ? { fail } : undefined
    })
    const spare = disk.inject(({ kind, path }) => {
      return kind === 'rename' && path.includes('/MANIFEST.spare') ? { fail } : undefined
    })
    await session.submit(9_000)
    await session.sleep(1)
    heal()
    spare()
    if (session.log.nextLsn === 2) tried++
    await session.ledger.truncate(session.log, session.log.nextLsn).catch(() => {})
    session.dies()
    await session.open()
    await session.ledger.check(session.log)
    await session.close()
    await readBack(session)
    disk.powerLoss()
  }
  expect(tried).toBeGreaterThan(0)
})

it('the part of a seal that a full disk took is removed: the manifest alone says where the segment ends', async () => {
  for (let short = 1; short < 512; short += 73) {
    const disk = newDisk({ names: 'strict', seed: short })
    const session = new Session(disk, ways[0]!, short)
    await session.open()
    await session.submit(100, 200)
    disk.inject(({ kind, path, length }) => {
      const isSeal = kind === 'write' && length === 512 && /\.(seg|new|prep)$/.test(path)
      return isSeal ? { short, fail: 'ENOSPC' } : undefined
    })
    await session.close()
    const environment = logEnvironment(disk, short)
    const { findings } = await verifyLog(environment, logDirectory)
    expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
    disk.powerLoss()
  }
})

it('a file that was only read and cannot be closed is no failure of the read', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[0]!, 1)
  await session.open({ cacheBytes: 0 })
  for (let i = 0; i < 5; i++) await session.submit(20_000)
  await session.log.close()
  await session.open({ cacheBytes: 0 })
  let failed = 0
  disk.inject(({ kind, path }) => {
    if (kind !== 'close' || !path.endsWith('.seg')) return undefined
    failed++
    return { fail: 'EIO' }
  })
  await session.ledger.check(session.log)
  expect(failed).toBeGreaterThan(0)
  disk.powerLoss()
})

it('a reader is told that the first segment of the log is gone', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[0]!, 1)
  await session.open({ segmentBytes: 16_384 })
  for (let i = 0; i < 5; i++) await session.submit(9_000)
  await session.close()
  const first = disk.paths().find((path) => path.includes('/00000000000000000000-') && path.endsWith('.seg'))!
  await disk.unlink(first)
  const log = await session.open()
  const read = readAll(log)
  await expect(read).rejects.toMatchObject({ code: 'SEGMENT_MISSING', file: first.slice(logDirectory.length + 1) })
  // What is behind it is read all the same.
  const lsns: number[] = []
  for await (const record of log.readRecords({ from: { lsn: 2 } })) lsns.push(record.lsn)
  expect(lsns).toEqual([2, 3, 4])
  disk.powerLoss()
})

/** A log of two segments whose process died before the manifest followed the roll: it still names the first one. */
async function killedBehindRoll() {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[2]!, 1)
  await session.open({ segmentBytes: 16_384 })
  await session.submit(9_000)
  const heal = disk.inject(({ kind, to }) =>
    kind === 'link' && to?.includes('/MANIFEST-') ? { stall: 'late' } : undefined,
  )
  await session.submit(9_000)
  session.dies()
  heal()
  const first = disk.paths().find((path) => path.includes('/00000000000000000000-') && path.endsWith('.seg'))!
  return { disk, session, first }
}

it('a tail that ends before the end which its successor names is damaged, and not torn', async () => {
  const { disk, session, first } = await killedBehindRoll()
  const hand = await session.disk.open(first, 'write')
  await hand.truncate(5_000)
  const { findings } = await verifyLog(session.environment, logDirectory)
  const place = { file: first.slice(logDirectory.length + 1), position: 4096, lsnFrom: 0, lsnTo: 0 }
  expect(findings).toContainEqual(expect.objectContaining({ code: 'TAIL_DAMAGED', severity: 'data-lost', ...place }))
  await expect(session.open()).rejects.toMatchObject({ code: 'LOG_DAMAGED', ...place })
  disk.powerLoss()
})

it('a tail whose seal is gone is damaged, and not torn, when a segment goes on at its end', async () => {
  for (const damagedBody of [false, true]) {
    const { disk, session, first: name } = await killedBehindRoll()
    const seal = session.disk.contents(name).findLastIndex((byte) => byte !== 0) & ~511
    disk.flipBit(name, seal + 40, 1)
    if (damagedBody) disk.flipBit(name, 4096 + 2_000, 1)
    const { findings } = await verifyLog(session.environment, logDirectory)
    const place = { file: name.slice(logDirectory.length + 1), position: seal, lsnFrom: 1 }
    expect(findings).toContainEqual(expect.objectContaining({ code: 'TAIL_DAMAGED', severity: 'data-lost', ...place }))
    if (damagedBody) {
      expect(findings).toContainEqual(expect.objectContaining({ code: 'FRAME_DAMAGED', lsnFrom: 0, lsnTo: 0 }))
    }
    await expect(session.open()).rejects.toMatchObject({ code: 'LOG_DAMAGED', ...place })
    const { lost, sound } = await repairLog(session.environment, logDirectory, { apply: true, mode: 'tail' })
    expect(sound).toBe(true)
    expect(lost).toEqual(damagedBody ? [{ lsnFrom: 0, lsnTo: 0 }] : [])
    await session.open()
    const { records } = await readAll(session.log)
    expect(records.map(({ lsn }) => lsn)).toEqual(damagedBody ? [1] : [0, 1])
    await session.close()
    disk.powerLoss()
  }
})

it('the part of a seal is removed also when the next segment meets the full disk first', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[2]!, 1)
  await session.open({ segmentBytes: 8_192 })
  for (let i = 0; i < 2; i++) await session.submit(600)
  let cut = 0
  const heal = disk.inject(({ kind, path, position, length }) => {
    if (kind !== 'write' || !/\.(new|prep|seg)$/.test(path)) return undefined
    if (position === 0) return { fail: 'ENOSPC' }
    if (length !== 512) return undefined
    cut++
    return { short: 300, fail: 'ENOSPC' }
  })
  await session.submit(6_000)
  heal()
  expect(cut).toBe(1)
  await session.submit(8)
  await session.close()
  const { findings } = await verifyLog(logEnvironment(disk, 1), logDirectory)
  expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
  disk.powerLoss()
})

it('a gap that meets a full disk is owed by the next opener too, when the process dies before it was written', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[3]!, 1)
  await session.open()
  for (let i = 0; i < 3; i++) await session.submit(60)
  session.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
  session.disk = disk.reboot(loseAll)
  disk.powerLoss()
  const heal = session.disk.inject(({ kind, path }) => {
    return kind === 'create' && path.includes('/pool/') ? { fail: 'ENOSPC' } : undefined
  })
  await session.open().catch(() => {})
  // A lease is written in this run of the machine.
  await session.sleep(3_000)
  session.watermark()
  await session.sleep(3_000)
  session.dies()
  heal()
  await session.open()
  expect(await session.submit(70)).toBe(null)
  expect(session.ledger.submissions.at(-1)!.firstLsn).toBeGreaterThan(1_000)
  await session.close()
  await readBack(session)
  session.disk.powerLoss()
})

it('a gap that meets a full disk is written when there is room: LSNs that a power loss may have taken are not given again', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[3]!, 1)
  await session.open()
  for (let i = 0; i < 3; i++) await session.submit(60)
  session.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
  session.disk = disk.reboot(loseAll)
  disk.powerLoss()
  let refused = 0
  const heal = session.disk.inject(({ kind, path, position }) => {
    if (kind !== 'write' || !path.endsWith('.new') || (position ?? 0) < 4096) return undefined
    refused++
    return { short: 0, fail: 'ENOSPC' }
  })
  await session.open().catch(() => {})
  await session.submit(50)
  heal()
  expect(refused).toBeGreaterThan(0)
  expect(await session.submit(70)).toBe(null)
  expect(session.ledger.submissions.at(-1)!.firstLsn).toBeGreaterThan(1_000)
  await session.close()
  await readBack(session)
  session.disk.powerLoss()
})

it('an undo of a repair that dies when it has removed a part of what the repair made: the next repair loses nothing', async () => {
  await loadChecksum()
  const workload = repairWorkloads.find(({ name }) => name === 'repair, undone')!
  const space = { workload, way: ways[1]!, names: 'strict', seed: '1' } as const
  const disk = newDisk(space)
  const removals: number[] = []
  disk.onStep = (step) => {
    if (/unlink \/data\/log\/\d{20}-[0-9a-f]{16}\.seg: (begins|done)/.test(disk.trace.at(-1) ?? '')) removals.push(step)
  }
  await workload.run(new Session(disk, space.way, space.seed))
  disk.onStep = undefined
  disk.powerLoss()
  // Two that the repair took out, two that the undo removes, two again.
  expect(removals.length).toBeGreaterThanOrEqual(6)
  for (const step of removals) await dieAt(space, step)
})

it('a sync that drops what was acknowledged at level os, and the process dies before it is told: no LSN is given again', async () => {
  let dropped = 0
  for (let later = 0; later < 24; later++) {
    const disk = newDisk({ names: 'strict', seed: later })
    const session = new Session(disk, ways[3]!, later)
    session.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
    await session.open({ segmentBytes: 16_384 })
    let hasFrames = ''
    const death = new Promise<void>((resolve) => {
      disk.inject(({ kind, path, step, position }) => {
        if (kind === 'write' && path.endsWith('.prep') && position !== 0) hasFrames = path
        if (kind !== 'sync' || path !== hasFrames) return undefined
        disk.onStep = (now) => {
          if (now <= step + later) return
          disk.onStep = undefined
          session.disk.processCrash(later)
          resolve()
        }
        return { syncFails: 'reverted' }
      })
    })
    const work = async (): Promise<void> => {
      while ((await session.submit(3_000)) === null);
    }
    await Promise.race([death, work().then(() => death)])
    session.dies()
    const before = session.ledger.known.size
    await session.open({ segmentBytes: 16_384 })
    expect(await session.submit(70)).toBe(null)
    await session.close()
    const { records } = await readBack(session)
    if (records.length < before) dropped++
    disk.powerLoss()
  }
  expect(dropped).toBeGreaterThan(0)
})

it('a truncated segment whose file cannot be removed is removed by the next open, and is not taken for a strange one', async () => {
  const disk = newDisk({ names: 'strict', seed: 1 })
  const session = new Session(disk, ways[0]!, 1)
  await session.open({ segmentBytes: 16_384 })
  for (let i = 0; i < 9; i++) await session.submit(6_000)
  const segments = () => session.disk.paths().filter((path) => /log\/\d{20}-[0-9a-f]{16}\.seg$/.test(path))
  const before = segments().length
  let refused = 0
  const heal = disk.inject(({ kind, path }) => {
    if (kind !== 'unlink' || !path.endsWith('.seg')) return undefined
    refused++
    return { fail: 'EIO' }
  })
  session.ledger.askedFirstLsn = 4
  await session.log.truncateBefore(4)
  expect(refused).toBeGreaterThan(0)
  expect(segments()).toHaveLength(before)
  heal()
  await session.close()
  await session.open({ segmentBytes: 16_384 })
  await session.close()
  expect(segments()).toHaveLength(before - refused)
  expect(session.disk.paths().filter((path) => path.includes('/quarantine/'))).toEqual([])
  await readBack(session)
  disk.powerLoss()
})
