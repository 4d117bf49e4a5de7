/** Logs on the simulated disk that are damaged, repaired and compared with what was in them. */
import { expect } from 'vitest'
import type { Environment } from '../../../native-free-storage/environment.ts'
import { hash64, type Log, loadChecksum, openLog } from '../../../native-free-storage/index.ts'
import { exitCodeOf } from '../../../native-free-storage/maintenance/findings.ts'
import { type RepairReport, repairLog } from '../../../native-free-storage/maintenance/repair.ts'
import type { LsnRange } from '../../../native-free-storage/maintenance/repair-frames.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { keepAll } from '../../simulation/choices.ts'
import { recordOf } from '../../simulation/log-ledger.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

export const directory = logDirectory

/** What stands at an LSN. */
export interface Stored {
  id: number
  timeTick: bigint
  payload: string
}

export type Contents = Map<number, Stored>

export interface Bed {
  disk: SimDisk
  environment: Environment
  /** Of the log before it was damaged. */
  records: Contents
  /** With those that were truncated away and may still stand in a file. */
  written: Contents
  nextLsn: number
}

export interface BedOptions {
  segments?: number
  closed?: boolean
  durability?: 'disk' | 'os'
  truncateBefore?: number
  recordBytes?: number
}

const options = (environment: Environment, durability?: 'disk' | 'os') => ({
  environment,
  durability,
  segmentBytes: 16 * 1024,
  cacheBytes: 64 * 1024,
  writeWay: { mode: 'dsync' as const, depth: 2, reason: 'a simulation' },
})

const beds = new Map<string, Promise<Bed>>()

/** Some segments of a log, closed or left as by a process that died. Made once, and copied. */
export async function bed(options: BedOptions = {}): Promise<Bed> {
  const key = JSON.stringify(options)
  let made = beds.get(key)
  if (made === undefined) {
    made = makeBed(options)
    beds.set(key, made)
  }
  return another(await made)
}

async function makeBed({
  segments = 4,
  closed = true,
  durability = 'disk',
  truncateBefore = 0,
  recordBytes = 700,
}: BedOptions): Promise<Bed> {
  await loadChecksum()
  const disk = new SimDisk({ seed: 7 })
  disk.prepareDirectory('/data')
  const environment = logEnvironment(disk)
  const log = await openLog(directory, options(environment, durability))
  let id = 0
  while (segmentFiles(disk).length < segments || id % 5 !== 3) {
    await log.append([recordOf(id, recordBytes), recordOf(id + 1, recordBytes + 8)])
    id += 2
    if (id % 7 === 0) await log.append([recordOf(id++, 90)])
  }
  const written = await contentsOf(log)
  if (truncateBefore > 0 && truncateBefore < log.nextLsn) await log.truncateBefore(truncateBefore)
  const records = await contentsOf(log)
  const { nextLsn } = log
  if (closed) await log.close()
  else disk.processCrash(1)
  const copy = copyOf(closed ? disk : disk.nextProcess())
  return { ...copy, records, written, nextLsn }
}

/** The same disk as another one finds it, with all that was written. */
export function copyOf(disk: SimDisk): { disk: SimDisk; environment: Environment } {
  const copy = disk.reboot(keepAll)
  return { disk: copy, environment: logEnvironment(copy, 'repair') }
}

export function another(from: Bed): Bed {
  return { ...from, ...copyOf(from.disk) }
}

export function segmentFiles(disk: SimDisk): string[] {
  return filesIn(disk).filter((name) => name.endsWith('.seg'))
}

/** Names in the log's directory, sorted. */
export function filesIn(disk: SimDisk): string[] {
  return disk
    .paths()
    .filter((path) => path.startsWith(`${directory}/`) && !path.slice(directory.length + 1).includes('/'))
    .map((path) => path.slice(directory.length + 1))
    .sort()
}

export const at = (name: string): string => `${directory}/${name}`

/** All files but those of the lock, with their bytes. */
export function snapshot(disk: SimDisk): Map<string, string> {
  const files = new Map<string, string>()
  for (const path of disk.paths()) {
    if (path.startsWith(directory) && !path.includes('/LOCK')) {
      files.set(path, `${disk.contents(path).length} bytes, ${hash64(disk.contents(path)).toString(16)}`)
    }
  }
  return new Map([...files].sort())
}

export async function removeFile(disk: SimDisk, name: string): Promise<void> {
  await disk.unlink(at(name))
}

export async function cutFile(disk: SimDisk, name: string, bytes: number): Promise<void> {
  const file = await disk.open(at(name), 'write')
  await file.truncate(bytes)
  await file.sync()
  await file.close()
}

