/** Logs with stored time ticks on a simulated disk, and what a reader sees of them. */
import type { Environment } from '../../../native-free-storage/environment.ts'
import { type Log, type LogOptions, openLog, type ReadOptions } from '../../../native-free-storage/index.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { logDirectory, logEnvironment } from '../../simulation/log-session.ts'
import { Random } from '../../simulation/random.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

export const everything = { savedBytesMin: 1, savedShareMin: 0 } as const

export interface Ticked {
  disk: SimDisk
  environment: Environment
}

export function newTicked(seed: number | string = 1): Ticked {
  const disk = new SimDisk({ names: 'ext4', seed })
  disk.prepareDirectory('/data')
  return { disk, environment: logEnvironment(disk, seed) }
}

export function openTicked({ environment }: Ticked, more: LogOptions = {}, directory = logDirectory): Promise<Log> {
  return openLog(directory, {
    environment,
    segmentBytes: 16 * 1024,
    cacheBytes: 0,
    writeWay: { mode: 'dsync', depth: 2, reason: 'a test' },
    compaction: { enabled: false },
    ...more,
  })
}

/** Frames with records, ticks alone and in runs, and idle times, behind which a durable marker stands. */
export async function appendSome(log: Log, { disk }: Ticked, seed: number | string, frames: number): Promise<void> {
  const random = new Random(seed)
  for (let i = 0; i < frames; i++) {
    if (random.chance(0.3)) {
      const count = random.between(1, 4)
      await log.append(
        Array.from({ length: count }, (_, row) => ({
          vchannel: `v${random.below(3)}`,
          type: random.below(2),
          payload: Buffer.alloc(random.below(900), row),
        })),
      )
    } else if (random.chance(0.9)) await log.appendTick()
    else await new Promise<void>((resolve) => disk.clock.after(150, resolve))
  }
}

/** A line a record, a gap, or a tick. */
export async function seen(log: Log, options: ReadOptions = {}): Promise<string[]> {
  const lines: string[] = []
  for await (const frame of log.read({ gaps: true, ...options })) {
    if (frame.kind === 'tick') lines.push(`tick ${frame.baseTimeTick} before ${frame.baseLsn}`)
    if (frame.gap !== null) lines.push(`gap ${frame.gap.firstLsn} ${frame.gap.count} ${frame.gap.reason}`)
    for (const { lsn, timeTick, vchannel, type, payload } of frame) {
      lines.push(`${lsn} ${timeTick} ${vchannel} ${type} ${payload.length} ${payload[0]}`)
    }
  }
  return lines
}

/** What `verify` finds besides what it tells for information. */
export async function faults({ environment }: Ticked): Promise<string[]> {
  const { findings } = await verifyLog(environment, logDirectory)
  return findings.filter(({ severity }) => severity !== 'info').map(({ code, message }) => `${code} ${message}`)
}

export const filesOf = ({ disk }: Ticked, ending: string): string[] =>
  disk
    .paths()
    .filter((path) => path.startsWith(`${logDirectory}/`) && !path.includes('/pool/') && path.endsWith(ending))
