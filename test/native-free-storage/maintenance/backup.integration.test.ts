/** Backups of a log that is written, rolled and truncated meanwhile, on the real disk. */
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Log, type LogOptions, nodeEnvironment, openLog } from '../../../native-free-storage/index.ts'
import { backupLog } from '../../../native-free-storage/maintenance/backup.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { budget } from '../../budget.ts'

const rounds = budget({ small: 3, ci: 25, soak: 500 })
const memoryDisk = '/dev/shm'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidelog-backup-'))
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

function options(more: LogOptions = {}): LogOptions {
  const { TIDELOG_TEST_WRITE_MODE: mode, TIDELOG_TEST_WRITE_DEPTH: depth } = process.env
  return {
    segmentBytes: 256 * 1024,
    writeMode: mode === 'fdatasync' ? 'fdatasync' : 'dsync',
    writeDepth: depth === undefined ? 4 : Number(depth),
    ...more,
  }
}

/** Appends from several callers; every payload tells its LSN. */
class Load {
  readonly log: Log
  acknowledged = 0
  #next = 0
  #stopped = true
  #ends: Promise<void>[] = []

  constructor(log: Log) {
    this.log = log
  }

  start(): void {
    this.#stopped = false
    this.#ends = [1, 2, 3].map(() => this.#run())
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#ends)
  }

  /** Goes on until so many more were acknowledged. */
  async reach(more: number): Promise<void> {
    const enough = this.acknowledged + more
    while (this.acknowledged < enough) await this.log.changed()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const count = 1 + (this.#next % 7)
      const first = this.#next
      this.#next += count
      const records = Array.from({ length: count }, (_, index) => ({
        vchannel: `v${index % 3}`,
        payload: Buffer.from(String(first + index).padEnd(1_000 + (first % 3_000), '-')),
      }))
      const { firstLsn } = await this.log.append(records)
      // One log, one order: the LSN is the number.
      expect(firstLsn).toBe(first)
      this.acknowledged = Math.max(this.acknowledged, first + count)
    }
  }
}

/** Reads a copy and gives the end of its records. */
async function checkRecords(directory: string): Promise<{ first: number; end: number }> {
  const log = await openLog(directory, { readOnly: true })
  let expected = log.firstLsn
  for await (const { lsn, payload } of log.readRecords()) {
    if (lsn !== expected) throw new Error(`LSN ${expected} was to follow, ${lsn} came`)
    const number = Number.parseInt(Buffer.from(payload).toString('latin1'), 10)
    if (number !== lsn) throw new Error(`LSN ${lsn} holds record ${number}`)
    expected++
  }
  await log.close()
  return { first: log.firstLsn, end: expected }
}

async function provenNextLsn(directory: string): Promise<number> {
  const log = await openLog(directory, { readOnly: true })
  await log.close()
  return log.nextLsn
}

async function severe(directory: string): Promise<string[]> {
  const { findings } = await verifyLog(nodeEnvironment(), directory)
  return findings.filter(({ severity }) => severity !== 'info').map(({ code, message }) => `${code} ${message}`)
}

async function digests(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const name of await readdir(directory)) {
    if (!/\.(seg|idx)$/.test(name)) continue
    found.set(
      name,
      createHash('sha256')
        .update(await readFile(join(directory, name)))
        .digest('hex'),
    )
  }
  return found
}

describe('a backup beside a writer', () => {
  it.each(['disk', 'os'] as const)(
    'is clean each time, and holds a beginning of the log with all that was proven (durability "%s")',
    async (durability) => {
      const directory = join(folder, 'log')
      const load = new Load(await openLog(directory, options({ durability })))
      let linked = 0
      for (let round = 0; round < rounds; round++) {
        const out = join(folder, `copy-${round}`)
        load.start()
        await load.reach(300)
        const acknowledged = load.acknowledged
        const proven = await provenNextLsn(directory)
        const truncating = round % 2 === 1 ? load.log.truncateBefore(Math.max(0, proven - 500)) : undefined
        const report = await backupLog(nodeEnvironment(), directory, out)
        await truncating
        await load.stop()
        expect(await severe(out)).toEqual([])
        const { first, end } = await checkRecords(out)
        expect(end).toBe(report.lastLsn === null ? report.firstLsn : report.lastLsn + 1)
        expect(first).toBe(report.firstLsn)
        expect(end).toBeGreaterThanOrEqual(proven)
        // What a reader or a caller was told of is in the copy, or its LSN is not given again.
        expect(report.nextLsn).toBeGreaterThanOrEqual(acknowledged)
        if (durability === 'os') expect(end).toBeGreaterThanOrEqual(acknowledged)
        linked += report.linkedFiles
        const before = await digests(out)
        const copy = await openLog(out, options({ durability }))
        const { firstLsn } = await copy.append([{ vchannel: 'mine' }])
        expect(firstLsn).toBe(report.nextLsn)
        await copy.close()
        expect(await severe(out)).toEqual([])
        const after = await digests(out)
        for (const [name, digest] of before) if (after.has(name)) expect(after.get(name)).toBe(digest)
        await rm(out, { recursive: true })
      }
      await load.log.close()
      expect(await severe(directory)).toEqual([])
      console.log(`${rounds} backups beside a writer at "${durability}": ${load.acknowledged} records, ${linked} links`)
    },
    60_000 + 5_000 * rounds,
  )

  it('shares finished files with the original, which keeps its bytes and only gains names', async () => {
    const directory = join(folder, 'log')
    const load = new Load(await openLog(directory, options()))
    load.start()
    while (load.log.statistics().segments < 5) await load.log.changed()
    await load.stop()
    await load.log.close()
    const before = await digests(directory)
    const report = await backupLog(nodeEnvironment(), directory, join(folder, 'one'))
    await backupLog(nodeEnvironment(), join(folder, 'one'), join(folder, 'two'))
    expect(report.linkedFiles).toBe(before.size)
    for (const name of before.keys()) expect((await stat(join(directory, name))).nlink).toBe(3)
    for (const out of ['one', 'two']) {
      const copy = await openLog(join(folder, out), options())
      await copy.append([{ vchannel: 'mine', payload: Buffer.alloc(100_000) }])
      await copy.truncateBefore(copy.nextLsn)
      await copy.close()
    }
    expect(await digests(directory)).toEqual(before)
    expect(await severe(directory)).toEqual([])
  })

  it.skipIf(process.platform !== 'linux')('is copied where the file system is another one', async () => {
    const other = await mkdtemp(join(memoryDisk, 'tidelog-backup-'))
    try {
      const directory = join(folder, 'log')
      const load = new Load(await openLog(directory, options()))
      load.start()
      while (load.log.statistics().segments < 3) await load.log.changed()
      await load.stop()
      await load.log.close()
      const report = await backupLog(nodeEnvironment(), directory, join(other, 'copy'))
      const isOther = (await stat(other)).dev !== (await stat(folder)).dev
      expect(report.linkedFiles === 0).toBe(isOther)
      expect(await severe(join(other, 'copy'))).toEqual([])
      expect((await checkRecords(join(other, 'copy'))).end).toBe(load.acknowledged)
    } finally {
      await rm(other, { recursive: true, force: true })
    }
  })
})
