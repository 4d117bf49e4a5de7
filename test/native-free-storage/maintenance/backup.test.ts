/** Backups on the simulated disk: what they hold, what they share with the original, and that the two part ways. */
import { expect, it, describe as suite } from 'vitest'
import type { DiskFile } from '../../../native-free-storage/disk/disk.ts'
import { encodeSegmentHeader } from '../../../native-free-storage/format/segment-header.ts'
import type { Environment, Log } from '../../../native-free-storage/index.ts'
import { type LogOptions, openLog } from '../../../native-free-storage/index.ts'
import { type BackupOptions, type BackupReport, backupLog } from '../../../native-free-storage/maintenance/backup.ts'
import { describe } from '../../../native-free-storage/maintenance/describe.ts'
import { dump } from '../../../native-free-storage/maintenance/dump.ts'
import { surveyLog } from '../../../native-free-storage/maintenance/log-survey.ts'
import { repairLog } from '../../../native-free-storage/maintenance/repair.ts'
import { salvageLog } from '../../../native-free-storage/maintenance/salvage.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { keepAll } from '../../simulation/choices.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { type SimDisk, SimDisk as Simulated } from '../../simulation/sim-disk.ts'

const original = '/data/log'
const copy = '/backup/one'

function machine(): { disk: SimDisk; environment: Environment } {
  const disk = new Simulated({ names: 'strict', seed: 1 })
  disk.prepareDirectory('/data')
  disk.prepareDirectory('/backup')
  return { disk, environment: logEnvironment(disk) }
}

function open(environment: Environment, directory: string, more: LogOptions = {}): Promise<Log> {
  const writeWay = { mode: 'dsync', depth: 2, reason: 'a test' } as const
  return openLog(directory, { environment, segmentBytes: 8192, cacheBytes: 65_536, writeWay, ...more })
}

async function fill(log: Log, count: number, mark = 'a'): Promise<void> {
  for (let index = 0; index < count; index++) {
    await log.append([{ vchannel: `v${index % 3}`, payload: Buffer.from(`${mark}${log.nextLsn}`.padEnd(700, '.')) }])
  }
}

async function textsOf(log: Log): Promise<string[]> {
  const texts: string[] = []
  for await (const record of log.readRecords()) {
    texts.push(`${record.lsn} ${Buffer.from(record.payload).toString().replace(/\.+$/, '')}`)
  }
  return texts
}

async function findingsOf(environment: Environment, directory: string): Promise<string[]> {
  const { findings } = await verifyLog(environment, directory)
  return findings.filter(({ severity }) => severity !== 'info').map(({ code, message }) => `${code} ${message}`)
}

async function backup(environment: Environment, from = original, out = copy, options: BackupOptions = {}) {
  const report = await backupLog(environment, from, out, options)
  expect(await findingsOf(environment, out)).toEqual([])
  return report
}

async function readCopy(environment: Environment, directory = copy): Promise<string[]> {
  const log = await open(environment, directory, { readOnly: true })
  const texts = await textsOf(log)
  await log.close()
  return texts
}

/** Bytes of every segment and index of a log, by name. */
function bytesOf(disk: SimDisk, directory: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const path of disk.paths()) {
    if (!path.startsWith(`${directory}/`) || !/\.(seg|idx)$/.test(path)) continue
    found.set(path.slice(directory.length + 1), Buffer.from(disk.contents(path)).toString('latin1'))
  }
  return found
}