export async function writeFile(disk: SimDisk, name: string, bytes: Uint8Array): Promise<void> {
  await disk.unlink(at(name)).catch(() => undefined)
  const file = await disk.create(at(name))
  await file.write(bytes, 0)
  await file.sync()
  await file.close()
}

export async function zero(disk: SimDisk, name: string, from: number, to: number): Promise<void> {
  disk.poke(at(name), from, new Uint8Array(to - from))
}

export async function contentsOf(log: Log): Promise<Contents> {
  const contents: Contents = new Map()
  for await (const frame of log.read()) {
    for (const record of frame) {
      const payload = Buffer.from(record.payload)
      contents.set(record.lsn, {
        id: payload.readUInt32LE(0),
        timeTick: record.timeTick,
        payload: `${record.vchannel}/${record.type}/${JSON.stringify(record.properties)}/${payload.toString('latin1')}`,
      })
    }
  }
  return contents
}

/** LSNs of `before` that are not in `after`, as ranges. */
export function missing(before: Contents, after: Contents): LsnRange[] {
  const ranges: LsnRange[] = []
  for (const lsn of [...before.keys()].sort((a, b) => a - b)) {
    if (after.has(lsn)) continue
    const last = ranges.at(-1)
    if (last !== undefined && last.lsnTo === lsn - 1) last.lsnTo = lsn
    else ranges.push({ lsnFrom: lsn, lsnTo: lsn })
  }
  return ranges
}

/** Opens the log, reads all of it, appends, closes. */
export async function readAndAppend(
  { environment, nextLsn }: Bed,
  endKnown = true,
): Promise<{ contents: Contents; appended: number }> {
  const log = await openLog(directory, options(environment))
  try {
    const contents = await contentsOf(log)
    const appended = await log.append([recordOf(90_000, 20)])
    if (endKnown) expect(appended.firstLsn).toBeGreaterThanOrEqual(nextLsn)
    return { contents, appended: appended.firstLsn }
  } finally {
    await log.close()
  }
}

/**
 * Repairs a copy and checks everything that a repair promises. Returns what it said, and what is left. `endKnown`: false
 * where nothing that is left proves up to where the log was acknowledged.
 */
export async function repaired(
  damaged: Bed,
  mode: 'tail' | 'point-in-time' = 'tail',
  endKnown = true,
): Promise<{ report: RepairReport; contents: Contents; after: Bed }> {
  const before = snapshot(damaged.disk)
  const dry = await repairLog(damaged.environment, directory, { apply: false, mode })
  expect(snapshot(damaged.disk), 'a dry run changes nothing').toEqual(before)
  expect(dry.applied).toBe(false)

  const after = another(damaged)
  const report = await repairLog(after.environment, directory, { apply: true, mode })
  expect(report).toMatchObject({ lost: dry.lost, assumptions: dry.assumptions, nextLsn: dry.nextLsn })
  expect(report.actions.map(({ action }) => action)).toEqual(dry.actions.map(({ action }) => action))
  const verified = await verifyLog(after.environment, directory)
  expect(verified.findings.filter(({ severity }) => severity !== 'info')).toEqual([])
  expect(exitCodeOf({ clean: true, logs: [verified] })).toBe(0)
  if (report.applied) expect(report.sound).toBe(true)

  const repairedFiles = snapshot(after.disk)
  const again = await repairLog(after.environment, directory, { apply: true, mode })
  expect(again.actions, 'a second repair finds nothing').toEqual([])
  expect(snapshot(after.disk)).toEqual(repairedFiles)

  const used = another(after)
  const { contents } = await readAndAppend(used, endKnown)
  for (const [lsn, stored] of contents) expect(stored, `LSN ${lsn}`).toEqual(damaged.written.get(lsn))
  const isLost = (lsn: number): boolean => report.lost.some(({ lsnFrom, lsnTo }) => lsn >= lsnFrom && lsn <= lsnTo)
  // Without a manifest nobody can tell what was truncated from what is lost at the front.
  const hasManifest =
    filesIn(damaged.disk).some((name) => name.startsWith('MANIFEST-')) && report.assumptions.length === 0
  const first = hasManifest ? 0 : Math.min(Number.MAX_SAFE_INTEGER, ...contents.keys())
  const known = [...damaged.records.keys()].filter(
    (lsn) => lsn >= first && (endKnown || lsn <= Math.max(-1, ...contents.keys())),
  )
  expect(known.filter(isLost)).toEqual(known.filter((lsn) => !contents.has(lsn)))
  const verifiedAfter = await verifyLog(used.environment, directory)
  expect(verifiedAfter.findings.filter(({ severity }) => severity !== 'info')).toEqual([])
  return { report, contents, after }
}
