/**
 * One look at one log: every segment with the links to its neighbours, then the tail and what follows it, by the
 * decision table of the recovery. Reads, never writes.
 */
import type { Environment } from '../environment.ts'
import { segmentFileName } from '../format/file-names.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { UNINDEXED_SEGMENTS_MAX } from '../log/segment-tidying.ts'
import { scanTail, type TailPoint, type TailScan } from '../recovery/tail-scan.ts'
import { readSealedEnd } from '../segment/segment-end.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { type Finding, finding, type LogVerification, lsnRange } from './findings.ts'
import { type LogSurvey, openSurveyed, type SurveyedSegment, surveyLog } from './log-survey.ts'
import type { SegmentSum } from './segment-sum.ts'
import { fileFindings, snapshotFindings } from './verify-files.ts'
import { type FrameStretch, verifyFrames } from './verify-frames.ts'
import { checkIndexAlone, compareIndex, indexFindings } from './verify-index.ts'
import { verifyLease } from './verify-lease.ts'
import { readSeal, verifySeal } from './verify-seal.ts'
import { provenPoint, tailFindings, unnamedSuccessor } from './verify-tail.ts'

const PREVIOUS_SEGMENT_AT = 104

export class LogVerifier {
  readonly #environment: Environment
  readonly #directory: string
  readonly #findings: Finding[] = []
  #survey!: LogSurvey
  #records = 0
  #bytes = 0
  #lastLsn: number | null = null
  #provenLsn: number | null = null
  #lastTick = 0n

  constructor(environment: Environment, directory: string) {
    this.#environment = environment
    this.#directory = directory
  }

  /** Throws LOG_MISSING, IO_FAILED. */
  async run(): Promise<{ survey: LogSurvey; result: LogVerification }> {
    const survey = await surveyLog(this.#environment, this.#directory)
    this.#survey = survey
    this.#findings.push(...survey.findings)
    if (survey.writerRunning) {
      this.#add('WRITER_RUNNING', 'a process has the log open: its tail is judged up to the last proven point')
    }
    const reached = await this.#segments(survey)
    // At durability `os` the lease may be there for the LSNs alone; beside a writer it is extended meanwhile.
    const boundsTicks = survey.manifest?.durability === 'disk' && !survey.writerRunning
    const lastTick = boundsTicks ? this.#lastTick : 0n
    this.#findings.push(...(await verifyLease(this.#environment, this.#directory, lastTick)))
    this.#findings.push(...fileFindings(survey, reached), ...(await snapshotFindings(this.#environment, survey)))
    const { manifest } = survey
    const result: LogVerification = {
      path: this.#directory,
      firstLsn: manifest?.firstLsn ?? survey.segments[0]?.baseLsn ?? null,
      lastLsn: this.#lastLsn,
      provenLsn: this.#provenLsn,
      records: this.#records,
      bytes: this.#bytes,
      findings: this.#findings,
    }
    return { survey, result }
  }

  /** All segments of the log; returns the ids of those behind the manifest's tail that were reached. */
  async #segments(survey: LogSurvey): Promise<ReadonlySet<string>> {
    const reached = new Set<string>()
    const { segments, manifest } = survey
    for (const [i, segment] of segments.entries()) {
      const successor = segments[i + 1]
      if (successor !== undefined) await this.#sealed(segment, successor)
    }
    let tail = segments.at(-1)
    if (tail === undefined) return reached
    if (manifest !== null && tail.id !== manifest.tail?.id) {
      await this.#beforeMissingTail(tail, manifest.tail?.baseLsn ?? tail.baseLsn)
      return reached
    }
    let known: TailPoint | null = null
    if (manifest?.tail) {
      const { syncedPosition, chain } = manifest.tail
      known = { position: syncedPosition, chain, nextLsn: manifest.nextLsn, lastTimeTick: manifest.lastTimeTick }
    }
    let closed = manifest?.tail?.closed ?? false
    while (tail !== undefined) {
      const next: SurveyedSegment | undefined = await this.#tail(tail, known, closed)
      if (next !== undefined) reached.add(next.id)
      tail = next
      known = null
      closed = false
    }
    return reached
  }

