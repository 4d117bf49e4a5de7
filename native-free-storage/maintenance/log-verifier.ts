/**
 * One look at one log: every segment with the links to its neighbours, then the tail and what follows it, by the
 * decision table of the recovery. Reads, never writes.
 */
import type { Environment } from '../environment.ts'
import { parseManifestFileName, parseSegmentFileName, segmentFileName } from '../format/file-names.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { parseSnapshotFileName } from '../format/snapshot.ts'
import { isCompanionName, QUARANTINE } from '../log/companion-names.ts'
import { UNINDEXED_SEGMENTS_MAX } from '../log/segment-tidying.ts'
import { readSnapshotFile } from '../log/snapshot-files.ts'
import { classifyTail } from '../recovery/classify.ts'
import { holdsFrame, pointNamed, scanTail, type TailPoint, type TailScan } from '../recovery/tail-scan.ts'
import { readSealedEnd } from '../segment/segment-end.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { type Acknowledged, type Finding, finding, type LogVerification } from './findings.ts'
import { type LogSurvey, openSurveyed, type SurveyedSegment, strayFindings, surveyLog } from './log-survey.ts'
import { SegmentSum } from './segment-sum.ts'
import { type WalkedFrame, walkSegment } from './segment-walk.ts'
import { checkIndexAlone, compareIndex, indexFindings } from './verify-index.ts'
import { verifyLease } from './verify-lease.ts'
import { readSeal, verifySeal } from './verify-seal.ts'

const PREVIOUS_SEGMENT_AT = 104

