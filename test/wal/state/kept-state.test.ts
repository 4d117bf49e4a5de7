/**
 * What becomes of the state of a WAL when its log is salvaged, repaired or copied: producers go on where they were, keys
 * answer, and what is lost of it is said.
 */
import { describe, expect, it } from 'vitest'
import { parseSnapshotFileName, snapshotFileName } from '../../../native-free-storage/format/snapshot.ts'
import { backupLog, repairLog, salvageLog, verifyLog } from '../../../native-free-storage/index.ts'
import { undoRepair } from '../../../native-free-storage/maintenance/repair-undo.ts'
import type { SalvageReport } from '../../../native-free-storage/maintenance/salvage-report.ts'
import { openWal } from '../../../src/wal/open-wal.ts'
import type { Wal } from '../../../src/wal/wal.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const original = '/data/log'
const out = '/data/out'
const RECORDS = 40

interface Place {
  lsn: number
  timeTick: bigint
}

class Subject {
  disk = new SimDisk({ seed: 1 })
  environment = logEnvironment(this.disk, 1)
  /** By sequence, from 1 on, and by key, from 0 on. */
  readonly sequences: Place[] = []
  readonly keys: Place[] = []

  constructor() {
    this.disk.prepareDirectory('/data')
  }

  open(directory = original): Promise<Wal> {
    const { environment } = this
    const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
    return openWal(directory, { environment, segmentBytes: 16_384, writeWay, snapshotIntervalBytes: 50_000 })
  }

  /** A producer and keys in turn, in about eight segments, with snapshots in between; open as it is. */
  async filled(): Promise<Wal> {
    const wal = await this.open()
    const producer = await wal.producer('v', { id: 'loader' })
    const payload = Buffer.alloc(900)
    for (let index = 0; index < RECORDS; index++) {
      this.sequences.push(await producer.append({ payload }))
      this.keys.push(await wal.append({ vchannel: 'v', payload }, { idempotencyKey: `k${index}` }))
    }
    return wal
  }

  names(directory = original): string[] {
    const paths = this.disk.paths().filter((path) => path.startsWith(`${directory}/`))
    return paths.map((path) => path.slice(directory.length + 1)).filter((name) => !name.includes('/'))
  }

  /** LSNs, descending. */
  snapshots(directory = original): number[] {
    const lsns = this.names(directory).map(parseSnapshotFileName)
    return lsns.filter((lsn) => lsn !== null).sort((a, b) => b - a)
  }

  segments(): string[] {
    return this.names().filter((name) => name.endsWith('.seg'))
  }

  async remove(...names: string[]): Promise<void> {
    for (const name of names) await this.disk.unlink(`${original}/${name}`)
  }

  /** In the middle of the segment that holds it. */
  damage(name: string): void {
    this.disk.flipBit(`${original}/${name}`, 8_000, 3)
  }

  async salvage(options: { quarantine?: boolean } = {}): Promise<SalvageReport> {
    const report = await salvageLog(this.environment, original, out, options)
    await this.isClean(out)
    return report
  }

  async isClean(directory: string): Promise<void> {
    const { findings } = await verifyLog(this.environment, directory)
    expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([])
  }

  /** A repeat of each key that was written, from the `from`-th on, is answered as the first was. */
  async answers(wal: Wal, from = 0, to = RECORDS): Promise<void> {
    for (let index = from; index < to; index++) {
      const repeat = await wal.append({ vchannel: 'v', payload: Buffer.alloc(0) }, { idempotencyKey: `k${index}` })
      const { lsn, timeTick } = this.keys[index]!
      expect(repeat, `k${index}`).toEqual({ lsn, timeTick, duplicate: true })
    }
  }
}

async function resumed(wal: Wal): Promise<{ lastSequence: number; windowLost: boolean }> {
  const { lastSequence, windowLost } = await wal.producer('v', { id: 'loader' })
  return { lastSequence, windowLost }
}

const states = ({ snapshots }: SalvageReport): [number, string][] => snapshots.map(({ lsn, state }) => [lsn, state])