suite('a backup', () => {
  it('of a closed log holds all of it, shares its files, and is a log with a new id', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 30)
    const texts = await textsOf(log)
    await log.close()
    const before = bytesOf(disk, original)
    const report = await backup(environment)
    expect(report).toMatchObject({
      ...{ path: original, out: copy, originLogId: log.logId, forkLsn: 30, firstLsn: 0, lastLsn: 29, nextLsn: 30 },
      ...{ upTo: 'written', writerRunning: false },
    })
    expect(report.logId).not.toBe(log.logId)
    expect(report.linkedFiles).toBe(before.size)
    // A lease and an empty segment of its own.
    expect(report.copiedFiles).toBe(2)
    expect(await readCopy(environment)).toEqual(texts)
    expect(bytesOf(disk, original)).toEqual(before)
  })

  it('and its original are appended to without either disturbing the other', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 20)
    const shared = await textsOf(log)
    const report = await backup(environment)
    expect(report.writerRunning).toBe(true)
    const linked = bytesOf(disk, copy)
    const other = await open(environment, copy)
    expect(other.logId).toBe(report.logId)
    expect(other.nextLsn).toBe(report.nextLsn)
    for (let round = 0; round < 3; round++) {
      await fill(log, 8, 'original-')
      await fill(other, 8, 'copy-')
    }
    await log.truncateBefore(15)
    expect((await textsOf(log)).filter((text) => text.includes('copy'))).toEqual([])
    const texts = await textsOf(other)
    expect(texts.slice(0, report.lastLsn! + 1)).toEqual(shared.slice(0, report.lastLsn! + 1))
    expect(texts.slice(report.lastLsn! + 1).every((text) => text.includes('copy'))).toBe(true)
    await log.close()
    await other.close()
    expect(await findingsOf(environment, original)).toEqual([])
    expect(await findingsOf(environment, copy)).toEqual([])
    // What they shared is as it was.
    const after = bytesOf(disk, copy)
    for (const [name, bytes] of linked) if (after.has(name)) expect(after.get(name), name).toBe(bytes)
    const reopened = await open(environment, copy)
    expect(await textsOf(reopened)).toEqual(texts)
    await reopened.close()
  })

  it('beside a writer ends at what is proven, and the LSNs that it lacks are not given again', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 5)
    // Acknowledged and not proven yet: the next frame, or the marker of an idle log, proves it.
    await log.append([{ vchannel: 'v', payload: Buffer.from('last') }])
    const report = await backup(environment)
    expect(report).toMatchObject({ upTo: 'proven', forkLsn: 5, lastLsn: 4, nextLsn: 6 })
    const other = await open(environment, copy)
    const { firstLsn, firstTimeTick } = await other.append([{ vchannel: 'v', payload: Buffer.from('mine') }])
    expect(firstLsn).toBe(6)
    expect(firstTimeTick > log.lastTimeTick).toBe(true)
    expect(await textsOf(other)).toEqual(['0 a0', '1 a1', '2 a2', '3 a3', '4 a4', '6 mine'])
    await other.close()
    await new Promise<void>((resolve) => disk.clock.after(1_000, resolve))
    expect(await backup(environment, original, '/backup/idle')).toMatchObject({ forkLsn: 6, lastLsn: 5, nextLsn: 6 })
    expect(await backup(environment, original, '/backup/written', { upTo: 'written' })).toMatchObject({ lastLsn: 5 })
    await log.close()
  })

  it('of a log whose process died holds what an opening would keep', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 7)
    disk.processCrash(1)
    const next = disk.nextProcess()
    const after = logEnvironment(next)
    const report = await backup(after)
    expect(report).toMatchObject({ writerRunning: false, upTo: 'written', forkLsn: 6, lastLsn: 6, nextLsn: 7 })
    expect(await readCopy(after)).toHaveLength(7)
  })

  it.each([false, true])('at durability "os" holds all that was acknowledged (writer running: %s)', async (running) => {
    const { environment } = machine()
    const log = await open(environment, original, { durability: 'os' })
    await fill(log, 17)
    if (!running) await log.close()
    const report = await backup(environment)
    expect(report).toMatchObject({ upTo: 'written', lastLsn: 16 })
    expect(await readCopy(environment)).toHaveLength(17)
    const other = await open(environment, copy, { durability: 'os' })
    await fill(other, 3)
    expect(await textsOf(other)).toHaveLength(20)
    await other.close()
  })

  it('at durability "os", of a log whose machine went down, says where the copy goes on: behind a gap', async () => {
    const { disk, environment } = machine()
    await fill(await open(environment, original, { durability: 'os' }), 5)
    const later = logEnvironment(disk.reboot(keepAll))
    const { lastLsn, nextLsn } = await backup(later)
    const other = await open(later, copy, { durability: 'os' })
    const { firstLsn } = await other.append([{ vchannel: 'mine' }])
    expect(firstLsn).toBe(nextLsn)
    expect(firstLsn).toBeGreaterThan(lastLsn! + 1)
    await other.close()
  })

  it('of an empty log, of one without a record, of one truncated to its end', async () => {
    const { environment } = machine()
    const log = await open(environment, original)
    expect(await backup(environment)).toMatchObject({ firstLsn: 0, lastLsn: null, nextLsn: 0, segments: 0 })
    const other = await open(environment, copy)
    await fill(other, 2)
    await other.close()
    expect(await findingsOf(environment, copy)).toEqual([])
    await fill(log, 25)
    await log.truncateBefore(25)
    const report = await backup(environment, original, '/backup/truncated')
    expect(report).toMatchObject({ firstLsn: 25, lastLsn: null, nextLsn: 25 })
    const last = await open(environment, '/backup/truncated')
    await fill(last, 1)
    expect(await textsOf(last)).toEqual(['25 a25'])
    await last.close()
    await log.close()
  })

  it('of a copy of a copy works, and each is told from the others', async () => {
    const { environment } = machine()
    const logs: string[] = [original]
    let from = await open(environment, original)
    await fill(from, 12)
    await from.close()
    const reports: BackupReport[] = []
    for (let generation = 1; generation <= 5; generation++) {
      const out = `/backup/generation-${generation}`
      reports.push(await backup(environment, logs.at(-1), out))
      logs.push(out)
      from = await open(environment, out)
      // The third one writes nothing of its own.
      if (generation !== 3) await fill(from, 9, `g${generation}-`)
      await from.close()
    }
    expect(new Set(reports.map(({ logId }) => logId)).size).toBe(5)
    const last = await open(environment, logs.at(-1)!)
    const texts = await textsOf(last)
    expect(texts).toHaveLength(12 + 4 * 9)
    expect(texts[47]).toBe('47 g5-47')
    await last.truncateBefore(40)
    await last.close()
    expect(await findingsOf(environment, logs.at(-1)!)).toEqual([])
    // Origins of which no segment is left are forgotten.
    await backup(environment, logs.at(-1), '/backup/late')
    const { manifest } = await surveyLog(environment, '/backup/late')
    expect(manifest!.origins.length).toBeLessThan(5)
    expect(await readCopy(environment, '/backup/late')).toHaveLength(8)
    const description = await describe(environment, '/backup/late')
    expect(description.origins.at(-1)).toEqual({ logId: reports.at(-1)!.logId, forkLsn: 48 })
    let dumped = 0
    for await (const { records } of dump(environment, '/backup/late')) dumped += [...(records ?? [])].length
    expect(dumped).toBeGreaterThanOrEqual(8)
  })

  it('across file systems, or where it is asked for, copies every file', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 30)
    await log.close()
    disk.inject(({ kind, path }) => (kind === 'link' && path.startsWith(original) ? { fail: 'EXDEV' } : undefined))
    const report = await backup(environment)
    expect(report.linkedFiles).toBe(0)
    expect(report.copiedFiles).toBe(bytesOf(disk, original).size + 2)
    expect(report.copiedBytes).toBeGreaterThan(30 * 700)
    const asked = await backup(environment, original, '/backup/asked', { copy: true })
    expect(asked.linkedFiles).toBe(0)
    expect(await readCopy(environment, '/backup/asked')).toHaveLength(30)
  })

  it('makes the index that the writer has not made yet', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 30)
    await log.close()
    const index = disk.paths().find((path) => path.startsWith(original) && path.endsWith('.idx'))!
    await environment.disk.unlink(index)
    await backup(environment)
    expect(disk.paths()).toContain(index.replace(original, copy))
  })

  it('begins behind what is truncated away meanwhile', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 60)
    let links = 0
    let truncating: Promise<void> | undefined
    disk.inject(({ kind, path }) => {
      if (kind === 'link' && path.startsWith(`${original}/0`) && ++links === 4) truncating = log.truncateBefore(50)
      return undefined
    })
    const report = await backup(environment, original, copy)
    await truncating
    expect(report.firstLsn).toBeGreaterThan(0)
    expect(await readCopy(environment)).toHaveLength(report.lastLsn! + 1 - report.firstLsn)
    await log.close()
  })
})

