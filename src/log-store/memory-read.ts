/** Reading a log in memory: the frames that are there, and those that come. */
import { TidelogError } from '../errors.ts'
import { aborted } from './aborted.ts'
import type { LogStoreReadOptions, StoreFrame } from './log-store.ts'
import { createFilter, holdsWanted, type MemoryFrame, MemoryFrameView } from './memory-frame.ts'
import type { MemoryLog } from './memory-log.ts'

/** `stopped`: why no more frames come to whoever follows; null while they may. */
export async function* readMemoryLog(
  log: MemoryLog,
  options: LogStoreReadOptions,
  stopped: () => TidelogError | null,
): AsyncGenerator<StoreFrame> {
  const { from, signal, follow = false } = options
  const end = log.nextLsn
  let lsn: number
  let tick = 0n
  if (from === 'earliest') lsn = log.firstLsn
  else if (from === 'latest') lsn = end
  else if ('lsn' in from) lsn = from.lsn
  else {
    lsn = log.firstLsn
    tick = from.timeTick
  }
  while (true) {
    if (signal?.aborted) throw aborted(signal)
    if (lsn < log.firstLsn) {
      throw new TidelogError(
        'POSITION_TRUNCATED',
        `log ${log.name}: LSN ${lsn} was truncated away; the first one is ${log.firstLsn}`,
        { lsn: log.firstLsn },
      )
    }
    const frame = log.frameAt(lsn)
    if (frame !== undefined && (follow || frame.baseLsn < end)) {
      const first = Math.max(lsn, frame.baseLsn + ticksBelow(frame, tick))
      lsn = frame.baseLsn + frame.recordCount
      const filter = createFilter(options.vchannels, options.types, first)
      if (holdsWanted(frame, filter)) yield new MemoryFrameView(frame, filter)
      continue
    }
    if (!follow) return
    const why = stopped()
    if (why?.code === 'CLOSED') return
    if (why !== null) throw why
    await untilChangedOrAborted(log.changed(), signal)
  }
}

/** How many records at the front of the frame have a tick below `tick`. */
function ticksBelow(frame: MemoryFrame, tick: bigint): number {
  if (tick <= frame.baseTimeTick) return 0
  const below = tick - frame.baseTimeTick
  return below > BigInt(frame.recordCount) ? frame.recordCount : Number(below)
}

function untilChangedOrAborted(changed: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return changed
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(aborted(signal))
    signal.addEventListener('abort', onAbort, { once: true })
    void changed.then(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
  })
}
