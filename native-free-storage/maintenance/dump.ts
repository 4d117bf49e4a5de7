/**
 * The frames of a log as they stand on disk, with file and position, damaged ones too. Reads, never writes; beside a
 * running writer only what is proven.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import type { FrameHeader } from '../format/frame-header.ts'
import { FrameKind, lastTickOf } from '../format/frame-header.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { RecordFrame } from '../log/record-frame.ts'
import { scanTail } from '../recovery/tail-scan.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { type LogSurvey, openSurveyed, type SurveyedSegment, surveyLog } from './log-survey.ts'
import { type WalkedFrame, walkSegment } from './segment-walk.ts'

/** All bounds are inclusive. What is left out does not filter. */
export interface DumpFilter {
  lsnFrom?: number | undefined
  lsnTo?: number | undefined
  tickFrom?: bigint | undefined
  tickTo?: bigint | undefined
  /** Milliseconds since 1970, against the physical part of the time ticks. */
  timeFromMs?: number | undefined
  timeToMs?: number | undefined
  vchannels?: readonly string[] | undefined
  types?: readonly number[] | undefined
  /** Frames only: bodies are not verified and `records` is null. */
  headersOnly?: boolean | undefined
}

export interface DumpedFrame {
  file: string
  position: number
  /** Null: no valid header stands here; up to `nextPosition` nothing can be read. */
  header: FrameHeader | null
  nextPosition: number
  kind: 'records' | 'tick' | 'durable-marker' | 'seal' | 'fence' | 'gap' | 'damaged'
  /** What is wrong, in words. */
  faults: readonly string[]
  gap: { count: number; reason: string } | null
  /** The records that pass the filter, where the frame has records and they are sound. */
  records: RecordFrame | null
}

const kinds = {
  [FrameKind.records]: 'records',
  [FrameKind.timeTick]: 'tick',
  [FrameKind.durableMarker]: 'durable-marker',
  [FrameKind.seal]: 'seal',
  [FrameKind.fence]: 'fence',
  [FrameKind.gap]: 'gap',
} as const

const PHYSICAL_SHIFT = 18n
/** Looks at the directory beside a writer that removes files meanwhile. */
const SURVEYS_MAX = 100

interface Bounds {
  lsnFrom: number
  lsnTo: number
  tickFrom: bigint
  tickTo: bigint
  vchannels: ReadonlySet<string> | null
  types: ReadonlySet<number> | null
}

/** Throws LOG_MISSING, IO_FAILED. Damage does not end it: it is in the frames. */
export async function* dump(
  environment: Environment,
  directory: string,
  filter: DumpFilter = {},
): AsyncGenerator<DumpedFrame, void> {
  let survey = await surveyLog(environment, directory)
  const bounds = boundsOf(filter)
  let surveys = 1
  for (let i = 0; i < survey.segments.length; i++) {
    const segment = survey.segments[i]!
    const successor = survey.segments[i + 1]
    if (successor !== undefined && successor.baseLsn <= bounds.lsnFrom && successor.baseLsn > segment.baseLsn) continue
    if (segment.baseLsn > bounds.lsnTo) return
    let opened: OpenSegment | null
    try {
      opened = await openSurveyed(environment, directory, segment)
    } catch (error) {
      if (!isDiskError(error, 'ENOENT') || !survey.writerRunning || surveys === SURVEYS_MAX) throw error
      // The writer has truncated it away, or written it anew: the look goes on where it was.
      surveys++
      survey = await surveyLog(environment, directory)
      const at = survey.segments.findIndex(({ baseLsn }) => baseLsn >= segment.baseLsn)
      if (at < 0) return
      i = at - 1
      continue
    }
    if (opened === null) continue
    try {
      const end = await endOf(opened, segment, successor, survey)
      const options = {
        from: SEGMENT_HEADER_BYTES,
        end,
        lsn: opened.header.baseLsn,
        chain: opened.header.checksum,
        content: !filter.headersOnly,
      }
      for await (const frame of walkSegment(opened, options)) {
        const dumped = asDumped(segment.name, frame, bounds, filter.headersOnly ?? false)
        if (dumped !== null) yield dumped
      }
    } finally {
      await opened.release()
    }
  }
}

