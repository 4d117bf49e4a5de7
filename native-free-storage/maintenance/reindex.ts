/**
 * Makes the indexes of a log anew where they are missing or wrong. An index is a cache: it is written beside the old one
 * and renamed, so that a crash leaves the one or the other, and nothing else of the log is touched.
 */
import { isDiskError } from '../disk/disk.ts'
import { acquireLock } from '../disk/lock-file.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { scanTail } from '../recovery/tail-scan.ts'
import { indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import { readSealedEnd } from '../segment/segment-end.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { type LogSurvey, openSurveyed, type SurveyedSegment, surveyLog } from './log-survey.ts'
import { SegmentSum } from './segment-sum.ts'
import { walkSegment } from './segment-walk.ts'
import { compareIndex } from './verify-index.ts'

export interface ReindexedFile {
  file: string
  /** What was the matter with it; `damaged-segment`: its segment is, so that no index of it can be made. */
  was: 'missing' | 'wrong' | 'damaged-segment'
}

export interface ReindexReport {
  path: string
  made: ReindexedFile[]
  /** Indexes that were right. */
  kept: number
  /** Segments that are damaged: their indexes stay as they are. */
  failed: ReindexedFile[]
}

export interface ReindexOptions {
  onIndex?: ((file: string) => void) | undefined
}

/**
 * Not beside a writer. Errors: LOCKED, LOG_MISSING, BACKUP_INCOMPLETE, DISK_FULL (retriable), IO_FAILED; each leaves the
 * indexes that were made.
 */
export async function reindexLog(
  environment: Environment,
  directory: string,
  options: ReindexOptions = {},
): Promise<ReindexReport> {
  // A path without a log is told before a lock is left there.
  await surveyLog(environment, directory)
  const lock = await acquireLock(environment, directory)
  try {
    const survey = await surveyLog(environment, directory)
    const report: ReindexReport = { path: directory, made: [], kept: 0, failed: [] }
    const reindex = new Reindex(environment, directory, report, options)
    await reindex.all(survey)
    return report
  } catch (error) {
    if (!isDiskError(error)) throw error
    throw new TidelogError('IO_FAILED', `the indexes of ${directory} cannot be made: ${error.message}`, {
      file: error.path,
      cause: error,
    })
  } finally {
    await lock.release()
  }
}

class Reindex {
  readonly #environment: Environment
  readonly #directory: string
  readonly #report: ReindexReport
  readonly #options: ReindexOptions

  constructor(environment: Environment, directory: string, report: ReindexReport, options: ReindexOptions) {
    this.#environment = environment
    this.#directory = directory
    this.#report = report
    this.#options = options
  }

  /** Every segment whose end is known: all but a tail that was not closed. */
  async all(survey: LogSurvey): Promise<void> {
    const { segments, others, manifest } = survey
    for (const [i, segment] of segments.entries()) await this.#one(segment, segments[i + 1], survey)
    // Those behind the manifest's tail, each named by the seal of the one before.
    let last = manifest === null ? undefined : segments.at(-1)
    while (last !== undefined) {
      const before: SurveyedSegment = last
      const next = others.find(({ header }) => header?.previous?.id === before.id)
      if (next !== undefined) await this.#one(next, undefined, survey)
      last = next
    }
    if (this.#report.made.length > 0) await this.#environment.disk.syncDirectory(this.#directory)
  }

  async #one(segment: SurveyedSegment, successor: SurveyedSegment | undefined, survey: LogSurvey): Promise<void> {
    const opened = await openSurveyed(this.#environment, this.#directory, segment)
    const file = indexNameOf(segment.name)
    this.#options.onIndex?.(file)
    if (opened === null) {
      this.#report.failed.push({ file, was: 'damaged-segment' })
      return
    }
    try {
      const end = await endOf(opened, segment, successor, survey)
      if (end !== null) await this.#compare(opened, segment, end)
    } finally {
      await opened.release()
    }
  }

  async #compare(opened: OpenSegment, segment: SurveyedSegment, end: number): Promise<void> {
    const { header } = opened
    const file = indexNameOf(segment.name)
    const sum = new SegmentSum(header, null)
    const options = { from: SEGMENT_HEADER_BYTES, end, lsn: header.baseLsn, chain: header.checksum, content: false }
    for await (const frame of walkSegment(opened, options)) sum.add(frame)
    if (!sum.clean) {
      this.#report.failed.push({ file, was: 'damaged-segment' })
      return
    }
    const state = await compareIndex(this.#environment, this.#directory, segment, end, sum)
    if (state !== 'missing' && state.wrongAt === null) {
      this.#report.kept++
      return
    }
    const { chain, nextLsn, lastTimeTick } = sum
    const log = { environment: this.#environment, directory: this.#directory }
    const written = await writeIndexFile(log, segment, sum.builder, {
      position: end,
      chain,
      nextLsn: nextLsn!,
      lastTimeTick,
    })
    if (!written) throw await this.#notWritten(file)
    this.#report.made.push({ file, was: state === 'missing' ? 'missing' : 'wrong' })
  }

  async #notWritten(file: string): Promise<TidelogError> {
    const { freeBytes } = await this.#environment.disk.space(this.#directory)
    const isFull = freeBytes < 64 * 1024
    const message = `${file} could not be written${isFull ? ': the disk is full. Make room and begin again' : ''}`
    return new TidelogError(isFull ? 'DISK_FULL' : 'IO_FAILED', message, { file, retriable: isFull })
  }
}

/** Where the data of a segment ends; null: it is not finished. */
async function endOf(
  opened: OpenSegment,
  segment: SurveyedSegment,
  successor: SurveyedSegment | undefined,
  { manifest }: LogSurvey,
): Promise<number | null> {
  const previous = successor?.header?.previous
  if (previous?.id === segment.id) return previous.end
  if (manifest?.tail?.id === segment.id && manifest.tail.closed) return manifest.tail.syncedPosition
  const sealed = await readSealedEnd(opened)
  if (sealed !== null) return sealed.position
  // A seal behind which the file was not trimmed yet.
  const { header } = opened
  const start = { position: SEGMENT_HEADER_BYTES, chain: header.checksum, nextLsn: header.baseLsn, lastTimeTick: 0n }
  try {
    const { seal, end } = await scanTail(opened.file, header.salt, start)
    return seal === null ? null : end.position
  } catch (error) {
    if (error instanceof TidelogError && error.code === 'FORMAT_UNKNOWN') return null
    throw error
  }
}
