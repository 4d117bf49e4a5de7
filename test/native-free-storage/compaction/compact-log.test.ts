/** Compaction of a closed log, what becomes of damage, and the other tools on compacted logs. */
import { readdirSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  compactLog,
  describe as describeLogs,
  dump,
  loadChecksum,
  reindexLog,
  repairLog,
  salvageLog,
  type TidelogError,
} from '../../../native-free-storage/index.ts'
import { backupLog } from '../../../native-free-storage/maintenance/backup.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'
import { parseHexDump } from '../format/hex-dump.ts'
import { appendSome, everything, faults, filesOf, newTicked, openTicked, seen, type Ticked } from './ticked-log.ts'

beforeAll(loadChecksum)

async function written(seed: string, frames = 160): Promise<Ticked & { lines: string[] }> {
  const ticked = newTicked(seed)
  const log = await openTicked(ticked)
  await appendSome(log, ticked, seed, frames)
  const lines = await seen(log)
  await log.close()
  return { ...ticked, lines }
}

async function read(ticked: Ticked): Promise<string[]> {
  const log = await openTicked(ticked, { readOnly: true })
  const lines = await seen(log)
  await log.close()
  return lines
}

const bytesOf = ({ disk }: Ticked): Map<string, string> =>
  new Map(disk.paths().map((path) => [path, Buffer.from(disk.contents(path)).toString('base64')]))

