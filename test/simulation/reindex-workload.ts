/** The workload "reindex": indexes are lost or damaged while the log is closed, and made anew. */
import { reindexLog } from '../../native-free-storage/maintenance/reindex.ts'
import { demand } from './log-ledger.ts'
import { logDirectory, type Session, type Workload } from './log-session.ts'

async function reindexes(session: Session): Promise<void> {
  await session.open()
  for (let i = 0; i < 5; i++) await session.submit(15_000, 14_000)
  await session.close()
  await session.open()
  await session.submit(300)
  await session.close()
  const { environment } = session
  const { disk } = environment
  const names = (await disk.list(logDirectory)).filter((name) => name.endsWith('.idx')).sort()
  demand(names.length >= 3, () => `only ${names.length} indexes were written`)
  await disk.unlink(`${logDirectory}/${names[0]}`)
  const file = await disk.open(`${logDirectory}/${names[1]}`, 'write')
  await file.write(Buffer.alloc(512, 0xa5), 0)
  await file.sync()
  await file.close()
  const report = await reindexLog(environment, logDirectory)
  demand(report.made.length === 2, () => `${report.made.length} indexes were made, not 2`)
  demand(report.failed.length === 0 && report.kept === names.length - 2, () => 'the others were not kept')
  await session.open()
  await session.submit(70)
  await session.close()
  const again = await reindexLog(environment, logDirectory)
  demand(again.made.length === 0, () => 'a log that was reindexed and closed needs it again')
}

/** Whatever the crash left of the indexes, the same command makes all of them. */
async function reindexAgain({ environment }: Session): Promise<void> {
  const names = await environment.disk.list(logDirectory).catch(() => [])
  if (!names.some((name) => /^MANIFEST-\d{20}$/.test(name))) return
  await reindexLog(environment, logDirectory)
}

export const reindexWorkload: Workload = {
  name: 'reindex',
  run: reindexes,
  afterCrash: reindexAgain,
  tolerates: ['INDEX_WRONG', 'INDEX_MISSING'],
}
