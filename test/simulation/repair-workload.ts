/**
 * A log is damaged so that nothing acknowledged is lost, and repaired. Wherever the power fails, the log is as it was or
 * repaired, and repairing again finishes: every record is there afterwards.
 */
import { loadChecksum, repairLog, undoRepair } from '../../native-free-storage/index.ts'
import type { FindingCode } from '../../native-free-storage/maintenance/findings.ts'
import { demand } from './log-ledger.ts'
import { logDirectory, type Session, type Workload } from './log-session.ts'

/** What the damage below, and a repair of it that was cut off, looks like. */
const tolerates: readonly FindingCode[] = [
  'FRAME_DAMAGED',
  'INDEX_MISSING',
  'INDEX_WRONG',
  'LINK_BROKEN',
  'MANIFEST_DAMAGED',
  'MANIFEST_MISSING',
  'MANIFEST_STALE',
  'SEAL_DAMAGED',
  'SEGMENT_HEADER_DAMAGED',
  'SEGMENT_MISSING',
  'SEGMENT_SURPLUS',
  'TAIL_DAMAGED',
]

async function fill(session: Session): Promise<void> {
  await session.open()
  for (let i = 0; i < 7; i++) await session.submit(12_000, 11_000, 9_000 + i)
  await session.close()
}

function filesOf({ disk }: Session, pattern: RegExp): string[] {
  const paths = disk.paths().filter((path) => path.startsWith(`${logDirectory}/`))
  return paths.filter((path) => pattern.test(path.slice(logDirectory.length + 1))).sort()
}

/** A header, a seal and an index: what each said is known without it. */
function damageSegments(session: Session): void {
  const { disk } = session
  const [first, second, third] = filesOf(session, /^[^/]*\.seg$/)
  demand(third !== undefined, () => 'the workload has to fill three segments')
  disk.flipBit(second!, 110, 3)
  disk.flipBit(first!, disk.contents(first!).length - 512 + 100, 1)
  disk.flipBit(third.replace('.seg', '.idx'), 100, 1)
}

function damageManifest(session: Session): void {
  for (const path of filesOf(session, /^MANIFEST-\d+$/)) session.disk.flipBit(path, 90, 2)
}

async function repair({ environment, disk }: Session): Promise<void> {
  // Before the first manifest was published there is no log.
  if (!disk.paths().some((path) => path.startsWith(`${logDirectory}/`) && /\.seg$|MANIFEST-\d+$/.test(path))) return
  await loadChecksum()
  const report = await repairLog(environment, logDirectory, { apply: true, mode: 'tail' })
  demand(report.sound, () => 'a repaired log is not sound')
  demand(report.lost.length === 0, () => `the repair lost ${JSON.stringify(report.lost)}`)
}

async function repairs(session: Session): Promise<void> {
  await fill(session)
  damageSegments(session)
  await repair(session)
}

async function repairsWithoutManifest(session: Session): Promise<void> {
  await fill(session)
  damageSegments(session)
  damageManifest(session)
  await repair(session)
}

async function undoes(session: Session): Promise<void> {
  await fill(session)
  damageSegments(session)
  await repair(session)
  await undoRepair(session.environment, logDirectory, { apply: true })
  await repair(session)
}

export const repairWorkloads: readonly Workload[] = [
  { name: 'repair', run: repairs, afterCrash: repair, tolerates },
  { name: 'repair without a manifest', run: repairsWithoutManifest, afterCrash: repair, tolerates },
  { name: 'repair, undone', run: undoes, afterCrash: repair, tolerates },
]
