/**
 * Looks at single parts of the WAL, each at the one moment at which a precaution counts. Each gives what is broken, in
 * words, or null. part-mutants.ts takes the precautions out.
 */
import { openLog } from '../../native-free-storage/index.ts'
import { decodeTick } from '../../src/protocol/consume-messages.ts'
import { TickPublisher, type TickPublisherOptions } from '../../src/streaming-node/connection/tick-publisher.ts'
import { LiveProducer } from '../../src/wal/deduplication/live-producer.ts'
import { ProducerTable } from '../../src/wal/deduplication/producer-table.ts'
import { SnapshotKeeper } from '../../src/wal/state/snapshot-keeper.ts'
import { WalState } from '../../src/wal/state/wal-state.ts'
import { newDisk } from '../simulation/crash-runner.ts'
import { logDirectory, logEnvironment } from '../simulation/log-session.ts'

const META_AT = 40

/** A frame of a producer is refused: its sequence is free again, and nobody takes it for written. */
async function refusedSequence(): Promise<string | null> {
  const table = new ProducerTable()
  table.applyEpoch({ kind: 'epoch', row: 0, vchannel: 'v', name: 'p', producer: null, epoch: 1 }, 5, 1n)
  const live = new LiveProducer(table.byNumber(5)!)
  live.ask(1, 1)
  live.failed(1, false)
  try {
    const { kind } = live.ask(1, 1)
    return kind === 'reserved' ? null : `a refused sequence is answered as ${kind}`
  } catch (error) {
    return `a refused sequence is taken: ${error}`
  }
}

/** A frame with effects is durable, and its effects are not in the state yet: a snapshot stands in front of it. */
async function snapshotAhead(): Promise<string | null> {
  const saved: number[] = []
  const store = {
    nextLsn: 7,
    firstLsn: 0,
    snapshots: { load: async () => [], save: async (lsn: number) => void saved.push(lsn) },
  }
  const keeper = new SnapshotKeeper(store as never, WalState.empty(), [])
  keeper.before()
  store.nextLsn = 10
  await keeper.take()
  return saved[0] === 7 ? null : `a snapshot says that it holds all below ${saved[0]}, of which the state has seen 7`
}

/** A write is under way: no watermark reaches its records. */
async function watermarkEarly(): Promise<string | null> {
  const disk = newDisk({ names: 'ext4', seed: 1 })
  const writeWay = { mode: 'dsync', depth: 2, reason: 'a simulation' } as const
  const log = await openLog(logDirectory, { environment: logEnvironment(disk, 1), segmentBytes: 65_536, writeWay })
  await log.append([{ vchannel: 'v' }])
  let early = 0n
  let isOver = false
  const appended = log.append([{ vchannel: 'v' }]).finally(() => {
    isOver = true
  })
  while (!isOver) {
    const watermark = log.watermark()
    if (watermark > early) early = watermark
    await new Promise<void>((resolve) => disk.clock.after(0.01, resolve))
  }
  const { firstTimeTick } = await appended
  await log.close()
  return early < firstTimeTick
    ? null
    : `a watermark of ${early} before the record with tick ${firstTimeTick} was durable`
}

/** A consumer has not been sent the record below the end: no tick message speaks for it. */
async function tickOvertakes(): Promise<string | null> {
  const sent: Buffer[] = []
  const service = {
    timeTickIntervalMs: 10,
    anyStirs: 1,
    sharedTick: () => 0n,
    stirs: () => 1,
    watermark: () => 1_000n,
    nextLsn: () => 6,
  }
  const outbox = { hasRoom: true, send: (message: Buffer) => void sent.push(message) }
  const clock = { monotonicMs: () => 0, after: () => ({ cancel() {} }) }
  const publisher = new TickPublisher({ service, outbox, clock } as unknown as TickPublisherOptions)
  publisher.add({ id: 3, group: 0, position: 5, covered: true, ticksEveryMs: 10 } as never)
  publisher.publish()
  publisher.stop()
  for (const message of sent) {
    const { groups, leftOut } = decodeTick(message.subarray(META_AT))
    if (groups.length > 0 && !leftOut.includes(3)) return 'a tick passes a record that a consumer was not sent'
  }
  return null
}

export const partHunts = { refusedSequence, snapshotAhead, watermarkEarly, tickOvertakes }
