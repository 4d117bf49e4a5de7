/**
 * Where the log ends, for a repair: what is proven of its last segment, and above which LSN numbering has to go on so
 * that none is given twice.
 */
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { classifyTail } from '../recovery/classify.ts'
import { scanTail, type TailPoint } from '../recovery/tail-scan.ts'
import { DEFAULT_SEGMENT_BYTES } from '../segment/segment-size.ts'
import { examine, type SegmentBounds } from './repair-frames.ts'
import type { RepairView } from './repair-look.ts'
import type { Candidate } from './repair-order.ts'
import { openSource } from './repair-source.ts'

const RECORDS_A_SECTOR = 65_536
const SECTOR_BYTES = 512
/** So many full segments may have stood behind one that is missing: the manifest follows a roll in the background. */
const SEGMENTS_BEHIND = 4
/** LSNs that a lease takes in advance at durability `os`, twice. */
const LSN_LEASES = 2_000_000

export interface LastSegment {
  /** The file can stay as it is, and the next opening takes care of its end. */
  isSound: boolean
  fault: string | null
  bounds: SegmentBounds
  /** Behind the last LSN of which it is known that it was given. */
  knownNextLsn: number
  /** Behind the last LSN that may have been given. */
  boundLsn: number
  /** What stood at the end is gone, not merely unfinished: all below the bound counts as lost. */
  endIsLost: boolean
  /** What a manifest can say of it when it stays. */
  point: TailPoint
  closed: boolean
}

/** The last segment that is there. Throws FORMAT_UNKNOWN, IO_FAILED. */
export async function lookAtEnd(view: RepairView, last: Candidate): Promise<LastSegment> {
  const { source, content } = last
  const { known } = view
  const isTail = known?.tail?.id === source.id
  const opened = await openSource(view.environment, view.directory, source)
  try {
    const { header } = source
    const start: TailPoint = isTail
      ? {
          position: known.tail!.syncedPosition,
          chain: known.tail!.chain,
          nextLsn: known.nextLsn,
          lastTimeTick: known.lastTimeTick,
        }
      : {
          position: SEGMENT_HEADER_BYTES,
          chain: header.checksum,
          nextLsn: header.baseLsn,
          lastTimeTick: header.baseTimeTick === 0n ? 0n : header.baseTimeTick - 1n,
        }
    const closed = isTail && known.tail!.closed
    const syncedLsn = isTail ? known.nextLsn : 0
    if (closed) {
      const bounds = { endPosition: start.position, nextLsn: start.nextLsn }
      const examined = await examine(opened, bounds)
      const isSound = source.isExact && examined.isSound && examined.chain === start.chain
      const fault = isSound ? null : (examined.fault ?? headerFault)
      return {
        isSound,
        fault,
        bounds,
        knownNextLsn: syncedLsn,
        boundLsn: syncedLsn,
        endIsLost: false,
        point: start,
        closed,
      }
    }
    if (content.seal !== null && content.nextLsn <= content.seal.nextLsn && syncedLsn <= content.seal.nextLsn) {
      const { end, nextLsn } = content.seal
      const bounds = { endPosition: end, nextLsn }
      const examined = await examine(opened, bounds)
      const isSound = source.isExact && examined.isSound && (!isTail || (await isSoundUpTo(opened, start)))
      const fault = isSound ? null : (examined.fault ?? headerFault)
      return {
        isSound,
        fault,
        bounds,
        knownNextLsn: nextLsn,
        boundLsn: nextLsn,
        endIsLost: false,
        point: start,
        closed,
      }
    }
    const scan = source.hasHeader ? await scanTail(opened.file, header.salt, start) : null
    const { verdict, because } = scan === null ? damagedHeader : classifyTail(scan.evidence)
    // Without a manifest nothing says that a torn end, or one that was cut off, was not acknowledged.
    const isDoubtful =
      known === null && (verdict === 'torn' || (source.hasHeader && source.bytes < header.preparedBytes))
    const isSound =
      scan !== null &&
      !isDoubtful &&
      verdict !== 'damaged' &&
      source.isExact &&
      (await isSoundUpTo(opened, scan.proven)) &&
      (!isTail || (await isSoundUpTo(opened, start)))
    if (isSound) {
      const { position, nextLsn } = scan.end
      const bounds = { endPosition: position, nextLsn }
      return {
        isSound,
        fault: null,
        bounds,
        knownNextLsn: nextLsn,
        boundLsn: nextLsn,
        endIsLost: false,
        point: start,
        closed,
      }
    }
    const bounds = { endPosition: Math.max(source.bytes, SEGMENT_HEADER_BYTES), nextLsn: null }
    const knownNextLsn = Math.max(syncedLsn, content.nextLsn)
    const provenEnd = Math.max(start.position, content.durablePosition)
    const endIsLost = isDoubtful || provenEnd > content.position || source.bytes < provenEnd || !source.hasHeader
    const isCut = provenEnd > content.position || source.bytes < header.preparedBytes || !source.hasHeader
    const open = isCut ? lostSectors(last, provenEnd) : await openSectors(last, opened)
    const boundLsn = knownNextLsn + open * RECORDS_A_SECTOR
    const doubt = isDoubtful ? 'no manifest proves where it ends' : null
    const fault = verdict === 'damaged' ? because : (doubt ?? content.fault ?? headerFault)
    return { isSound, fault, bounds, knownNextLsn, boundLsn, endIsLost, point: start, closed: false }
  } finally {
    await opened.release()
  }
}