describe('compaction of a closed log', () => {
  it('says what it would do, and does nothing, in a dry run; then it does that', async () => {
    const ticked = await written('dry')
    const before = bytesOf(ticked)
    const asked: string[] = []
    const planned = await compactLog(ticked.environment, logDirectory, {
      ...everything,
      dryRun: true,
      onSegment: (file) => void asked.push(file),
    })
    expect(bytesOf(ticked)).toEqual(before)
    const segments = filesOf(ticked, '.seg').length
    expect(asked).toHaveLength(segments - 1)
    expect(planned).toMatchObject({ dryRun: true, segments: segments - 1, hindered: [] })
    expect(planned.compacted.every(({ madeFile }) => madeFile === null)).toBe(true)
    const done = await compactLog(ticked.environment, logDirectory, everything)
    expect(done.compacted.map(({ file }) => file)).toEqual(planned.compacted.map(({ file }) => file))
    expect(done.tickFramesAfter).toBe(planned.tickFramesAfter)
    expect(done.tickFramesAfter).toBeLessThan(done.tickFramesBefore)
    // The new file is packed more closely than the count promises.
    expect(done.bytesAfter).toBeLessThanOrEqual(planned.bytesAfter)
    expect(await faults(ticked)).toEqual([])
    expect(await read(ticked)).toEqual(ticked.lines)
    expect(await compactLog(ticked.environment, logDirectory, everything)).toMatchObject({ compacted: [] })
    expect(filesOf(ticked, '.seg')).toHaveLength(segments)
    expect(filesOf(ticked, '.idx')).toHaveLength(segments)
    ticked.disk.powerLoss()
  })

  it('leaves alone what would save too little', async () => {
    const ticked = await written('little')
    const before = filesOf(ticked, '.seg')
    const byBytes = await compactLog(ticked.environment, logDirectory, { savedBytesMin: 64 * 1024, savedShareMin: 0 })
    const byShare = await compactLog(ticked.environment, logDirectory, { savedBytesMin: 1, savedShareMin: 1 })
    expect([byBytes.compacted, byShare.compacted]).toEqual([[], []])
    expect(byBytes.bytesAfter).toBe(byBytes.bytesBefore)
    expect(filesOf(ticked, '.seg')).toEqual(before)
    for (const wrong of [{ savedBytesMin: 0 }, { savedShareMin: 2 }, { savedShareMin: Number.NaN }]) {
      await expect(compactLog(ticked.environment, logDirectory, wrong)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    }
    ticked.disk.powerLoss()
  })

  it('is refused while the log is open, where there is none, and when it was aborted', async () => {
    const ticked = await written('refused', 60)
    const log = await openTicked(ticked)
    await expect(compactLog(ticked.environment, logDirectory)).rejects.toMatchObject({ code: 'LOCKED' })
    expect(await compactLog(ticked.environment, logDirectory, { dryRun: true })).toMatchObject({ dryRun: true })
    await log.close()
    await expect(compactLog(ticked.environment, '/data/none')).rejects.toMatchObject({ code: 'LOG_MISSING' })
    const signal = AbortSignal.abort(new Error('enough'))
    const aborted = compactLog(ticked.environment, logDirectory, { ...everything, signal })
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(log.compact()).rejects.toMatchObject({ code: 'CLOSED' })
    ticked.disk.powerLoss()
  })

  it('leaves a damaged segment as it is, says so, and does the others', async () => {
    const ticked = await written('damaged')
    const victim = filesOf(ticked, '.seg')[1]!
    ticked.disk.flipBit(victim, 4096 + 44, 3)
    const before = Buffer.from(ticked.disk.contents(victim))
    const found = await faults(ticked)
    expect(found).not.toEqual([])
    const report = await compactLog(ticked.environment, logDirectory, everything)
    const file = victim.slice(logDirectory.length + 1)
    expect(report.hindered).toEqual([{ file, why: 'damaged' }])
    expect(report.compacted.length).toBeGreaterThan(1)
    expect(Buffer.from(ticked.disk.contents(victim)).equals(before)).toBe(true)
    expect(await faults(ticked)).toEqual(found)
    ticked.disk.powerLoss()
  })

  it('goes no further on a full disk than whole segments, and again when there is room', async () => {
    const ticked = await written('full')
    const full = await (async () => {
      const release = ticked.disk.inject(({ kind, path }) =>
        kind === 'write' && path.endsWith('.seg.tmp') ? { fail: 'ENOSPC' } : undefined,
      )
      const error = await compactLog(ticked.environment, logDirectory, everything).catch(
        (reason: TidelogError) => reason,
      )
      release()
      return error
    })()
    expect(full).toMatchObject({ code: 'DISK_FULL', retriable: true })
    expect(filesOf(ticked, '.tmp')).toEqual([])
    expect(await faults(ticked)).toEqual([])
    expect((await compactLog(ticked.environment, logDirectory, everything)).compacted.length).toBeGreaterThan(0)
    expect(await read(ticked)).toEqual(ticked.lines)
    ticked.disk.powerLoss()
  })

  it('keeps an old segment retired that cannot be removed, and the next open does, too', async () => {
    const ticked = await written('stuck', 100)
    const stuck = filesOf(ticked, '.seg')[1]!
    const release = ticked.disk.inject(({ kind, path }) =>
      kind === 'unlink' && path === stuck ? { fail: 'EIO' } : undefined,
    )
    expect((await compactLog(ticked.environment, logDirectory, everything)).compacted.length).toBeGreaterThan(1)
    for (let i = 0; i < 2; i++) await (await openTicked(ticked)).close()
    expect(filesOf(ticked, '.seg')).toContain(stuck)
    expect(await faults(ticked)).toEqual([])
    expect(await read(ticked)).toEqual(ticked.lines)
    release()
    await (await openTicked(ticked)).close()
    expect(filesOf(ticked, '.seg')).not.toContain(stuck)
    expect(await read(ticked)).toEqual(ticked.lines)
    ticked.disk.powerLoss()
  })

  it('does not touch the end that a killed process left', async () => {
    const ticked = newTicked('killed')
    const log = await openTicked(ticked)
    await appendSome(log, ticked, 'killed', 120)
    const lines = await seen(log)
    void log.append([{ vchannel: 'v0', payload: Buffer.alloc(5_000) }]).catch(() => {})
    ticked.disk.processCrash()
    const disk = ticked.disk.nextProcess()
    const next = { disk, environment: logEnvironment(disk) }
    const tail = filesOf(next, '.seg').at(-1)!
    const before = Buffer.from(disk.contents(tail))
    expect((await compactLog(next.environment, logDirectory, everything)).compacted.length).toBeGreaterThan(0)
    expect(Buffer.from(disk.contents(tail)).equals(before)).toBe(true)
    const again = await openTicked(next)
    expect((await seen(again)).slice(0, lines.length)).toEqual(lines)
    await again.close()
    expect(await faults(next)).toEqual([])
    disk.powerLoss()
  })

  it('finds nothing to do in the golden log of format version 1, or reads the same behind it', async () => {
    const golden = new URL('../../golden/v1-log/', import.meta.url)
    const disk = new SimDisk({ names: 'ext4' })
    disk.prepareDirectory(logDirectory)
    for (const name of readdirSync(golden).filter((name) => name.endsWith('.hex'))) {
      const file = await disk.create(`${logDirectory}/${name.slice(0, -'.hex'.length)}`, 'dsync')
      await file.write(parseHexDump(readFileSync(new URL(name, golden), 'utf8')), 0)
      await file.close()
    }
    const ticked = { disk, environment: logEnvironment(disk) }
    const before = await read(ticked)
    const report = await compactLog(ticked.environment, logDirectory, everything)
    expect(report).toMatchObject({ segments: 2, hindered: [], tickFramesBefore: 0 })
    expect(await read(ticked)).toEqual(before)
    expect(await faults(ticked)).toEqual([])
    const log = await openTicked(ticked)
    await log.append([{ vchannel: 'v1' }])
    await log.close()
    expect(await faults(ticked)).toEqual([])
    disk.powerLoss()
  })
})

describe('a compacted log', () => {
  async function compacted(seed: string): Promise<Ticked & { lines: string[] }> {
    const ticked = await written(seed)
    expect((await compactLog(ticked.environment, logDirectory, everything)).compacted.length).toBeGreaterThan(2)
    return ticked
  }

  it('is copied, and the copy goes on, is compacted, and copied again', async () => {
    const ticked = await compacted('backup')
    const { environment, lines } = ticked
    await backupLog(environment, logDirectory, '/data/copy')
    const copy = await openTicked(ticked, {}, '/data/copy')
    expect(await seen(copy)).toEqual(lines)
    await appendSome(copy, ticked, 'copy', 120)
    const more = await seen(copy)
    await copy.close()
    expect((await compactLog(environment, '/data/copy', everything)).compacted.length).toBeGreaterThan(0)
    await backupLog(environment, '/data/copy', '/data/second')
    const second = await openTicked(ticked, { readOnly: true }, '/data/second')
    expect(await seen(second)).toEqual(more)
    await second.close()
    // What both share was not written to.
    expect(await read(ticked)).toEqual(lines)
    expect(await faults(ticked)).toEqual([])
    ticked.disk.powerLoss()
  })

  it('is described, dumped, and indexed anew', async () => {
    const ticked = await compacted('tools')
    const { environment, disk } = ticked
    const described = await describeLogs(environment, logDirectory)
    expect(described.segments).toHaveLength(filesOf(ticked, '.seg').length)
    let records = 0
    for await (const frame of dump(environment, logDirectory)) {
      expect(frame.kind).not.toBe('damaged')
      records += [...(frame.records ?? [])].length
    }
    expect(records).toBe(ticked.lines.filter((line) => !line.startsWith('gap')).length)
    const indexes = filesOf(ticked, '.idx')
    const bytes = Buffer.from(disk.contents(indexes[1]!))
    await environment.disk.unlink(indexes[1]!)
    expect((await reindexLog(environment, logDirectory)).made).toHaveLength(1)
    expect(Buffer.from(disk.contents(indexes[1]!)).equals(bytes)).toBe(true)
    expect(await faults(ticked)).toEqual([])
    ticked.disk.powerLoss()
  })

  it('is copied while it is compacted, begun at any moment of it', async () => {
    for (const delayMs of [0, 5, 14, 30]) {
      const ticked = await written('beside backup', 100)
      const { environment, disk, lines } = ticked
      const log = await openTicked(ticked)
      const compacting = log.compact(everything)
      await new Promise<void>((resolve) => disk.clock.after(delayMs, resolve))
      const report = await backupLog(environment, logDirectory, '/data/copy')
      expect((await compacting).compacted.length).toBeGreaterThan(0)
      expect(report.forkLsn, `${delayMs} ms`).toBe(log.nextLsn)
      const copy = await openTicked(ticked, {}, '/data/copy')
      expect(await seen(copy)).toEqual(lines)
      await copy.close()
      await log.close()
      expect(await faults(ticked)).toEqual([])
      disk.powerLoss()
    }
  })

  it('is dumped and verified while it is compacted', async () => {
    const ticked = await written('beside')
    const log = await openTicked(ticked)
    let records = 0
    let compacted = 0
    for await (const frame of dump(ticked.environment, logDirectory)) {
      expect(frame.faults).toEqual([])
      records += [...(frame.records ?? [])].length
      if (compacted > 0) continue
      const [report, found] = await Promise.all([log.compact(everything), faults(ticked)])
      compacted = report.compacted.length
      expect(found).toEqual([])
    }
    expect(compacted).toBeGreaterThan(2)
    expect(records).toBe(ticked.lines.filter((line) => !line.startsWith('gap')).length)
    await log.close()
    ticked.disk.powerLoss()
  })

  it('is repaired when it is damaged, compacted again, and what is left of it is salvaged', async () => {
    const ticked = await compacted('repair')
    const { environment, disk, lines } = ticked
    const victim = filesOf(ticked, '.seg')[1]!
    disk.flipBit(victim, 4096 + 44, 2)
    await salvageLog(environment, logDirectory, '/data/saved')
    await repairLog(environment, logDirectory, { apply: true, mode: 'tail' })
    expect(await faults(ticked)).toEqual([])
    const left = await read(ticked)
    const kept = left.filter((line) => !line.startsWith('gap'))
    expect(kept.length).toBeLessThan(lines.length)
    expect(kept.filter((line) => !lines.includes(line))).toEqual([])
    const log = await openTicked(ticked)
    await appendSome(log, ticked, 'more', 120)
    const all = await seen(log)
    expect((await log.compact(everything)).compacted.length).toBeGreaterThan(0)
    expect(await seen(log)).toEqual(all)
    await log.close()
    expect(await faults(ticked)).toEqual([])
    const saved = await openTicked(ticked, { readOnly: true }, '/data/saved')
    expect((await seen(saved)).filter((line) => !line.startsWith('gap'))).toEqual(kept)
    await saved.close()
    disk.powerLoss()
  })
})
