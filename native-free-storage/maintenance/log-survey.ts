/**
 * What stands in a log's directory, without refusing anything: manifest, segments with their headers, and which of them
 * make up the log. For tools that read damaged logs, and logs that a daemon has open.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment, ProcessIdentity } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import { FormatError } from '../format/format-error.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { type DecodedSegmentHeader, decodeSegmentHeader, SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { findManifest } from '../log/manifest-store.ts'
import { belongsTo, type Lineage } from '../segment/lineage.ts'
import { type OpenSegment, readAt, type SegmentReference } from '../segment/segment-file.ts'
import { type Finding, finding } from './findings.ts'

const RESERVED_FROM = 200

export interface SurveyedSegment extends SegmentReference {
  /** Null: damaged, of another log, or not what its name says. */
  header: DecodedSegmentHeader | null
  bytes: number
}

export interface LogSurvey {
  directory: string
  names: readonly string[]
  /** Null: missing or damaged. */
  manifest: ManifestContent | null
  generations: readonly number[]
  /** In LSN order: those of the log as far as it can be told, up to the tail that the manifest names. */
  segments: readonly SurveyedSegment[]
  /** Segment files that are not (or, behind the tail, not yet) part of the log. */
  others: readonly SurveyedSegment[]
  quarantined: readonly string[]
  writerRunning: boolean
  findings: Finding[]
}

/** Throws LOG_MISSING when nothing of a log is in `directory`, IO_FAILED. */
export async function surveyLog(environment: Environment, directory: string): Promise<LogSurvey> {
  await loadChecksum()
  const { disk } = environment
  const names = await namesIn(environment, directory)
  if (names === null || !isLogDirectory(names)) {
    throw new TidelogError('LOG_MISSING', `${directory} holds no log`, { file: directory })
  }
  const findings: Finding[] = []
  let manifest: ManifestContent | null = null
  try {
    manifest = (await findManifest(disk, directory, names))?.content ?? null
    if (manifest === null) {
      findings.push(
        finding('MANIFEST_MISSING', 'there are segments but no manifest: what belongs to the log cannot be known'),
      )
    }
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
    const code = error.code === 'FORMAT_UNKNOWN' ? 'FORMAT_UNKNOWN' : 'MANIFEST_DAMAGED'
    findings.push(finding(code, error.message, { file: error.file ?? null, acknowledged: 'unknown' }))
  }
  const retired = new Set(manifest?.retired.map(({ id }) => id))
  const all: SurveyedSegment[] = []
  for (const name of [...names].sort()) {
    const parsed = parseSegmentFileName(name)
    if (parsed === null || retired.has(parsed.id)) continue
    const segment = await surveySegment(environment, directory, { ...parsed, name }, manifest, findings)
    if (segment !== null) all.push(segment)
  }
  const segments = membersOf(all, manifest, findings)
  const members = new Set(segments)
  return {
    directory,
    names,
    manifest,
    generations: names
      .map(parseManifestFileName)
      .filter((generation) => generation !== null)
      .sort((a, b) => a - b),
    segments,
    others: all.filter((segment) => !members.has(segment)),
    quarantined: (await namesIn(environment, `${directory}/quarantine`)) ?? [],
    writerRunning: await isWriterRunning(environment, directory),
    findings,
  }
}

export function isLogDirectory(names: readonly string[]): boolean {
  return names.some((name) => parseManifestFileName(name) !== null || parseSegmentFileName(name) !== null)
}

/** Null: there is no such directory. */
export async function namesIn(environment: Environment, directory: string): Promise<string[] | null> {
  try {
    return await environment.disk.list(directory)
  } catch (error) {
    if (isDiskError(error, 'ENOENT') || isDiskError(error, 'ENOTDIR')) return null
    throw new TidelogError('IO_FAILED', `${directory} cannot be listed`, { file: directory, cause: error })
  }
}

/** Opens a segment with a header that was surveyed, damaged in its unused bytes perhaps. */
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