function boundsOf(filter: DumpFilter): Bounds {
  const fromMs = filter.timeFromMs === undefined ? 0n : BigInt(Math.max(0, filter.timeFromMs)) << PHYSICAL_SHIFT
  const afterMs = filter.timeToMs === undefined ? 1n << 64n : BigInt(Math.max(0, filter.timeToMs) + 1) << PHYSICAL_SHIFT
  const tickFrom = filter.tickFrom ?? 0n
  const tickTo = filter.tickTo ?? (1n << 64n) - 1n
  return {
    lsnFrom: filter.lsnFrom ?? 0,
    lsnTo: filter.lsnTo ?? Number.MAX_SAFE_INTEGER,
    tickFrom: tickFrom > fromMs ? tickFrom : fromMs,
    tickTo: tickTo < afterMs ? tickTo : afterMs - 1n,
    vchannels: filter.vchannels === undefined ? null : new Set(filter.vchannels),
    types: filter.types === undefined ? null : new Set(filter.types),
  }
}

async function endOf(
  opened: OpenSegment,
  segment: SurveyedSegment,
  successor: SurveyedSegment | undefined,
  survey: LogSurvey,
): Promise<number> {
  const previous = successor?.header?.previous
  if (previous?.id === segment.id) return previous.end
  const tail = survey.manifest?.tail
  const { header } = opened
  const start =
    tail?.id === segment.id && survey.manifest !== null
      ? {
          position: tail.syncedPosition,
          chain: tail.chain,
          nextLsn: survey.manifest.nextLsn,
          lastTimeTick: survey.manifest.lastTimeTick,
        }
      : { position: SEGMENT_HEADER_BYTES, chain: header.checksum, nextLsn: header.baseLsn, lastTimeTick: 0n }
  const scan = await scanTail(opened.file, header.salt, start)
  const end = survey.writerRunning && scan.seal === null ? scan.proven : scan.end
  return Math.min(end.position, scan.fileBytes)
}

/** Null: it does not pass the filter. What is damaged always does, unless its LSNs are known to be others. */
function asDumped(file: string, frame: WalkedFrame, bounds: Bounds, headersOnly: boolean): DumpedFrame | null {
  const { header, position, nextPosition, faults, gap } = frame
  if (header === null) {
    return { file, position, header, nextPosition, kind: 'damaged', faults, gap: null, records: null }
  }
  const lastLsn = Math.max(header.baseLsn, (frame.nextLsn ?? header.baseLsn + header.recordCount) - 1)
  if (lastLsn < bounds.lsnFrom || header.baseLsn > bounds.lsnTo) return null
  const lastTick = header.kind === FrameKind.records ? lastTickOf(header) : header.baseTimeTick
  if (lastTick < bounds.tickFrom || header.baseTimeTick > bounds.tickTo) return null
  const isFiltered = bounds.vchannels !== null || bounds.types !== null
  if (isFiltered && header.kind !== FrameKind.records && header.kind !== FrameKind.gap) return null
  const sound = faults.length === 0
  const records = sound && header.kind === FrameKind.records ? recordsOf(file, frame, header, bounds) : null
  if (records !== null && isFiltered && !records.hasWanted()) return null
  return {
    file,
    position,
    header,
    nextPosition,
    kind: kinds[header.kind],
    faults,
    gap,
    records: headersOnly ? null : records,
  }
}

function recordsOf(file: string, frame: WalkedFrame, header: FrameHeader, bounds: Bounds): RecordFrame {
  const head = frame.head!
  const bodyEnd = header.headerLength + header.bodyLength
  let firstIndex = Math.max(0, bounds.lsnFrom - header.baseLsn)
  if (bounds.tickFrom > header.baseTimeTick) {
    firstIndex = Math.max(firstIndex, Number(bounds.tickFrom - header.baseTimeTick))
  }
  let endIndex = Math.min(header.recordCount, bounds.lsnTo - header.baseLsn + 1)
  if (bounds.tickTo < lastTickOf(header)) endIndex = Math.min(endIndex, Number(bounds.tickTo - header.baseTimeTick) + 1)
  let mask: Uint8Array | null = null
  if (bounds.vchannels !== null) {
    const wanted = bounds.vchannels
    mask = Uint8Array.from(head.vchannels, (name) => (wanted.has(name) ? 1 : 0))
  }
  return new RecordFrame({
    type: 'records',
    file,
    header,
    nextLsn: header.baseLsn + header.recordCount,
    gap: null,
    head,
    body: frame.bytes.subarray(header.headerLength, bodyEnd),
    sections: null,
    nodeBytes: frame.bytes.subarray(bodyEnd, bodyEnd + header.nodeSectionLength),
    node: frame.node,
    selection: { firstIndex, endIndex, vchannels: mask, types: bounds.types },
  })
}
