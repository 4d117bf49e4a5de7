/**
 * What stands in a log's directory, without refusing anything: manifest, segments with their headers, and which of them
 * make up the log. For tools that read damaged logs, and logs that a daemon has open.
 */
import { isDiskError } from '../disk/disk.ts'
import { lockHolder } from '../disk/lock-owner.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { manifestFileName, parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import { refuseIncompleteBackup } from '../log/incomplete-backup.ts'
import { findManifest } from '../log/manifest-store.ts'
import type { Lineage } from '../segment/lineage.ts'
import { type Finding, finding } from './findings.ts'
import { headerFindings, membersOf, strayFinding } from './log-members.ts'
import { parseJournalName } from './repair-journal.ts'
import { type SurveyedSegment, surveySegment, withLineage } from './surveyed-segment.ts'

export { openSurveyed, type SurveyedSegment } from './surveyed-segment.ts'

const LOG_ID_AT = 48
const OWNER_TERM_AT = 64
/** Listings beside a writer that publishes meanwhile. */
const LISTINGS_MAX = 5

export interface LogSurvey {
  directory: string
  names: readonly string[]
  /** Null: missing, damaged, or of another log. */
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

/** Throws LOG_MISSING when nothing of a log is in `directory`, BACKUP_INCOMPLETE, IO_FAILED. */
export async function surveyLog(environment: Environment, directory: string): Promise<LogSurvey> {
  await loadChecksum()
  const findings: Finding[] = []
  const listed = await listWithManifest(environment, directory, findings)
  const { names } = listed
  const retired = new Set(listed.manifest?.retired.map(({ id }) => id))
  const found: SurveyedSegment[] = []
  for (const name of [...names].sort()) {
    const parsed = parseSegmentFileName(name)
    if (parsed === null || retired.has(parsed.id)) continue
    const segment = await surveySegment(environment, directory, { ...parsed, name })
    if (segment !== null) found.push(segment)
  }
  const manifest = fitting(listed.manifest, found, findings)
  const lineage = manifest ?? lineageOf(found)
  const all = found.map((segment) => withLineage(segment, lineage))
  const segments = membersOf(all, manifest, findings)
  findings.push(...headerFindings(segments, manifest))
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
    quarantined: ((await namesIn(environment, `${directory}/${QUARANTINE}`)) ?? []).filter(
      (name) => parseJournalName(name) === null,
    ),
    writerRunning: await isWriterRunning(environment, directory),
    findings,
  }
}

/** Of the segment files that are not part of the log; `reached`: ids of those that the walk from the tail came to. */
export function strayFindings({ others, segments }: LogSurvey, reached: ReadonlySet<string>): Finding[] {
  return others.filter(({ id }) => !reached.has(id)).map((stray) => strayFinding(stray, segments))
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

async function listWithManifest(
  environment: Environment,
  directory: string,
  findings: Finding[],
): Promise<{ names: string[]; manifest: ManifestContent | null }> {
  for (let listing = 1; ; listing++) {
    const names = await namesIn(environment, directory)
    if (!names?.some((name) => parseManifestFileName(name) !== null)) refuseIncompleteBackup(directory, names ?? [])
    if (names === null || !isLogDirectory(names)) {
      throw new TidelogError('LOG_MISSING', `${directory} holds no log`, { file: directory })
    }
    try {
      const found = await findManifest(environment.disk, directory, names)
      if (found === null) {
        const message = 'there are segments but no manifest: what belongs to the log cannot be known'
        findings.push(finding('MANIFEST_MISSING', message))
      }
      return { names, manifest: found?.content ?? null }
    } catch (error) {
      // A writer has published the next one, and unlinked this one.
      if (isDiskError(error, 'ENOENT') && listing < LISTINGS_MAX) continue
      if (!(error instanceof TidelogError)) throw error
      const isUnknown = error.code === 'FORMAT_UNKNOWN'
      const place = { file: error.file ?? null, position: isUnknown ? null : 0, acknowledged: 'unknown' } as const
      findings.push(finding(isUnknown ? 'FORMAT_UNKNOWN' : 'MANIFEST_DAMAGED', error.message, place))
      return { names, manifest: null }
    }
  }
}

/**
 * The manifest, unless it is that of another log; says so, and when it is older than the segments: an owner publishes
 * its term and incarnation before it begins its first segment.
 */
function fitting(
  manifest: ManifestContent | null,
  segments: readonly SurveyedSegment[],
  findings: Finding[],
): ManifestContent | null {
  if (manifest === null) return null
  const file = manifestFileName(manifest.generation)
  const known = segments.filter(({ found }) => found !== null)
  if (known.length > 0 && known.every((segment) => withLineage(segment, manifest).standing === 'foreign')) {
    const message = `${file} is that of another log, ${manifest.logId}: the segments are of ${known[0]!.found!.logId}`
    findings.push(finding('MANIFEST_STALE', message, { file, position: LOG_ID_AT, acknowledged: 'unknown' }))
    return null
  }
  const { ownerTerm, incarnation, logId } = manifest
  const newer = known.find(({ found }) => {
    if (found!.logId !== logId) return false
    return found!.ownerTerm > ownerTerm || (found!.ownerTerm === ownerTerm && found!.incarnation > incarnation)
  })
  if (newer !== undefined) {
    const { found, name, baseLsn } = newer
    const message = `${file}, of term ${ownerTerm} and incarnation ${incarnation}, is older than ${name}, of ${found!.ownerTerm} and ${found!.incarnation}`
    const place = { file, position: OWNER_TERM_AT, lsnFrom: baseLsn, acknowledged: 'unknown' } as const
    findings.push(finding('MANIFEST_STALE', message, place))
  }
  return manifest
}

/** Without a manifest: the log of which most segments are. */
function lineageOf(segments: readonly SurveyedSegment[]): Lineage | null {
  const counts = new Map<string, number>()
  for (const { found } of segments) if (found !== null) counts.set(found.logId, (counts.get(found.logId) ?? 0) + 1)
  const [most] = [...counts].sort(([, a], [, b]) => b - a)
  // Copies keep the segments of their origins: with those among them nothing is called foreign.
  const isCopy = segments.some(({ found }) => found !== null && found.originLogId !== null)
  return most === undefined || isCopy ? null : { logId: most[0], origins: [] }
}

/** Whether a live process has the log open, by its lock file; false where that does not say who it is. */
export async function isWriterRunning(environment: Environment, directory: string): Promise<boolean> {
  try {
    const holder = await lockHolder(environment, directory)
    return holder !== null && holder !== 'unreadable' && holder.isAlive
  } catch (error) {
    if (isDiskError(error)) return false
    throw error
  }
}