interface Walk {
  end: number
  /** The LSN behind the end. */
  endLsn: number
  acknowledged: (frame: WalkedFrame) => Acknowledged
  boundary: TailPoint | null
}

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
    this.#files(survey, reached)
    await this.#snapshots(survey)
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
      const walk: Walk = { end, endLsn: tailLsn, acknowledged: () => 'yes', boundary: null }
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
      const proven = closed ? start : scan.seal !== null ? scan.end : this.#provenPoint(segment, scan)
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
        const isTorn = classifyTail(scan.evidence).verdict === 'torn'
        const successor = closed || scan.seal !== null ? null : await this.#unnamedSuccessor(segment, scan.end, isTorn)
        this.#judgeTail(segment, scan, end, proven, closed, successor)
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

  /** A segment gets its name only when the one before it is durable up to the end that it names. */
  #provenPoint(segment: SurveyedSegment, scan: TailScan): TailPoint {
    let proven = scan.proven
    for (const { header } of this.#survey.others) {
      if (header?.previous?.id !== segment.id) continue
      const named = pointNamed(scan.unproven, scan.proven, header.previous)
      if (named !== null && named.point.position > proven.position) proven = named.point
    }
    return proven
  }

  /** A segment that says that the tail was durable beyond its end, or that goes on at its very end, though no seal names it. */
  async #unnamedSuccessor(tail: SurveyedSegment, end: TailPoint, isTorn: boolean): Promise<SurveyedSegment | null> {
    for (const other of this.#survey.others) {
      const previous = other.header?.previous
      if (previous?.id !== tail.id || previous.end < end.position) continue
      if (previous.end > end.position) return other
      if (!isTorn || previous.chain !== end.chain) continue
      const opened = await openSurveyed(this.#environment, this.#directory, other)
      if (opened === null) continue
      try {
        if (await holdsFrame(opened)) return other
      } finally {
        await opened.release()
      }
    }
    return null
  }

  /** What the bytes behind the last valid frame mean, by the table of the recovery. */
  #judgeTail(
    segment: SurveyedSegment,
    scan: TailScan,
    end: TailPoint,
    proven: TailPoint,
    closed: boolean,
    successor: SurveyedSegment | null,
  ): void {
    const { verdict, because } = classifyTail(scan.evidence)
    const file = segment.name
    const place = { file, position: scan.end.position, ...lsnRange(scan.end.nextLsn, scan.nextLsnBehind) }
    if (successor?.header != null && verdict !== 'damaged') {
      const lsns = lsnRange(scan.end.nextLsn, Math.max(scan.end.nextLsn, successor.header.baseLsn))
      const message = `${file} ends at position ${scan.end.position}, and ${successor.name} was begun when it was durable up to there or beyond`
      this.#add('TAIL_DAMAGED', message, { ...place, ...lsns })
    } else if (verdict === 'damaged') {
      this.#add('TAIL_DAMAGED', `${file} ends at position ${scan.end.position}: ${because}`, place)
    } else if (verdict === 'torn' && !closed) {
      this.#add('TAIL_TORN', `${file}, position ${scan.end.position}: ${because}`, { ...place, acknowledged: 'no' })
    }
    if (end.nextLsn > proven.nextLsn) {
      const message = `LSN ${proven.nextLsn} to ${end.nextLsn - 1} are there and cannot be proven to be all`
      const lsns = lsnRange(proven.nextLsn, end.nextLsn)
      this.#add('TAIL_UNPROVEN', message, { file, position: proven.position, ...lsns, acknowledged: 'unknown' })
    }
  }

  /** Every frame up to the end. */
  async #walk(opened: OpenSegment, segment: SurveyedSegment, walk: Walk): Promise<SegmentSum> {
    const { header } = opened
    const sum = new SegmentSum(header, walk.boundary)
    const firstLsn = this.#survey.manifest?.firstLsn ?? 0
    this.#bytes += Math.max(0, Math.min(walk.end, segment.bytes))
    const frames = walkSegment(opened, {
      from: SEGMENT_HEADER_BYTES,
      end: walk.end,
      lsn: header.baseLsn,
      chain: header.checksum,
      content: true,
    })
    let damage: Finding | undefined
    for await (const frame of frames) {
      if (damage !== undefined && frame.header !== null) damage = endDamage(damage, frame.header.baseLsn)
      sum.add(frame)
      const count = frame.header?.recordCount ?? 0
      if (frame.faults.length === 0 && frame.header !== null) {
        this.#records += Math.max(0, count - Math.max(0, firstLsn - frame.header.baseLsn))
        if (count > 0) this.#lastLsn = frame.header.baseLsn + count - 1
      } else damage = this.#damaged(segment, frame, walk.acknowledged(frame))
      if (frame.paddingFault) {
        const message = `padding of the frame at position ${frame.position} of ${segment.name} is not zero`
        const place = { file: segment.name, position: frame.paddingFaultAt }
        // A write that was under way can leave anything there; the next open copies the frame without it.
        if (walk.acknowledged(frame) === 'yes') this.#add('PADDING_NOT_ZERO', message, place)
        else this.#add('TAIL_TORN', message, { ...place, acknowledged: 'unknown' })
      }
      if (frame.gap?.reason === 'lost') this.#lostBefore(segment, frame)
    }
    if (damage !== undefined) endDamage(damage, walk.endLsn)
    if (sum.lastTimeTick > this.#lastTick) this.#lastTick = sum.lastTimeTick
    return sum
  }

  #lostBefore(segment: SurveyedSegment, { header, gap, position }: WalkedFrame): void {
    const lsns = lsnRange(header!.baseLsn, header!.baseLsn + gap!.count)
    const message = `LSN ${lsns.lsnFrom} to ${lsns.lsnTo} were lost before, and a gap says so`
    this.#add('GAP_LOST', message, { file: segment.name, position, ...lsns, acknowledged: 'yes' })
  }

  #damaged(segment: SurveyedSegment, frame: WalkedFrame, acknowledged: Acknowledged): Finding {
    const { position, header } = frame
    const lsnFrom = frame.expectedLsn ?? header?.baseLsn ?? null
    // How many LSNs a gap skips stands in its body: the next frame tells.
    const lsnTo = header === null || header.recordCount === 0 ? null : header.baseLsn + header.recordCount - 1
    const message = `the frame at position ${position} of ${segment.name} is damaged: ${frame.faults.join('; ')}`
    const place = { file: segment.name, position, lsnFrom, lsnTo, acknowledged }
    if (frame.unknownFormat) return this.#add('FORMAT_UNKNOWN', message, { ...place, acknowledged: 'unknown' })
    // What is not proven may have been torn: a valid header whose body never reached the disk.
    return this.#add(acknowledged === 'yes' ? 'FRAME_DAMAGED' : 'TAIL_TORN', message, place)
  }

  /** Where a segment ends by its own seal or, without one, where its frames end. */
  async #ownEnd(opened: OpenSegment, segment: SurveyedSegment): Promise<number> {
    return (await readSealedEnd(opened))?.position ?? segment.bytes
  }

  /**
   * A crash between seals and indexes leaves the newest sealed segments of a log that was not closed without, and a power
   * loss may take the name of an index that was written: the next roll is the first to sync the directory behind it.
   */
  #mayLackIndex(segment: SurveyedSegment): boolean {
    const { manifest, segments, others } = this.#survey
    if (manifest?.tail == null || manifest.tail.closed) return false
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

  #files(survey: LogSurvey, reached: ReadonlySet<string>): void {
    this.#findings.push(...strayFindings(survey, reached))
    const stems = new Set([...survey.segments, ...survey.others].map(({ name }) => name.slice(0, -4)))
    const newest = survey.generations.at(-1)
    for (const name of survey.names) {
      // Names come and go beside a writer.
      if (survey.writerRunning || parseSegmentFileName(name) !== null || isCompanionName(name)) continue
      if (name.endsWith('.idx') && stems.has(name.slice(0, -4))) continue
      const generation = parseManifestFileName(name)
      if (generation !== null && generation === newest) continue
      if (parseSnapshotFileName(name) !== null) continue
      const what =
        generation === null ? 'is not part of the log' : 'was left behind when a later manifest was published'
      this.#add('FILE_STRAY', `${name} ${what}`, { file: name })
    }
    for (const name of survey.quarantined) {
      const file = `${QUARANTINE}/${name}`
      this.#add('FILES_QUARANTINED', `${file} was found and is not part of the log`, { file, acknowledged: 'unknown' })
    }
  }

  /** Names come and go beside a writer. */
  async #snapshots({ names, writerRunning }: LogSurvey): Promise<void> {
    for (const name of writerRunning ? [] : names) {
      const lsn = parseSnapshotFileName(name)
      if (lsn === null) continue
      const found = await readSnapshotFile(this.#environment, `${this.#directory}/${name}`)
      if (found !== null && found.header.lsn === lsn) continue
      this.#add('SNAPSHOT_DAMAGED', `the snapshot ${name} is damaged, or of a later version: it is passed over`, {
        file: name,
      })
    }
  }

  #add(...args: Parameters<typeof finding>): Finding {
    const made = finding(...args)
    this.#findings.push(made)
    return made
  }
}

/** From the first LSN to the one before `behind`; no LSN is concerned when there is none. */
function lsnRange(from: number | undefined, behind: number): { lsnFrom: number | null; lsnTo: number | null } {
  if (from === undefined || behind <= from) return { lsnFrom: from ?? null, lsnTo: null }
  return { lsnFrom: from, lsnTo: behind - 1 }
}

/** What a bad header stood for ends before the next LSN that is known. */
function endDamage(damage: Finding, nextLsn: number): undefined {
  if (damage.lsnTo === null && damage.lsnFrom !== null && nextLsn > damage.lsnFrom) damage.lsnTo = nextLsn - 1
  return undefined
}