suite('a copy of a copy that is damaged', () => {
  /** Twelve records of the first log, nine of each copy. */
  async function twice(): Promise<{ disk: SimDisk; environment: Environment; texts: string[] }> {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 12)
    await log.close()
    await backup(environment, original, '/backup/first')
    const first = await open(environment, '/backup/first')
    await fill(first, 9, 'first-')
    await first.close()
    await backup(environment, '/backup/first')
    const second = await open(environment, copy)
    await fill(second, 9, 'second-')
    const texts = await textsOf(second)
    await second.close()
    expect(texts).toHaveLength(30)
    return { disk, environment, texts }
  }

  async function removeManifest(disk: SimDisk): Promise<void> {
    const manifest = disk.paths().find((path) => path.startsWith(`${copy}/MANIFEST-`))!
    await disk.unlink(manifest)
  }

  it('is salvaged whole, with its manifest and without', async () => {
    const { disk, environment, texts } = await twice()
    expect(await salvageLog(environment, copy, '/backup/salvaged')).toMatchObject({ records: 30, lost: [] })
    expect(await readCopy(environment, '/backup/salvaged')).toEqual(texts)
    await removeManifest(disk)
    expect(await salvageLog(environment, copy, '/backup/again')).toMatchObject({ records: 30, lost: [] })
    expect(await readCopy(environment, '/backup/again')).toEqual(texts)
  })

  it('is repaired when its manifest is gone, and its original has nothing of it', async () => {
    const { disk, environment, texts } = await twice()
    const before = bytesOf(disk, original)
    await removeManifest(disk)
    expect(await repairLog(environment, copy, { apply: true, mode: 'tail' })).toMatchObject({ sound: true, lost: [] })
    const log = await open(environment, copy)
    expect(await textsOf(log)).toEqual(texts)
    await fill(log, 1, 'repaired-')
    await log.close()
    expect(await findingsOf(environment, copy)).toEqual([])
    expect(bytesOf(disk, original)).toEqual(before)
  })

  it('is repaired when a record of a shared segment is damaged, and the file of the original stays as it is', async () => {
    const { disk, environment, texts } = await twice()
    const victim = disk.paths().find((path) => path.startsWith(`${copy}/0`) && path.endsWith('.seg'))!
    const bytes = Buffer.from(disk.contents(victim))
    bytes[4096 + 300]! ^= 1
    await replace(environment, victim, bytes)
    const before = bytesOf(disk, original)
    const report = await repairLog(environment, copy, { apply: true, mode: 'tail' })
    expect(report.sound).toBe(true)
    expect(report.lost.length).toBeGreaterThan(0)
    const log = await open(environment, copy)
    const left = await textsOf(log)
    expect(left.length).toBeGreaterThan(20)
    expect(texts).toEqual(expect.arrayContaining(left))
    await log.close()
    // A repaired copy can be copied: a segment that was written anew belongs to the lineage too.
    await backup(environment, copy, '/backup/third')
    expect(await readCopy(environment, '/backup/third')).toEqual(left)
    expect(bytesOf(disk, original)).toEqual(before)
  })
})