const headerFault = 'its header or its name is not what it has to be'
const damagedHeader = { verdict: 'damaged', because: 'its header is damaged' } as const

async function isSoundUpTo(opened: Awaited<ReturnType<typeof openSource>>, point: TailPoint): Promise<boolean> {
  const examined = await examine(opened, { endPosition: point.position, nextLsn: point.nextLsn })
  // What follows is no seal where the data goes on.
  return (examined.isSound || examined.isDataSound) && examined.chain === point.chain
}

/** Sectors in which frames stood, or may have stood, up to the end that the file was prepared for. */
function lostSectors({ source, content }: Candidate, provenEnd: number): number {
  const capacity = Math.max(source.header.preparedBytes, source.bytes, provenEnd, DEFAULT_SEGMENT_BYTES)
  return sectors(capacity - Math.max(content.position, provenEnd))
}

/** Sectors behind the last intact frame that hold something else. */
async function openSectors(
  { source, content }: Candidate,
  opened: Awaited<ReturnType<typeof openSource>>,
): Promise<number> {
  const { position } = content
  return sectors((await endOfBytes(opened, position, source.bytes)) - position)
}

/** Behind the last byte that is not zero. */
async function endOfBytes(opened: Awaited<ReturnType<typeof openSource>>, from: number, size: number): Promise<number> {
  const chunk = Buffer.alloc(1024 * 1024)
  let end = from
  for (let at = from; at < size; at += chunk.length) {
    const got = await opened.file.read(chunk, 0, Math.min(chunk.length, size - at), at)
    for (let index = got - 1; index >= 0; index--) {
      if (chunk[index] === 0) continue
      end = at + index + 1
      break
    }
  }
  return end
}

function sectors(bytes: number): number {
  return Math.max(0, Math.ceil(bytes / SECTOR_BYTES))
}

/** LSNs that segments may have held that left no trace, where the last one is missing. */
export function lsnsOfMissing(view: RepairView): number {
  const largest = Math.max(DEFAULT_SEGMENT_BYTES, ...view.candidates.map(({ source }) => source.bytes))
  return sectors(largest * SEGMENTS_BEHIND) * RECORDS_A_SECTOR
}

/** At durability `os` the lease says which LSNs may have been given. */
export function leasedLsn(view: RepairView, nextLsn: number): number {
  const durability = (view.newest ?? view.hint)?.durability
  if (durability !== 'os') return nextLsn
  if (view.lease === 'damaged') return nextLsn + LSN_LEASES
  return Math.max(nextLsn, view.lease?.lsnBound ?? 0)
}
