/**
 * Fixed workloads of a log on a simulated disk. Each is a function of its session alone, so that the same seed gives the
 * same disk operations, and a crash can be put before each of them.
 */
import { backupWorkload } from './backup-workload.ts'
import { compactionWorkload } from './compaction-workload.ts'
import { loadWorkloads } from './load-workloads.ts'
import type { Session, Workload } from './log-session.ts'
import { reindexWorkload } from './reindex-workload.ts'
import { repairWorkloads } from './repair-workload.ts'

const many = (count: number, bytes: number): number[] => Array.from({ length: count }, () => bytes)

async function singles(session: Session): Promise<void> {
  await session.open()
  session.watermark()
  for (let i = 0; i < 3; i++) await session.submit(100 + i)
  session.watermark()
  const burst = many(8, 60).map((bytes) => session.submit(bytes))
  await Promise.all(burst)
  // A durable marker is written when it is idle.
  await session.sleep(150)
  session.watermark()
  const mixed = [session.submit(700), session.submit(20, 30, 40), session.submit(9)]
  await Promise.all(mixed)
  session.watermark()
  await session.close()
}

/** Large enough that several writes are in flight at once. */
async function inFlight(session: Session): Promise<void> {
  await session.open({ segmentBytes: 1024 * 1024 })
  const batches: Promise<unknown>[] = []
  for (let i = 0; i < 6; i++) batches.push(session.submit(70_000, 65_000 + i))
  await Promise.all(batches)
  session.watermark()
  await Promise.all([session.submit(140_000), session.submit(140_000), session.submit(50)])
  session.dies()
  await session.open({ segmentBytes: 1024 * 1024 })
  session.watermark()
  await session.submit(10)
  await session.close()
}

async function rolls(session: Session): Promise<void> {
  await session.open()
  for (let i = 0; i < 6; i++) {
    await Promise.all([session.submit(10_000, 9_000), session.submit(5_000)])
    session.watermark()
  }
  await session.close()
}

/** A process dies, the next one copies what was not proven. */
async function carriesOver(session: Session): Promise<void> {
  await session.open()
  for (let i = 0; i < 4; i++) await session.submit(400)
  void session.submit(500)
  session.dies()
  await session.open()
  session.watermark()
  await session.submit(300, 200)
  session.dies()
  await session.open()
  session.watermark()
  session.dies()
  await session.open()
  await session.submit(70)
  await session.close()
  await session.open()
  await session.submit(80)
  await session.close()
}

async function truncates(session: Session): Promise<void> {
  const { ledger } = session
  await session.open()
  for (let i = 0; i < 5; i++) await session.submit(15_000, 14_000)
  await ledger.truncate(session.log, 3)
  const appending = session.submit(20_000)
  await ledger.truncate(session.log, 7)
  await appending
  await session.close()
  await session.open()
  await ledger.truncate(session.log, session.log.nextLsn)
  await session.submit(100)
  session.watermark()
  await session.close()
}

async function retains(session: Session): Promise<void> {
  session.ledger.askedFirstLsn = Number.POSITIVE_INFINITY
  await session.open({ retention: { bytes: 100_000 } })
  for (let i = 0; i < 8; i++) await session.submit(30_000)
  await session.log.applyRetention()
  await session.submit(10)
  await session.close()
}

/** Openings between which nothing is appended: an empty segment is dropped, an idle one leaves nothing behind. */
async function idles(session: Session): Promise<void> {
  await session.open()
  session.watermark()
  await session.close()
  await session.open()
  session.dies()
  await session.open()
  await session.submit(50)
  session.watermark()
  session.dies()
  await session.open()
  session.watermark()
  await session.close()
  await session.open()
  await session.sleep(100)
  session.watermark()
  session.dies()
  await session.open()
  session.watermark()
  await session.submit(60)
  await session.close()
}

/** Long enough for the lease of the ticks to be extended, with a clock that steps back. */
async function leases(session: Session): Promise<void> {
  await session.open()
  session.watermark()
  await session.submit(30)
  await session.sleep(5_000)
  session.watermark()
  session.disk.clock.stepWallClock(-3_600_000)
  await session.sleep(3_000)
  session.watermark()
  await session.submit(30)
  await session.sleep(4_000)
  session.watermark()
  session.dies()
  await session.open()
  session.watermark()
  await session.submit(40)
  await session.close()
  await session.open()
  session.watermark()
  await session.close()
}

export const workloads: readonly Workload[] = [
  { name: 'singles', run: singles },
  { name: 'writes in flight', run: inFlight },
  { name: 'roll', run: rolls },
  { name: 'carry-over', run: carriesOver },
  { name: 'truncate', run: truncates },
  { name: 'retention', run: retains },
  { name: 'idle', run: idles },
  { name: 'lease', run: leases },
  ...loadWorkloads,
  backupWorkload,
  reindexWorkload,
  compactionWorkload,
  ...repairWorkloads,
]
