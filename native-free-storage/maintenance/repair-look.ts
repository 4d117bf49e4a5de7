/** What a repair finds: manifests, segment files with all that can be read in them, the lease, what verify says. */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { readManifest } from '../log/manifest-store.ts'
import type { Lineage } from '../segment/lineage.ts'
import { exitCodeOf, type Finding } from './findings.ts'
import { surveyLog } from './log-survey.ts'
import { type Examined, examine } from './repair-frames.ts'
import { type LeaseState, lookAtLease } from './repair-lease.ts'
import { areSameSegment, patchesFrom } from './repair-merge.ts'
import type { Candidate } from './repair-order.ts'
import { openSource, type RepairSource, sourceOf } from './repair-source.ts'
import { type SurveyedSegment, surveySegment, withLineage } from './surveyed-segment.ts'
import { verifyLog } from './verify.ts'
import { readSeal } from './verify-seal.ts'

export interface RepairView {
  environment: Environment
  directory: string
  names: readonly string[]
  findings: readonly Finding[]
  /** By what verify finds: 0, 8 or 9. */
  damage: 0 | 8 | 9
  quarantined: readonly string[]
  /** The newest manifest, valid and of this log; its tail may be out of date. */
  newest: ManifestContent | null
  /** `newest`, when all that it says can be relied on. */
  known: ManifestContent | null
  /** What is left of older generations says at least: the id of the log, its durability. */
  hint: ManifestContent | null
  manifests: readonly { name: string; generation: number }[]
  lineage: Lineage | null
  candidates: readonly Candidate[]
  /** Segment files that are none of the log's, or hold a segment that another file holds as well. */
  strays: readonly string[]
  /** Null: there is none. */
  lease: LeaseState['lease']
}

/** Throws LOG_MISSING, LOCKED, FORMAT_UNKNOWN, IO_FAILED. */
export async function lookForRepair(environment: Environment, directory: string): Promise<RepairView> {
  const survey = await surveyLog(environment, directory)
  if (survey.writerRunning) {
    throw new TidelogError(
      'LOCKED',
      `a process has ${directory} open for writing: end it first. Nothing was changed.`,
      {
        file: 'LOCK',
        retriable: true,
      },
    )
  }
  const verified = await verifyLog(environment, directory)
  const { findings } = verified
  const unknown = [...survey.findings, ...findings].find(({ code }) => code === 'FORMAT_UNKNOWN')
  if (unknown !== undefined) {
    const message = `${unknown.message}: repair the log with that later version. Nothing was changed.`
    throw new TidelogError('FORMAT_UNKNOWN', message, { file: unknown.file ?? undefined })
  }
  const manifests = survey.names
    .flatMap((name) => {
      const generation = parseManifestFileName(name)
      return generation === null ? [] : [{ name, generation }]
    })
    .sort((a, b) => a.generation - b.generation)
  const isStale = findings.some(({ code }) => code === 'MANIFEST_STALE')
  const newest = survey.manifest
  const older = newest ?? (await newestValid(environment, directory, manifests))
  const found = await findFiles(environment, directory, survey.names, older)
  const lineage = newest ?? lineageOf(found) ?? older
  const hint = older !== null && lineage?.logId === older.logId ? older : null
  const { candidates, strays } = await examineAll(environment, directory, found, lineage)
  return {
    environment,
    directory,
    names: survey.names,
    findings,
    damage: exitCodeOf({ clean: false, logs: [verified] }),
    quarantined: survey.quarantined,
    newest,
    known: isStale || isBehind(newest, candidates) ? null : newest,
    hint,
    manifests,
    lineage,
    candidates,
    strays,
    lease: await lookAtLease(environment, directory),
  }
}

async function newestValid(
  environment: Environment,
  directory: string,
  manifests: readonly { generation: number }[],
): Promise<ManifestContent | null> {
  for (const { generation } of [...manifests].reverse()) {
    try {
      return await readManifest(environment.disk, directory, generation)
    } catch (error) {
      if (!(error instanceof TidelogError) || error.code !== 'MANIFEST_DAMAGED') throw error
    }
  }
  return null
}

async function findFiles(
  environment: Environment,
  directory: string,
  names: readonly string[],
  manifest: ManifestContent | null,
): Promise<SurveyedSegment[]> {
  const retired = new Set(manifest?.retired.map(({ id }) => id))
  const found: SurveyedSegment[] = []
  for (const name of [...names].sort()) {
    const parsed = parseSegmentFileName(name)
    if (parsed === null || retired.has(parsed.id)) continue
    const survey = await surveySegment(environment, directory, { ...parsed, name })
    if (survey !== null) found.push(survey)
  }
  return found
}

