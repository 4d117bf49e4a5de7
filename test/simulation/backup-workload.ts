/**
 * The workload "backup": a log is copied while it is written, rolled and truncated; then both go on, and the copy is
 * copied. After a crash each copy is whole, or refused, or not there; the original is what it would be without it.
 */
import { type Log, openLog, type TidelogError } from '../../native-free-storage/index.ts'
import { backupLog } from '../../native-free-storage/maintenance/backup.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { demand, type FoundLog, type FoundRecord, readAll, recordOf } from './log-ledger.ts'
import { logDirectory, type Session, type Workload } from './log-session.ts'

const copies = ['/data/backup', '/data/second'] as const
/** What the copies append themselves has ids from here on. */
const ownIds = 20_000

async function backsUp(session: Session): Promise<void> {
  const { ledger } = session
  await session.open()
  for (let i = 0; i < 4; i++) await session.submit(15_000, 14_000)
  // A segment that was cut, beside those that are sealed.
  session.dies()
  await session.open()
  for (let i = 0; i < 5; i++) await session.submit(12_000, 9_000)
  const broken = watchLinks(session)
  const proven = await provenLsn(session)
  const backing = backupLog(session.environment, logDirectory, copies[0])
  // Where the process dies, nobody comes to wait for it.
  backing.catch(() => {})
  const appending = [session.submit(20_000), session.submit(18_000, 17_000)]
  await ledger.truncate(session.log, 5)
  await Promise.all(appending)
  const report = await backing
  demand(report.forkLsn >= proven, () => `LSN ${proven - 1} was proven, and the copy ends before ${report.forkLsn}`)
  await session.submit(40)
  const found = await examineCopy(session, copies[0])
  demand(found.nextLsn === report.nextLsn, () => `the copy ends at ${found.nextLsn}, the report says ${report.nextLsn}`)

  const copy = await openLog(copies[0], session.options())
  for (let i = 0; i < 3; i++) await appendOwn(copy, 20_000)
  await session.submit(50)
  await copy.close()
  await backupLog(session.environment, copies[0], copies[1])
  const second = await openLog(copies[1], session.options())
  await appendOwn(second, 30)
  await second.close()
  await session.submit(60)
  await session.close()
  demand(broken.length === 0, () => `written to although it is shared: ${broken.join(', ')}`)
}

async function provenLsn(session: Session): Promise<number> {
  const reader = await openLog(logDirectory, session.options({ readOnly: true }))
  await reader.close()
  return reader.nextLsn
}

async function appendOwn(log: Log, bytes: number): Promise<void> {
  const { firstLsn } = await log.append([recordOf(ownIds + log.nextLsn, bytes)])
  demand(log.nextLsn === firstLsn + 1, () => `LSN ${firstLsn} is not the last one of the copy`)
}

/** Every write and truncation of a file that has two names, by either of them. */
function watchLinks(session: Session): string[] {
  const shared = new Set<string>()
  const broken: string[] = []
  session.disk.inject(({ kind, path, to }) => {
    if (kind === 'link' && to !== undefined && /\.(seg|idx)$/.test(to)) shared.add(path).add(to)
    if ((kind === 'write' || kind === 'truncate') && shared.has(path)) broken.push(`${kind} ${path}`)
    // A name that goes, or is given to another file, is not shared any more.
    if (kind === 'unlink') shared.delete(path)
    if (kind === 'rename' && to !== undefined) shared.delete(to)
    return undefined
  })
  return broken
}

/** Clean, dense, and of what was acknowledged nothing but a beginning, each record the one that the original has. */
async function examineCopy(session: Session, directory: string): Promise<FoundLog> {
  const { findings } = await verifyLog(session.environment, directory)
  const severe = findings.filter(({ severity }) => severity !== 'info')
  demand(severe.length === 0, () => `verify of ${directory}: ${severe.map(({ message }) => message).join('; ')}`)
  const log = await openLog(directory, session.options({ readOnly: true }))
  const found = await readAll(log)
  await log.close()
  checkCopy(session, found)
  return found
}

function checkCopy(session: Session, { records, gaps, firstLsn, nextLsn }: FoundLog): void {
  const { known, nextId } = session.ledger
  let expected = firstLsn
  for (const record of records) {
    const gap = gaps.find((each) => each.firstLsn === expected)
    if (gap !== undefined) expected += gap.count
    demand(record.lsn === expected, () => `LSN ${expected} of the copy was to follow, ${record.lsn} came`)
    demand(record.id >= ownIds || record.id < nextId, () => `record ${record.id} of the copy was never submitted`)
    const original: FoundRecord | undefined = known.get(record.lsn)
    const same = record.id >= ownIds || original === undefined || original.id === record.id
    demand(same, () => `LSN ${record.lsn} is record ${original!.id}, and ${record.id} in the copy`)
    expected++
  }
  const gap = gaps.find((each) => each.firstLsn === expected)
  demand(expected + (gap?.count ?? 0) === nextLsn, () => `the copy ends at ${nextLsn}, its records at ${expected}`)
}

/** Each copy as the crash left it. */
async function examineCopies(session: Session): Promise<void> {
  const { disk } = session.environment
  for (const directory of copies) {
    const names = await disk.list(directory).catch(() => [])
    if (names.length === 0) continue
    const manifest = names.find((name) => /^MANIFEST-\d{20}$/.test(name))
    if (manifest === undefined) {
      await demandRefused(session, directory)
      continue
    }
    // Nobody has opened it: not even a torn slot of the lease is excused.
    if (/-0*1$/.test(manifest)) await examineCopy(session, directory)
    const log = await openLog(directory, session.options())
    checkCopy(session, await readAll(log))
    await appendOwn(log, 100)
    const end = log.nextLsn
    await log.close()
    const found = await examineCopy(session, directory)
    demand(found.nextLsn === end, () => `the copy ended at ${end}, and ends at ${found.nextLsn}`)
  }
}

async function demandRefused(session: Session, directory: string): Promise<void> {
  const error = await openLog(directory, session.options()).then(
    () => null,
    (thrown: TidelogError) => thrown,
  )
  demand(error?.code === 'BACKUP_INCOMPLETE', () => `an unfinished copy is opened, or refused with ${error?.code}`)
}

export const backupWorkload: Workload = { name: 'backup', run: backsUp, afterCrash: examineCopies }