describe('a salvage', () => {
  it('of a log whose beginning is gone brings the state along; without its snapshots it says that it is lost', async () => {
    for (const hasSnapshots of [true, false]) {
      const subject = new Subject()
      const wal = await subject.filled()
      await wal.truncateBefore(wal.nextLsn - 10)
      await wal.close()
      const [newest, older] = subject.snapshots()
      if (!hasSnapshots) await subject.remove(snapshotFileName(newest!), snapshotFileName(older!))
      const report = await subject.salvage()
      const fits = older! >= report.firstLsn ? 'copied' : 'unplaced'
      expect(states(report)).toEqual(
        hasSnapshots
          ? [
              [newest, 'copied'],
              [older, fits],
            ]
          : [],
      )
      expect(report.files.map(({ file }) => file).filter((file) => file.startsWith('SNAPSHOT'))).toEqual([])
      const next = await subject.open(out)
      expect(await resumed(next)).toEqual(
        hasSnapshots ? { lastSequence: RECORDS, windowLost: false } : { lastSequence: 0, windowLost: true },
      )
      if (hasSnapshots) await subject.answers(next)
      else expect(next.keyHorizon('v')).toBeGreaterThan(subject.keys.at(-1)!.timeTick)
      await next.close()
      await subject.isClean(out)
    }
  })

  it('counts what is lost below a snapshot as written: it was acknowledged', async () => {
    const subject = new Subject()
    await (await subject.filled()).close()
    const [newest, older] = subject.snapshots()
    subject.damage(subject.segments()[2]!)
    const report = await subject.salvage()
    expect(states(report)).toEqual([
      [newest, 'copied'],
      [older, 'copied'],
    ])
    const isLost = ({ lsn }: Place): boolean =>
      report.lost.some(({ lsnFrom, lsnTo }) => lsnTo !== null && lsn >= lsnFrom && lsn <= lsnTo)
    expect([...subject.keys, ...subject.sequences].filter(isLost).length).toBeGreaterThan(0)
    const next = await subject.open(out)
    await subject.answers(next)
    expect(await resumed(next)).toEqual({ lastSequence: RECORDS, windowLost: false })
    await next.close()
    await subject.isClean(out)
  })

  it('that has lost the end leaves the snapshot behind it: what is lost is written again, once', async () => {
    const subject = new Subject()
    await (await subject.filled()).close()
    const [newest, older] = subject.snapshots()
    await subject.remove(...subject.segments().slice(-2))
    const report = await subject.salvage()
    expect(states(report)).toEqual([
      [newest, 'unplaced'],
      [older, 'copied'],
    ])
    const isLeft = ({ lsn }: Place): boolean => lsn < report.lost[0]!.lsnFrom
    const [sequences, keys] = [subject.sequences.filter(isLeft).length, subject.keys.filter(isLeft).length]
    expect(sequences).toBeLessThan(RECORDS)
    const next = await subject.open(out)
    await subject.answers(next, 0, keys)
    const again = await next.append({ vchannel: 'v' }, { idempotencyKey: `k${keys}` })
    expect(again.duplicate).toBe(false)
    expect(again.lsn).toBeGreaterThanOrEqual(report.nextLsn)
    expect(await resumed(next)).toEqual({ lastSequence: sequences, windowLost: false })
    await next.close()
    await subject.isClean(out)
  })

  it('that brings records back from the quarantine leaves snapshots that may not know them', async () => {
    const subject = new Subject()
    await (await subject.filled()).close()
    const [newest, older] = subject.snapshots()
    const moved = subject.segments().at(-2)!
    await subject.disk.makeDirectory(`${original}/quarantine`)
    await subject.disk.rename(`${original}/${moved}`, `${original}/quarantine/${moved}`)
    await repairLog(subject.environment, original, { apply: true, mode: 'tail' })
    expect(subject.snapshots()).toEqual([newest, older])
    const report = await subject.salvage({ quarantine: true })
    expect(report.lost).toEqual([])
    expect(states(report)).toEqual([
      [newest, 'restored'],
      [older, 'copied'],
    ])
    const next = await subject.open(out)
    await subject.answers(next)
    expect(await resumed(next)).toEqual({ lastSequence: RECORDS, windowLost: false })
    await next.close()
  })

  it('leaves a snapshot that is damaged, or of another log, also where nothing is left of a manifest', async () => {
    const [subject, other] = [new Subject(), new Subject()]
    other.environment = logEnvironment(other.disk, 2)
    await (await subject.filled()).close()
    await (await other.filled()).close()
    const [newest, older] = subject.snapshots()
    const bytes = Buffer.from(subject.disk.contents(`${original}/${snapshotFileName(newest!)}`))
    const put = async (lsn: number, content: Uint8Array): Promise<void> => {
      const file = await subject.disk.create(`${original}/${snapshotFileName(lsn)}`)
      await file.write(content, 0)
      await file.close()
    }
    await put(older! + 1, bytes)
    await put(older! + 2, other.disk.contents(`${original}/${snapshotFileName(older!)}`))
    await subject.remove(snapshotFileName(newest!))
    await put(newest!, other.disk.contents(`${original}/${snapshotFileName(newest!)}`))
    // Nothing of a manifest is left.
    await subject.remove(...subject.names().filter((name) => name.startsWith('MANIFEST')))
    const report = await subject.salvage()
    expect(states(report)).toEqual([
      [newest, 'foreign'],
      [older! + 2, 'damaged'],
      [older! + 1, 'damaged'],
      [older, 'copied'],
    ])
    const next = await subject.open(out)
    await subject.answers(next)
    await next.close()
  })
})

