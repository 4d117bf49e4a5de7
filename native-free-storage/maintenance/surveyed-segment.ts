/** One segment file as a survey finds it: its header, whether it is the one that the name promises, and what is wrong. */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { FormatError } from '../format/format-error.ts'
import { type DecodedSegmentHeader, decodeSegmentHeader, SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { belongsTo, type Lineage } from '../segment/lineage.ts'
import { type OpenSegment, readAt, type SegmentReference } from '../segment/segment-file.ts'
import { type Finding, finding } from './findings.ts'
import { firstNonZero } from './segment-walk.ts'

const RESERVED_FROM = 200
const SEGMENT_ID_AT = 56
const BASE_LSN_AT = 64
const LOG_ID_AT = 40

/**
 * - `sound`: the header is the one that the name promises;
 * - `damaged`: it is not valid;
 * - `unknown`: it is of a later version;
 * - `misnamed`: it is that of another segment;
 * - `foreign`: it is that of another log.
 */
export type HeaderStanding = 'sound' | 'damaged' | 'unknown' | 'misnamed' | 'foreign'

export interface SurveyedSegment extends SegmentReference {
  /** Null unless the header is sound. */
  header: DecodedSegmentHeader | null
  standing: HeaderStanding
  /** What the header says although it is misnamed or foreign; else as `header`. */
  found: DecodedSegmentHeader | null
  /** Where in the file, and in words; null: nothing. */
  fault: { position: number; message: string } | null
  /** Bytes of the header that have to be zero and are not. */
  padding: Finding | null
  bytes: number
}

/** Null: the file is not there (any more). Throws IO_FAILED. */
export async function surveySegment(
  environment: Environment,
  directory: string,
  segment: SegmentReference,
): Promise<SurveyedSegment | null> {
  let file: Awaited<ReturnType<typeof environment.disk.open>>
  try {
    file = await environment.disk.open(`${directory}/${segment.name}`, 'read')
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return null
    throw error
  }
  try {
    const bytes = Buffer.allocUnsafeSlow(SEGMENT_HEADER_BYTES)
    const length = await readAt(file, segment, bytes, 0, bytes.length, 0)
    return judge(segment, bytes.subarray(0, length), await file.size())
  } finally {
    await file.close()
  }
}

/** Opens a segment with a header that was surveyed; null when the header is not sound. */
export async function openSurveyed(
  environment: Environment,
  directory: string,
  segment: SurveyedSegment,
): Promise<OpenSegment | null> {
  const { header } = segment
  if (header === null) return null
  const file = await environment.disk.open(`${directory}/${segment.name}`, 'read')
  return { segment, file, header, release: () => file.close() }
}

/** Of which log the segment is, once that can be told. Null: any. */
export function withLineage(segment: SurveyedSegment, lineage: Lineage | null): SurveyedSegment {
  const { found, name } = segment
  if (lineage === null || found === null || belongsTo(lineage, found)) return segment
  const fault = { position: LOG_ID_AT, message: `${name} belongs to another log, ${found.logId}` }
  return { ...segment, header: null, standing: 'foreign', fault }
}

function judge(segment: SegmentReference, bytes: Buffer, fileBytes: number): SurveyedSegment {
  const { name } = segment
  const surveyed: SurveyedSegment = {
    ...segment,
    header: null,
    standing: 'damaged',
    found: null,
    fault: null,
    padding: null,
    bytes: fileBytes,
  }
  try {
    surveyed.found = decodeSegmentHeader(bytes)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    surveyed.found = error.code === 'FORMAT_UNKNOWN' ? null : withoutReserved(bytes)
    if (surveyed.found === null) {
      surveyed.standing = error.code === 'FORMAT_UNKNOWN' ? 'unknown' : 'damaged'
      surveyed.fault = { position: 0, message: `${name}: ${error.message}` }
      return surveyed
    }
    const position = firstNonZero(bytes, 100, 104) ?? firstNonZero(bytes, RESERVED_FROM, bytes.length)
    const message = `unused bytes of the header of ${name} are not zero`
    surveyed.padding = finding('PADDING_NOT_ZERO', message, { file: name, position })
  }
  const { segmentId, baseLsn } = surveyed.found
  if (segmentId !== segment.id || baseLsn !== segment.baseLsn) {
    surveyed.standing = 'misnamed'
    const position = segmentId === segment.id ? BASE_LSN_AT : SEGMENT_ID_AT
    const message = `${name} has the header of another segment, ${segmentId} with base LSN ${baseLsn}`
    surveyed.fault = { position, message }
    return surveyed
  }
  surveyed.standing = 'sound'
  surveyed.header = surveyed.found
  return surveyed
}

/** The header, if it is right once its unused bytes are what they have to be. */
function withoutReserved(bytes: Buffer): DecodedSegmentHeader | null {
  if (bytes.length < SEGMENT_HEADER_BYTES) return null
  const copy = Buffer.from(bytes)
  copy.fill(0, RESERVED_FROM)
  copy.fill(0, 100, 104)
  try {
    return decodeSegmentHeader(copy)
  } catch {
    return null
  }
}
