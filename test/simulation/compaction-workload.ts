/**
 * The workload "compaction": stored ticks and records, rolled, compacted while they are read, appended to and truncated;
 * the process dies, the next one compacts what is left, and so does the command when the log is closed. After a crash at
 * any step the records are the same, and the next compaction works.
 */
import { compactLog } from '../../native-free-storage/index.ts'
import { demand, identified } from './log-ledger.ts'
import { logDirectory, type Session, type Workload } from './log-session.ts'

const everything = { savedBytesMin: 1, savedShareMin: 0 } as const

async function tickedRound(session: Session, ticks: number, ...sizes: number[]): Promise<void> {
  const { ledger, log } = session
  const appended = session.submit(...sizes)
  for (let i = 0; i < ticks; i++) await ledger.submitTick(log)
  await appended
}

/** Reads what is there record by record while something else goes on. */
async function readBeside(session: Session): Promise<void> {
  const { log, ledger } = session
  let expected = log.firstLsn
  for await (const frame of log.read({ ticks: true, readAheadBytes: 64 * 1024 })) {
    for (const record of frame) {
      demand(record.lsn === expected, () => `LSN ${expected} was to follow, ${record.lsn} came beside a compaction`)
      ledger.noteRead(identified(record))
      expected = record.lsn + 1
    }
    // Pieces of the other work come between.
    await session.sleep(1)
  }
}

async function compacts(session: Session): Promise<void> {
  const { ledger } = session
  await session.open()
  for (let i = 0; i < 3; i++) {
    await tickedRound(session, 6, 9_000, 7_000)
    await tickedRound(session, 3, 20_000)
    // A durable marker stands between ticks.
    await session.sleep(150)
    await tickedRound(session, 4, 14_000, 12_000)
  }
  const beside = readBeside(session)
  beside.catch(() => {})
  const compacting = session.log.compact(everything)
  // Where the process dies, nobody comes to wait for it.
  compacting.catch(() => {})
  await Promise.all([session.submit(25_000), ledger.submitTick(session.log), session.submit(18_000, 17_000)])
  const report = await compacting
  demand(report.compacted.length > 1, () => `${report.compacted.length} segments were compacted`)
  await beside
  await ledger.check(session.log)
  // One goes while it is read.
  for (let i = 0; i < 2; i++) await tickedRound(session, 4, 20_000, 12_000)
  const again = session.log.compact(everything)
  again.catch(() => {})
  const truncating = ledger.truncate(session.log, 7)
  await Promise.all([again, truncating, session.submit(300)])
  await tickedRound(session, 4, 30_000, 20_000)
  session.dies()

  await session.open()
  await tickedRound(session, 4, 25_000, 22_000)
  const last = session.log.compact(everything)
  last.catch(() => {})
  await session.submit(40_000)
  await last
  await tickedRound(session, 2, 30_000)
  await session.close()

  await compactLog(session.environment, logDirectory, everything)
  const rest = await compactLog(session.environment, logDirectory, everything)
  demand(rest.compacted.length === 0, () => 'a log that was compacted and not touched needs it again')
  await session.open()
  await session.submit(50)
  await session.close()
}

/** The command works on what any crash has left, too. */
async function compactAgain({ environment, ledger }: Session): Promise<void> {
  const names = await environment.disk.list(logDirectory).catch(() => [])
  if (ledger.nextId % 2 === 0 || !names.some((name) => /^MANIFEST-\d{20}$/.test(name))) return
  await compactLog(environment, logDirectory, everything)
}

export const compactionWorkload: Workload = {
  name: 'compaction',
  run: compacts,
  afterCrash: compactAgain,
}