  /** A segment with a successor: it ends where the successor says. */
  async #sealed(segment: SurveyedSegment, successor: SurveyedSegment): Promise<void> {
    const opened = await openSurveyed(this.#environment, this.#directory, segment)
    if (opened === null) return
    try {
      const previous = successor.header?.previous ?? null
      const { replaced } = opened.header
      const isNamed = previous?.id === segment.id
      const isReplacement = previous !== null && replaced !== null && previous.id === replaced.id
      const end = isNamed ? previous!.end : await this.#ownEnd(opened, segment)
      const isLinked = isNamed || isReplacement
      const endLsn = isLinked ? successor.baseLsn : (await readSealedEnd(opened))?.nextLsn
      const sum = await this.#walk(opened, segment, {
        end,
        endLsn: endLsn ?? successor.baseLsn,
        acknowledged: () => 'yes',
        boundary: null,
      })
      if (successor.header !== null && !isLinked) await this.#missingBetween(opened, segment, successor, sum)
      else if (sum.clean && isNamed && sum.chain !== previous!.chain) {
        const lsns = { lsnFrom: segment.baseLsn, lsnTo: successor.baseLsn - 1 }
        this.#add('LINK_BROKEN', `${segment.name} does not end as ${successor.name} says`, {
          file: segment.name,
          position: end,
          ...lsns,
        })
      } else if (sum.clean && isLinked && sum.nextLsn !== successor.baseLsn) {
        const message = `${segment.name} ends before LSN ${sum.nextLsn}, and ${successor.name} begins with ${successor.baseLsn}`
        const lsns = lsnRange(sum.nextLsn, successor.baseLsn)
        this.#add('LINK_BROKEN', message, { file: segment.name, position: end, ...lsns })
      }
      // A segment that was dropped empty may still be named: the header of the next one decides.
      const { isSealed, findings } = await verifySeal(opened, end, sum, null)
      this.#findings.push(...findings)
      await this.#index(opened, segment, end, sum, isSealed ? 'sealed' : 'cut')
    } finally {
      await opened.release()
    }
  }

  /** The successor names another predecessor: one or more segments between the two are gone. */
  async #missingBetween(
    opened: OpenSegment,
    segment: SurveyedSegment,
    successor: SurveyedSegment,
    sum: SegmentSum,
  ): Promise<void> {
    const sealed = await readSealedEnd(opened)
    const from = sum.nextLsn ?? sealed?.nextLsn ?? segment.baseLsn
    const previousId = successor.header?.previous?.id
    const nextId = sealed === null ? null : (await readSeal(opened, sealed.position))?.nextSegmentId
    // The seal names what followed, if it was known then; an index that is still there has the name, too.
    const left = this.#survey.names.find((name) => previousId !== undefined && name.endsWith(`-${previousId}.idx`))
    const file = nextId != null ? segmentFileName(from, nextId) : (left?.replace(/idx$/, 'seg') ?? null)
    const which = previousId === undefined ? '' : `, the last of it ${previousId}`
    const message = `what lies between ${segment.name} and ${successor.name} is missing${which}`
    const place = file === null ? { file: successor.name, position: PREVIOUS_SEGMENT_AT } : { file, position: null }
    this.#add('SEGMENT_MISSING', message, { ...place, ...lsnRange(from, successor.baseLsn) })
  }

  /** The last segment that is there, when the tail that the manifest names is not. */
  async #beforeMissingTail(segment: SurveyedSegment, tailLsn: number): Promise<void> {
    const opened = await openSurveyed(this.#environment, this.#directory, segment)
    if (opened === null) return
    try {
      const end = await this.#ownEnd(opened, segment)
      const walk: FrameStretch = { end, endLsn: tailLsn, acknowledged: () => 'yes', boundary: null }
      const sum = await this.#walk(opened, segment, walk)
      const { isSealed, findings } = await verifySeal(opened, end, sum, null)
      this.#findings.push(...findings)
      await this.#index(opened, segment, end, sum, isSealed ? 'sealed' : 'cut')
      if (sum.nextLsn !== undefined && sum.nextLsn < tailLsn) {
        const message = `what lies between ${segment.name} and LSN ${tailLsn} is missing`
        this.#add('SEGMENT_MISSING', message, lsnRange(sum.nextLsn, tailLsn))
      }
    } finally {
      await opened.release()
    }
  }

  /** The last segment. Returns the one behind it when a seal names it and it is there. */
  async #tail(
    segment: SurveyedSegment,
    known: TailPoint | null,
    closed: boolean,
  ): Promise<SurveyedSegment | undefined> {
    const opened = await openSurveyed(this.#environment, this.#directory, segment)
    if (opened === null) return undefined
    try {
      const { header } = opened
      const start = known ?? {
        position: SEGMENT_HEADER_BYTES,
        chain: header.checksum,
        nextLsn: header.baseLsn,
        lastTimeTick: header.baseTimeTick === 0n ? 0n : header.baseTimeTick - 1n,
      }
      const scan = await this.#scan(opened, segment, start)
      if (scan === null) return undefined
      const end = closed ? start : scan.end
      const proven = closed ? start : scan.seal !== null ? scan.end : provenPoint(this.#survey, segment, scan)
      // Beside a writer, what is not proven may be half written.
      const walkEnd = this.#survey.writerRunning ? proven : end
      const sum = await this.#walk(opened, segment, {
        end: walkEnd.position,
        endLsn: walkEnd.nextLsn,
        acknowledged: (frame) => (frame.position < proven.position ? 'yes' : 'unknown'),
        boundary: known,
      })
      this.#lastLsn = walkEnd.nextLsn > 0 ? walkEnd.nextLsn - 1 : null
      this.#provenLsn = proven.nextLsn > 0 ? proven.nextLsn - 1 : null
      if (sum.clean && known !== null && !sum.boundaryMet) {
        const message = `${segment.name} does not have the frame that the manifest says was synced before position ${start.position}`
        const place = { file: segment.name, position: start.position, ...lsnRange(segment.baseLsn, start.nextLsn) }
        this.#add('TAIL_DAMAGED', message, place)
      }
      if (!this.#survey.writerRunning) {
        const isNamed = closed || scan.seal !== null
        const successor = isNamed ? null : await unnamedSuccessor(this.#environment, this.#survey, segment, scan)
        this.#findings.push(...tailFindings(segment, scan, { end, proven, closed }, successor))
      }
      const sealedHere = scan.seal !== null && scan.end.position === end.position
      if (sealedHere || closed) {
        const { isSealed, findings } = await verifySeal(opened, end.position, sum, scan.seal?.nextSegmentId ?? null)
        this.#findings.push(...findings)
        await this.#index(opened, segment, end.position, sum, isSealed ? 'sealed' : 'cut')
      } else await this.#index(opened, segment, end.position, sum, 'unfinished')
      const next = sealedHere ? scan.seal!.nextSegmentId : null
      const behind = this.#survey.others.find(({ id }) => id === next)
      if (behind === undefined || behind.header?.previous?.id === segment.id) return behind
      const message = `${behind.name} is named by the seal of ${segment.name} and does not follow it`
      const code = behind.standing === 'damaged' ? 'SEGMENT_HEADER_DAMAGED' : 'LINK_BROKEN'
      this.#add(code, message, { file: behind.name, position: 0, lsnFrom: end.nextLsn })
      return undefined
    } finally {
      await opened.release()
    }
  }

  async #scan(opened: OpenSegment, segment: SurveyedSegment, start: TailPoint): Promise<TailScan | null> {
    try {
      return await scanTail(opened.file, opened.header.salt, start)
    } catch (error) {
      if (!(error instanceof Error) || (error as { code?: string }).code !== 'FORMAT_UNKNOWN') throw error
      this.#add('FORMAT_UNKNOWN', error.message, { file: segment.name, acknowledged: 'unknown' })
      return null
    }
  }

  /** Every frame up to the end. */
  async #walk(opened: OpenSegment, segment: SurveyedSegment, stretch: FrameStretch): Promise<SegmentSum> {
    const firstLsn = this.#survey.manifest?.firstLsn ?? 0
    const { sum, findings, records, lastLsn } = await verifyFrames(opened, segment, stretch, firstLsn)
    this.#findings.push(...findings)
    this.#bytes += Math.max(0, Math.min(stretch.end, segment.bytes))
    this.#records += records
    this.#lastLsn = lastLsn ?? this.#lastLsn
    if (sum.lastTimeTick > this.#lastTick) this.#lastTick = sum.lastTimeTick
    return sum
  }

  /** Where a segment ends by its own seal or, without one, where its frames end. */
  async #ownEnd(opened: OpenSegment, segment: SurveyedSegment): Promise<number> {
    return (await readSealedEnd(opened))?.position ?? segment.bytes
  }

  /**
   * A crash between seals and indexes leaves the newest sealed segments of a log that was not closed without, and a power
   * loss may take the name of an index that was written: the next roll is the first to sync the directory behind it. An
   * owner that finds such a log calls its tail closed before it makes what is missing.
   */
  #mayLackIndex(segment: SurveyedSegment): boolean {
    const { manifest, segments, others } = this.#survey
    if (manifest?.tail == null) return false
    const { id, closed } = manifest.tail
    const tail = segments.find((known) => known.id === id)?.header
    const byItsWriter = tail?.ownerTerm === manifest.ownerTerm && tail.incarnation === manifest.incarnation
    if (closed && byItsWriter) return false
    const newest = [...segments, ...others].slice(-UNINDEXED_SEGMENTS_MAX - 1)
    return newest.some(({ id }) => id === segment.id)
  }

  /** `cut`: it may have an index, but need not. `unfinished`: it has none, unless a crash came just behind it. */
  async #index(
    opened: OpenSegment,
    segment: SurveyedSegment,
    end: number,
    sum: SegmentSum,
    life: 'sealed' | 'cut' | 'unfinished',
  ): Promise<void> {
    const environment = this.#environment
    // A writer at work makes it a moment after the seal.
    if (life === 'unfinished' && this.#survey.writerRunning) return
    const state =
      sum.clean && life !== 'unfinished'
        ? await compareIndex(environment, this.#directory, segment, end, sum)
        : await checkIndexAlone(environment, this.#directory, segment, opened.header.salt)
    if (state === 'missing' && (life !== 'sealed' || this.#survey.writerRunning)) return
    this.#findings.push(...indexFindings(state, segment, sum.nextLsn, this.#mayLackIndex(segment)))
  }

  #add(...args: Parameters<typeof finding>): Finding {
    const made = finding(...args)
    this.#findings.push(made)
    return made
  }
}
