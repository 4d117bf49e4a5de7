import { expect, test } from 'vitest'
import { type OpenWalOptions, openWal } from '../../src/wal/index.ts'
import { budget } from '../budget.ts'
import { logDirectory, logEnvironment } from '../simulation/log-session.ts'
import { SimDisk } from '../simulation/sim-disk.ts'

const seed = process.env.TIDELOG_SEED ?? '20260101'
const WRITE_DEADLINE_MS = 1_000

test(`a write that does not return: its appends settle, the watermark goes on, order and records stay (seed ${seed})`, async () => {
  const runs = budget({ small: 4, ci: 60 })
  for (let run = 0; run < runs; run++) {
    const disk = new SimDisk({ names: 'strict', seed: `${seed}/${run}` })
    const options: OpenWalOptions = {
      environment: logEnvironment(disk, `${seed}/${run}`),
      segmentBytes: 64 * 1024,
      cacheBytes: 256 * 1024,
      writeDeadlineMs: WRITE_DEADLINE_MS,
      writeWay: { mode: 'dsync', depth: run % 2 === 0 ? 4 : 1, reason: 'a simulation' },
    }
    const told: number[] = []
    const wal = await openWal(logDirectory, {
      ...options,
      interceptors: [{ name: 'index', afterAppend: (_message, { lsn }) => void told.push(lsn) }],
    })
    await wal.append({ vchannel: 'a', payload: Buffer.from('first') })
    let stalls = 0
    let left = run % 3
    const heal = disk.inject(({ kind, path, position }) => {
      const ours = kind === 'write' && path.startsWith(logDirectory) && /[.](seg|new|prep)$/.test(path)
      if (!ours || (position ?? 0) < 4_096 || left-- !== 0) return undefined
      stalls++
      return { stall: run % 2 === 0 ? 'late' : 'landed' }
    })
    const before = disk.clock.monotonicMs()
    const appended: number[] = []
    for (let round = 0; round < 4; round++) {
      const results = await Promise.all([
        wal.append({ vchannel: 'a', payload: Buffer.alloc(3_000) }),
        wal.append([{ vchannel: 'a' }, { vchannel: 'b', payload: Buffer.alloc(9_000) }]),
        // An exclusive message waits for the stuck ones on its vchannel, and no longer.
        wal.append({ vchannel: 'b', type: 13 }),
        wal.append({ vchannel: 'b' }),
      ])
      for (const result of results) {
        if ('lsn' in result) appended.push(result.lsn)
        else for (let lsn = result.firstLsn; lsn <= result.lastLsn; lsn++) appended.push(lsn)
      }
      const last = results[3].timeTick
      expect(await wal.confirmed({ atLeast: last })).toBeGreaterThanOrEqual(last)
      // Also the watermark of the idle log goes on.
      const now = wal.watermark()
      expect(await wal.confirmed({ atLeast: now + 1n })).toBeGreaterThan(now)
    }
    expect(stalls).toBe(1)
    expect(disk.clock.monotonicMs() - before).toBeLessThan(20 * WRITE_DEADLINE_MS)
    for (const held of [...disk.stalled]) held.release()
    heal()
    const read: number[] = []
    for await (const item of wal.scan()) if (item.kind === 'message') read.push(item.lsn)
    expect(read).toEqual([0, ...appended.toSorted((one, two) => one - two)])
    expect(told).toEqual(read)
    await wal.close()

    const again = await openWal(logDirectory, options)
    const found: number[] = []
    for await (const item of again.scan()) if (item.kind === 'message') found.push(item.lsn)
    expect(found).toEqual(read)
    await again.close()
    disk.powerLoss()
  }
})
