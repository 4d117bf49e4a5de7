/**
 * Workloads of many callers at once: while segments are rolled, truncated and retired, while the log is closed, and when
 * the queue is full. Each append is one record alone unless it says otherwise.
 */
import { demand } from './log-ledger.ts'
import type { Session, Workload } from './log-session.ts'

/** Callers that come one after the other, faster than the disk takes what they bring. */
async function stream(
  session: Session,
  count: number,
  bytes: number,
  pauseMs: number,
  options: { signal?: AbortSignal } = {},
): Promise<Promise<unknown>[]> {
  const appends: Promise<unknown>[] = []
  for (let i = 0; i < count; i++) {
    const size = bytes + ((i * 131) % 400)
    appends.push(i % 7 === 6 ? session.submit(size, 40) : session.submitWith(options, size))
    if (i % 3 !== 0) await session.sleep(pauseMs)
  }
  return appends
}

async function rollsUnderLoad(session: Session): Promise<void> {
  await session.open({ segmentBytes: 16_384 })
  await Promise.all(await stream(session, 24, 1_500, 0.04))
  session.watermark()
  await Promise.all(await stream(session, 12, 3_000, 0.1))
  await session.close()
}

async function truncatesUnderLoad(session: Session): Promise<void> {
  const { ledger } = session
  await session.open({ segmentBytes: 16_384 })
  await Promise.all(await stream(session, 10, 2_500, 0.05))
  const appends = await stream(session, 8, 2_000, 0.04)
  const truncating = ledger.truncate(session.log, session.log.nextLsn - 2)
  appends.push(...(await stream(session, 10, 2_500, 0.05)))
  const again = ledger.truncate(session.log, session.log.nextLsn)
  await Promise.all([...appends, truncating, again])
  session.watermark()
  await session.close()
}

async function retainsUnderLoad(session: Session): Promise<void> {
  session.ledger.askedFirstLsn = Number.POSITIVE_INFINITY
  await session.open({ segmentBytes: 16_384, retention: { bytes: 24_000 } })
  const appends = await stream(session, 20, 2_000, 0.05)
  const retaining = session.log.applyRetention()
  appends.push(...(await stream(session, 8, 2_000, 0.03)))
  await Promise.all([...appends, retaining])
  session.watermark()
  await session.close()
}

/** What was admitted before the close is written; what comes after it is refused. */
async function closesUnderLoad(session: Session): Promise<void> {
  await session.open({ segmentBytes: 16_384 })
  const appends = await stream(session, 14, 1_500, 0.02)
  const closing = session.close()
  const late = await session.submit(30)
  demand(late?.code === 'CLOSED', () => `an append after the close gave ${late}`)
  await Promise.all([...appends, closing])
  const refused = session.ledger.submissions.filter(({ outcome }) => outcome !== 'acknowledged')
  demand(refused.length === 1, () => `${refused.length - 1} appends that came before the close were refused`)
  await session.open({ segmentBytes: 16_384 })
  session.watermark()
  const last = session.submit(20)
  await Promise.all([session.close(), last])
}

/** Callers wait for room, one of them gives up, and where they are to be refused they are. */
async function fillsTheQueue(session: Session): Promise<void> {
  await session.open({ segmentBytes: 16_384, queueBytes: 4_096 })
  const controller = new AbortController()
  const appends = await stream(session, 10, 1_800, 0, { signal: controller.signal })
  appends.push(session.submit(9_000))
  await session.sleep(0.2)
  controller.abort()
  await Promise.all(appends)
  session.watermark()
  await session.close()
  await session.open({ segmentBytes: 16_384, queueBytes: 4_096, whenFull: 'reject' })
  await Promise.all(await stream(session, 12, 1_500, 0.02))
  session.watermark()
  await session.close()
}

export const loadWorkloads: readonly Workload[] = [
  { name: 'rolls under load', run: rollsUnderLoad },
  { name: 'truncation under load', run: truncatesUnderLoad },
  { name: 'retention under load', run: retainsUnderLoad },
  { name: 'close under load', run: closesUnderLoad },
  { name: 'full queue', run: fillsTheQueue },
]