async function surveySegment(
  environment: Environment,
  directory: string,
  segment: SegmentReference,
  lineage: Lineage | null,
  findings: Finding[],
): Promise<SurveyedSegment | null> {
  let file: Awaited<ReturnType<typeof environment.disk.open>>
  try {
    file = await environment.disk.open(`${directory}/${segment.name}`, 'read')
  } catch (error) {
    // Truncated away meanwhile.
    if (isDiskError(error, 'ENOENT')) return null
    throw error
  }
  try {
    const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
    const length = await readAt(file, segment, bytes, 0, bytes.length, 0)
    const size = await file.size()
    const header = decodeHeader(bytes.subarray(0, length), segment, findings)
    const { name: at } = segment
    const place = { file: at, position: 0, lsnFrom: segment.baseLsn }
    if (header !== null && (header.segmentId !== segment.id || header.baseLsn !== segment.baseLsn)) {
      findings.push(
        finding('SEGMENT_HEADER_DAMAGED', `${at} has the header of another segment, ${header.segmentId}`, place),
      )
      return { ...segment, header: null, bytes: size }
    }
    if (header !== null && lineage !== null && !belongsTo(lineage, header)) {
      findings.push(finding('FILE_STRAY', `${at} belongs to another log, ${header.logId}`, { file: at }))
      return { ...segment, header: null, bytes: size }
    }
    return { ...segment, header, bytes: size }
  } finally {
    await file.close()
  }
}

function decodeHeader(bytes: Buffer, segment: SegmentReference, findings: Finding[]): DecodedSegmentHeader | null {
  const place = { file: segment.name, position: 0, lsnFrom: segment.baseLsn }
  try {
    return decodeSegmentHeader(bytes)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    if (error.code === 'FORMAT_UNKNOWN') {
      findings.push(
        finding('FORMAT_UNKNOWN', `${segment.name}: ${error.message}`, { ...place, acknowledged: 'unknown' }),
      )
      return null
    }
    const cleaned = withoutReserved(bytes)
    if (cleaned !== null) {
      findings.push(finding('PADDING_NOT_ZERO', `unused bytes of the header of ${segment.name} are not zero`, place))
      return cleaned
    }
    findings.push(finding('SEGMENT_HEADER_DAMAGED', `${segment.name}: ${error.message}`, place))
    return null
  }
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

/** From the tail back to the first segment: each header names the one before. */
function membersOf(
  all: readonly SurveyedSegment[],
  manifest: ManifestContent | null,
  findings: Finding[],
): SurveyedSegment[] {
  if (manifest === null) return [...all]
  const { tail, firstSegment } = manifest
  if (tail === null || firstSegment === null) return []
  const members: SurveyedSegment[] = []
  let current = all.find(({ id }) => id === tail.id)
  if (current === undefined) {
    const message = `the tail segment ${tail.id}, with the records from LSN ${tail.baseLsn}, is missing`
    const lsnTo = manifest.nextLsn > tail.baseLsn ? manifest.nextLsn - 1 : null
    findings.push(finding('SEGMENT_MISSING', message, { lsnFrom: tail.baseLsn, lsnTo }))
    current = all.findLast(({ baseLsn }) => baseLsn < tail.baseLsn)
  }
  while (current !== undefined) {
    members.unshift(current)
    if (current.id === firstSegment.id) return members
    const before: SurveyedSegment | undefined = predecessorOf(current, all, firstSegment.baseLsn)
    if (before === undefined) break
    current = before
  }
  const first = members[0]
  const lsnTo = (first?.baseLsn ?? tail.baseLsn) - 1
  if (lsnTo >= manifest.firstLsn) {
    const message = `the first segment ${firstSegment.id}, with the records from LSN ${firstSegment.baseLsn}, is missing`
    findings.push(finding('SEGMENT_MISSING', message, { lsnFrom: manifest.firstLsn, lsnTo }))
  }
  return members
}

function predecessorOf(
  segment: SurveyedSegment,
  all: readonly SurveyedSegment[],
  firstBaseLsn: number,
): SurveyedSegment | undefined {
  const previous = segment.header?.previous
  const candidates = all.filter(
    (other) => other !== segment && other.baseLsn <= segment.baseLsn && other.baseLsn >= firstBaseLsn,
  )
  const named =
    candidates.find(
      ({ header }) => header?.replaced?.id === previous?.id && previous !== undefined && previous !== null,
    ) ?? candidates.find(({ id }) => id === previous?.id)
  // Where the one that is named is missing, the walk goes on with the nearest; `verify` says what lies between.
  return named ?? candidates.findLast(({ baseLsn }) => baseLsn < segment.baseLsn)
}

async function isWriterRunning(environment: Environment, directory: string): Promise<boolean> {
  let text: string
  try {
    const file = await environment.disk.open(`${directory}/LOCK`, 'read')
    try {
      const bytes = Buffer.alloc(4096)
      text = bytes.toString('utf8', 0, await file.read(bytes, 0, bytes.length, 0))
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isDiskError(error)) return false
    throw error
  }
  try {
    const { pid, bootId, startTime } = JSON.parse(text) as ProcessIdentity
    return Number.isInteger(pid) && environment.processes.isAlive({ pid, bootId, startTime })
  } catch {
    return false
  }
}