suite('what is no backup', () => {
  it('an interrupted one is refused by every opening and by every tool, and can be deleted', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 30)
    disk.inject(({ kind, path }) =>
      kind === 'link' && path.includes('/backup/one/MANIFEST') ? { fail: 'EIO' } : undefined,
    )
    await expect(backupLog(environment, original, copy)).rejects.toMatchObject({ code: 'IO_FAILED' })
    const incomplete = expect.objectContaining({ code: 'BACKUP_INCOMPLETE', retriable: false })
    await expect(open(environment, copy)).rejects.toEqual(incomplete)
    await expect(open(environment, copy, { readOnly: true })).rejects.toEqual(incomplete)
    await expect(verifyLog(environment, copy)).rejects.toEqual(incomplete)
    await expect(describe(environment, copy)).rejects.toEqual(incomplete)
    await expect(backupLog(environment, copy, '/backup/two')).rejects.toEqual(incomplete)
    await expect(backupLog(environment, original, copy)).rejects.toEqual(incomplete)
    await log.close()
  })

  it('is not made into a directory with something in it, into the log itself, or of nothing', async () => {
    const { environment } = machine()
    const log = await open(environment, original)
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
    await expect(backupLog(environment, original, '/data')).rejects.toEqual(refused)
    await expect(backupLog(environment, original, original)).rejects.toEqual(refused)
    await expect(backupLog(environment, `${original}/`, `${original}/backup`)).rejects.toEqual(refused)
    await expect(backupLog(environment, '/nothing', copy)).rejects.toMatchObject({ code: 'LOG_MISSING' })
    await log.close()
  })

  it('a segment of a log outside the lineage is refused, and so is one of an origin behind the fork', async () => {
    const { disk, environment } = machine()
    const log = await open(environment, original)
    await fill(log, 30)
    await log.close()
    const report = await backup(environment)
    const other = await open(environment, copy)
    await fill(other, 30)
    await other.close()
    const { segments } = await surveyLog(environment, copy)
    for (const [logId, lsnFrom] of [
      ['ff'.repeat(16), 0],
      [report.originLogId, report.forkLsn + 1],
    ] as const) {
      const victim = segments.find(({ baseLsn }) => baseLsn >= lsnFrom)!
      const path = `${copy}/${victim.name}`
      const kept = Buffer.from(disk.contents(path))
      const { bytes } = encodeSegmentHeader({ ...victim.header!, logId })
      await replace(environment, path, Buffer.concat([bytes, kept.subarray(bytes.length)]))
      await expect(readCopy(environment)).rejects.toMatchObject({ code: 'LOG_DAMAGED' })
      expect((await findingsOf(environment, copy)).join()).toMatch(/belongs to another log|SEGMENT/)
      await replace(environment, path, kept)
      expect(await findingsOf(environment, copy)).toEqual([])
    }
  })
})

/** Under a new inode: the original shares the old one. */
async function replace({ disk }: Environment, path: string, bytes: Buffer): Promise<void> {
  await disk.unlink(path)
  const file: DiskFile = await disk.create(path)
  await file.write(bytes, 0)
  await file.close()
}