describe('a repair', () => {
  it('at the tail keeps the snapshots; what is lost below them counts as written', async () => {
    const subject = new Subject()
    await (await subject.filled()).close()
    const before = subject.snapshots()
    subject.damage(subject.segments()[2]!)
    const report = await repairLog(subject.environment, original, { apply: true, mode: 'tail' })
    expect(report.lost.length).toBeGreaterThan(0)
    expect(subject.snapshots()).toEqual(before)
    await subject.isClean(original)
    const next = await subject.open()
    await subject.answers(next)
    expect(await resumed(next)).toEqual({ lastSequence: RECORDS, windowLost: false })
    await next.close()
  })

  it('to a point in time takes out the snapshots behind the cut; an undo brings them back', async () => {
    const subject = new Subject()
    await (await subject.filled()).close()
    const [newest, older] = subject.snapshots()
    const cut = subject.segments().at(-2)!
    subject.damage(cut)
    const repair = { apply: true, mode: 'point-in-time' } as const
    const report = await repairLog(subject.environment, original, repair)
    const { lsnFrom } = report.lost[0]!
    expect(lsnFrom).toBeGreaterThan(older!)
    expect(subject.snapshots()).toEqual([older])
    expect(report.actions).toContainEqual(
      expect.objectContaining({ action: 'quarantine', file: snapshotFileName(newest!) }),
    )
    await subject.isClean(original)
    expect((await repairLog(subject.environment, original, repair)).actions).toEqual([])
    await undoRepair(subject.environment, original, { apply: true })
    expect(subject.snapshots()).toEqual([newest, older])
    await repairLog(subject.environment, original, repair)

    const left = ({ lsn }: Place): boolean => lsn < lsnFrom
    const [sequences, keys] = [subject.sequences.filter(left).length, subject.keys.filter(left).length]
    const next = await subject.open()
    await subject.answers(next, 0, keys)
    expect((await next.append({ vchannel: 'v' }, { idempotencyKey: `k${keys}` })).duplicate).toBe(false)
    expect(await resumed(next)).toEqual({ lastSequence: sequences, windowLost: false })
    await next.close()
  })
})

describe('a backup', () => {
  it('has the snapshots; producers and keys go on in both logs, each for itself', async () => {
    const subject = new Subject()
    const wal = await subject.filled()
    await wal.truncateBefore(wal.nextLsn - 30)
    await wal.close()
    const before = subject.snapshots()
    await backupLog(subject.environment, original, out)
    expect(subject.snapshots(out)).toEqual(before.filter((lsn) => lsn >= wal.firstLsn))
    await subject.isClean(out)
    for (const directory of [out, original]) {
      const next = await subject.open(directory)
      await subject.answers(next)
      expect(await resumed(next)).toEqual({ lastSequence: RECORDS, windowLost: false })
      expect((await next.append({ vchannel: 'v' }, { idempotencyKey: 'of one' })).duplicate).toBe(false)
      await next.close()
      await subject.isClean(directory)
    }
  })

  it('of a log whose process was killed behind a truncation has its state', async () => {
    const subject = new Subject()
    const wal = await subject.filled()
    await wal.truncateBefore(wal.nextLsn - 1)
    subject.disk.processCrash(1)
    subject.disk = subject.disk.nextProcess()
    subject.environment = logEnvironment(subject.disk, 3)
    const report = await backupLog(subject.environment, original, out)
    expect(report.upTo).toBe('written')
    const next = await subject.open(out)
    await subject.answers(next)
    expect(await resumed(next)).toEqual({ lastSequence: RECORDS, windowLost: false })
    await next.close()
  })
})
