/** Where a read begins, of all the places that `from` can mean. Nothing is read that lies before it. */
import type { IndexLookup } from './index-lookup.ts'
import type { LogFiles, ReadableLog } from './log-files.ts'
import type { DurableEnd, SegmentEntry } from './log-view.ts'
import type { ReadFrom } from './read-options.ts'
import { type Place, placeAt, startOf, truncatedAway } from './read-place.ts'

export interface ReadStart {
  place: Place
  /** Records below it are not wanted. */
  fromLsn: number
  /**
   * Above 0: what is read may begin with records that have been truncated away, of which nobody knows yet whether they
   * are wanted; this is the first LSN that there is.
   */
  tickFloorLsn: number
}

/** For a reader that wants stored ticks: several frames have the LSN of the record behind them, so it begins earlier. */
export function lsnToLookUp(lsn: number, wantsTicks: boolean): number {
  return wantsTicks ? Math.max(0, lsn - 1) : lsn
}

/** Throws POSITION_TRUNCATED, SEGMENT_MISSING, LOG_DAMAGED. `end`: the durable end of the log as it is now. */
export async function findStart(
  log: { view: ReadableLog; files: LogFiles; index: IndexLookup },
  end: DurableEnd,
  { from, fromLsn, ticks }: { from: ReadFrom; fromLsn: number; ticks: boolean },
): Promise<ReadStart> {
  const { view, files, index } = log
  if (typeof from === 'object' && 'timeTick' in from) return await startAtTick(view, files, index, end, from.timeTick)
  if (fromLsn < view.firstLsn) throw truncatedAway(fromLsn, view.firstLsn)
  return { place: await placeOfLsn(view, index, end, fromLsn, ticks), fromLsn, tickFloorLsn: 0 }
}

async function placeOfLsn(
  { segments, cache }: ReadableLog,
  index: IndexLookup,
  end: DurableEnd,
  lsn: number,
  wantsTicks: boolean,
): Promise<Place> {
  if (lsn >= end.nextLsn) return placeAt(end)
  // A stored tick has the LSN of the record behind it: the cache might begin between the two.
  const number = wantsTicks ? -1 : cache.numberOf(lsn)
  const cached = number < 0 ? undefined : cache.at(number)
  if (cached !== undefined && cached.header.baseLsn <= lsn) {
    const segment = segments.find((candidate) => candidate === cached.segment)
    if (segment !== undefined) {
      return { segment, position: cached.header.position, lsn: cached.header.baseLsn, chain: cached.header.chain }
    }
  }
  const segment = segments.findLast((candidate) => candidate.baseLsn <= lsn) ?? firstOf(segments)
  if (lsn <= segment.baseLsn) return startOf(segment)
  return await index.placeOfLsn(segment, lsnToLookUp(lsn, wantsTicks))
}

async function startAtTick(
  view: ReadableLog,
  files: LogFiles,
  index: IndexLookup,
  end: DurableEnd,
  tick: bigint,
): Promise<ReadStart> {
  const { segments, firstLsn } = view
  const first = firstOf(segments)
  // What is durable has smaller ticks; it need not be read.
  if (tick > end.lastTimeTick) {
    return { place: placeAt(end), fromLsn: Math.max(firstLsn, end.nextLsn), tickFloorLsn: 0 }
  }
  let low = 0
  let high = segments.length - 1
  // The last segment whose base tick is at or below the tick: all records in it have that tick or more.
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    const header = await files.segments.header(segments[middle]!)
    if (header.baseTimeTick <= tick) low = middle
    else high = middle - 1
  }
  if (low === 0 && firstLsn > 0) {
    const header = await files.segments.header(first)
    if (tick < header.baseTimeTick && header.previous !== null) throw truncatedAway(firstLsn - 1, view.firstLsn)
  }
  return { place: await index.placeOfTick(segments[low]!, tick), fromLsn: 0, tickFloorLsn: firstLsn }
}

function firstOf(segments: readonly SegmentEntry[]): SegmentEntry {
  const first = segments[0]
  if (first === undefined) throw new Error('invariant broken: a log with a durable end has no segment')
  return first
}