/** Of which log most of the segments are. */
function lineageOf(found: readonly SurveyedSegment[]): Lineage | null {
  const counts = new Map<string, number>()
  for (const { found: header } of found) {
    if (header !== null) counts.set(header.logId, (counts.get(header.logId) ?? 0) + 1)
  }
  // A copy holds segments of the log that it was copied from; its own name that log as their origin.
  const copies = found.flatMap(({ found: header }) => (header?.originLogId ? [header] : []))
  const copy = copies.at(-1)
  if (copy !== undefined) {
    const origins = new Map(copies.map(({ originLogId, forkLsn }) => [originLogId!, forkLsn]))
    origins.delete(copy.logId)
    const list = [...origins].map(([logId, forkLsn]) => ({ logId, forkLsn })).sort((a, b) => a.forkLsn - b.forkLsn)
    return { logId: copy.logId, origins: list }
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1])
  return most === undefined ? null : { logId: most[0], origins: [] }
}

async function examineAll(
  environment: Environment,
  directory: string,
  found: readonly SurveyedSegment[],
  lineage: Lineage | null,
): Promise<{ candidates: Candidate[]; strays: string[] }> {
  const best = new Map<string, Candidate>()
  const strays: string[] = []
  for (const each of found) {
    const survey = withLineage(each, lineage)
    if (survey.standing === 'foreign') {
      strays.push(survey.name)
      continue
    }
    const source = await sourceOf(environment, directory, survey)
    // The sums of all segments together need not be kept in memory.
    const { sum: _, ...content } = await contentOf(environment, directory, source)
    const candidate: Candidate = { source, content }
    const rival = best.get(source.id)
    if (rival === undefined) best.set(source.id, candidate)
    else {
      const isBetter = worth(candidate) > worth(rival)
      const [better, other] = isBetter ? [candidate, rival] : [rival, candidate]
      best.set(source.id, await merged(environment, directory, better, other.source))
      strays.push(other.source.name)
    }
  }
  return { candidates: [...best.values()], strays }
}

/** With what is intact only in `other`. */
async function merged(
  environment: Environment,
  directory: string,
  candidate: Candidate,
  other: RepairSource,
): Promise<Candidate> {
  const { source, content } = candidate
  if (content.lost.length === 0 || !areSameSegment(source, other)) return candidate
  const more = await patchesFrom(environment, directory, source, other)
  if (more.length === 0) return candidate
  const patches = [...(source.patches ?? []), ...more].sort((a, b) => a.from - b.from)
  // It has to be written anew: no file holds all of it.
  const patched: RepairSource = { ...source, isExact: false, patches }
  const { sum: _, ...all } = await contentOf(environment, directory, patched)
  return { source: patched, content: all }
}

/** Of two files of one segment, the one with its header, its name and more frames counts. */
function worth({ source, content }: Candidate): number {
  const lost = content.lost.length > 0 ? 0 : 1
  return (source.hasHeader ? 2 ** 40 : 0) + content.frames * 4 + lost * 2 + (source.isExact ? 1 : 0)
}

/** All that the file holds, wherever the data ends. */
async function contentOf(environment: Environment, directory: string, source: RepairSource): Promise<Examined> {
  const opened = await openSource(environment, directory, source)
  try {
    const sealAt = source.bytes - source.header.alignment
    if ((await readSeal(opened, sealAt)) !== null) return await examine(opened, { endPosition: sealAt, nextLsn: null })
    const whole = await examine(opened, { endPosition: Math.max(SEGMENT_HEADER_BYTES, source.bytes), nextLsn: null })
    // Sealed, and not trimmed yet.
    const { position } = whole
    if ((await readSeal(opened, position)) === null) return whole
    return await examine(opened, { endPosition: position, nextLsn: null })
  } finally {
    await opened.release()
  }
}

/** A segment was begun behind the tail of the manifest, and not by way of its seal: a later generation is gone. */
function isBehind(manifest: ManifestContent | null, candidates: readonly Candidate[]): boolean {
  if (manifest?.tail == null) return manifest !== null && candidates.some(({ content }) => content.frames > 0)
  const tail = candidates.find(({ source }) => source.id === manifest.tail!.id)
  return candidates.some(({ source, content }) => {
    const isNext = source.hasHeader && source.header.previous?.id === manifest.tail!.id && content.frames > 0
    if (!isNext || source.baseLsn < manifest.nextLsn) return false
    return (
      tail !== undefined && tail.content.seal?.nextSegmentId !== source.id && source.baseLsn >= tail.content.nextLsn
    )
  })
}
