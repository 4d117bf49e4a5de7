/**
 * Checks a log as it stands on disk, also beside a daemon that has it open: names, manifest, headers and the links
 * between them, every frame with its body, sections and node section, padding, seals, indexes, the lease, and files
 * that do not belong. Reads, never writes.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { hash64, loadChecksum } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeFrameHeader, FRAME_HEADER_BYTES, FrameKind, lastTickOf } from '../format/frame-header.ts'
import { isAllZero } from '../format/integers.ts'
import { decodeLeaseSlot, LEASE_BYTES, LEASE_SLOT_BYTES } from '../format/lease.ts'
import { decodeSeal, SEAL_BODY_BYTES, type Seal } from '../format/seal.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { classifyTail } from '../recovery/classify.ts'
import { scanTail, type TailPoint, type TailScan } from '../recovery/tail-scan.ts'
import { encodeIndex, indexNameOf } from '../segment/index-file.ts'
import { type OpenSegment, readAt } from '../segment/segment-file.ts'
import { SegmentIndexBuilder } from '../segment/sparse-index.ts'
import { type Acknowledged, type Finding, finding, type LogVerification, type Verification } from './findings.ts'
import { isLogDirectory, type LogSurvey, namesIn, openSurveyed, type SurveyedSegment, surveyLog } from './log-survey.ts'
import { type WalkedFrame, walkSegment } from './segment-walk.ts'

/** Attempts beside a daemon that publishes a manifest meanwhile. */
const ATTEMPTS_MAX = 3
/** How deep a data directory is searched for logs. */
const DEPTH_MAX = 4
const NOT_LOGS = new Set(['pool', 'quarantine'])

/** The directories of the logs in `path`, itself included. Throws IO_FAILED. */
export async function findLogs(environment: Environment, path: string, depth = 0): Promise<string[]> {
  const names = await namesIn(environment, path)
  if (names === null) return []
  if (isLogDirectory(names)) return [path]
  if (depth === DEPTH_MAX) return []
  const found: string[] = []
  for (const name of names.sort()) {
    if (!NOT_LOGS.has(name)) found.push(...(await findLogs(environment, `${path}/${name}`, depth + 1)))
  }
  return found
}

/** Verifies every log in `path`: one log's directory, or a data directory. Throws IO_FAILED. */
export async function verify(environment: Environment, path: string): Promise<Verification> {
  const logs: LogVerification[] = []
  for (const directory of await findLogs(environment, path)) logs.push(await verifyLog(environment, directory))
  return { clean: logs.every((log) => log.findings.every(({ severity }) => severity === 'info')), logs }
}

/** Throws LOG_MISSING, IO_FAILED. */
export async function verifyLog(environment: Environment, directory: string): Promise<LogVerification> {
  for (let attempt = 1; ; attempt++) {
    const { survey, result } = await new Verifier(environment, directory).run()
    const sound = result.findings.every(({ severity }) => severity === 'info')
    if (sound || !survey.writerRunning || attempt === ATTEMPTS_MAX) return result
    // Files that vanish and segments that end elsewhere are what a writer at work looks like: look again.
    const names = (await namesIn(environment, directory)) ?? []
    if (survey.names.length === names.length && names.every((name) => survey.names.includes(name))) return result
  }
}

/** The lease in `directory`, of a log or of a data directory; nothing when there is none. Throws IO_FAILED. */
export async function verifyLease(environment: Environment, directory: string): Promise<Finding[]> {
  await loadChecksum()
  const file = 'LEASE'
  const bytes = await readWhole(environment, `${directory}/${file}`)
  const findings: Finding[] = []
  if (bytes === null) return findings
  for (let at = 0; at < LEASE_BYTES; at += LEASE_SLOT_BYTES) {
    const slot = bytes.subarray(at, at + LEASE_SLOT_BYTES)
    if (isAllZero(slot, 0, slot.length)) continue
    if (decodeLeaseSlot(slot) !== null && isAllZero(slot, 56, slot.length)) continue
    findings.push(
      finding('LEASE_DAMAGED', `the slot at position ${at} of the lease is damaged`, { file, position: at }),
    )
  }
  return findings
}

/** Null: there is no such file. */
async function readWhole(environment: Environment, path: string): Promise<Buffer | null> {
  try {
    const file = await environment.disk.open(path, 'read')
    try {
      const bytes = Buffer.alloc(await file.size())
      return bytes.subarray(0, await file.read(bytes, 0, bytes.length, 0))
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return null
    throw error
  }
}

interface SegmentResult {
  nextLsn: number | undefined
  chain: bigint | undefined
  lastTimeTick: bigint
}

class Verifier {
  readonly #environment: Environment
  readonly #directory: string
  readonly #findings: Finding[] = []
  #survey!: LogSurvey
  #records = 0
  #bytes = 0
  #lastLsn: number | null = null
  #provenLsn: number | null = null

  constructor(environment: Environment, directory: string) {
    this.#environment = environment
    this.#directory = directory
  }

  async run(): Promise<{ survey: LogSurvey; result: LogVerification }> {
    const survey = await surveyLog(this.#environment, this.#directory)
    this.#survey = survey
    this.#findings.push(...survey.findings)
    if (survey.writerRunning) {
      this.#add('WRITER_RUNNING', 'a process has the log open: its tail is judged up to the last proven point')
    }
    const reached = await this.#segments(survey)
    this.#findings.push(...(await verifyLease(this.#environment, this.#directory)))
    this.#files(survey, reached)
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
    if (tail === undefined || (manifest !== null && tail.id !== manifest.tail?.id)) return reached
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
      let end = isNamed ? previous!.end : null
      if (end === null) end = await this.#ownEnd(opened, segment)
      if (successor.header !== null && !isNamed && !isReplacement) {
        const lsnTo = successor.baseLsn - 1
        const message = `${successor.name} does not follow ${segment.name}: what lies between is missing`
        this.#add('SEGMENT_MISSING', message, { file: successor.name, position: 104, lsnFrom: segment.baseLsn, lsnTo })
      }
      const walked = await this.#walk(opened, segment, end, successor.baseLsn, () => 'yes')
      const complete = walked.clean
      if (complete && isNamed && walked.chain !== previous!.chain) {
        this.#add('LINK_BROKEN', `${segment.name} does not end as ${successor.name} says`, {
          file: segment.name,
          position: end,
        })
      } else if (complete && (isNamed || isReplacement) && walked.nextLsn !== successor.baseLsn) {
        const message = `${segment.name} ends before LSN ${walked.nextLsn}, and ${successor.name} begins with ${successor.baseLsn}`
        const lsns = [walked.nextLsn ?? successor.baseLsn, successor.baseLsn].sort((a, b) => a - b)
        this.#add('LINK_BROKEN', message, { file: segment.name, position: end, lsnFrom: lsns[0]!, lsnTo: lsns[1]! - 1 })
      }
      // The successor's own header is what links the two: a seal may name a segment that was dropped empty, after a
      // crash or a cut right behind the roll, before this successor was begun in its place.
      const isSealed = await this.#seal(opened, segment, end, walked, isNamed ? null : successor.id)
      if (complete) await this.#index(segment, end, walked, isSealed)
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
      const proven = closed ? start : scan.seal !== null ? scan.end : scan.proven
      // Beside a writer, what is not proven may be half written.
      const walkEnd = this.#survey.writerRunning ? proven : end
      const walked = await this.#walk(
        opened,
        segment,
        Math.min(walkEnd.position, scan.fileBytes),
        walkEnd.nextLsn,
        (frame) => (frame.nextPosition <= proven.position ? 'yes' : 'unknown'),
      )
      this.#lastLsn = walkEnd.nextLsn > 0 ? walkEnd.nextLsn - 1 : null
      this.#provenLsn = proven.nextLsn > 0 ? proven.nextLsn - 1 : null
      if (walked.clean && known !== null && !walked.boundaries(start)) {
        const message = `${segment.name} does not have the frame that the manifest says was synced before position ${start.position}`
        this.#add('TAIL_DAMAGED', message, { file: segment.name, position: start.position })
      }
      if (!this.#survey.writerRunning) this.#judgeTail(segment, scan, end, proven, closed)
      const sealedHere = scan.seal !== null && scan.end.position === end.position
      const isSealed =
        sealedHere || closed
          ? await this.#seal(opened, segment, end.position, walked, scan.seal?.nextSegmentId ?? null)
          : false
      if (isSealed && walked.clean) await this.#index(segment, end.position, walked, true)
      const next = sealedHere ? scan.seal!.nextSegmentId : null
      const successor = this.#survey.others.find(
        ({ id, header: other }) => id === next && other?.previous?.id === segment.id,
      )
      return successor
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

  /** What the bytes behind the last valid frame mean, by the table of the recovery. */
  #judgeTail(segment: SurveyedSegment, scan: TailScan, end: TailPoint, proven: TailPoint, closed: boolean): void {
    const { verdict, because } = classifyTail(scan.evidence)
    const file = segment.name
    const lsnTo = scan.nextLsnBehind > scan.end.nextLsn ? scan.nextLsnBehind - 1 : null
    const place = { file, position: scan.end.position, lsnFrom: scan.end.nextLsn, lsnTo }
    if (verdict === 'damaged') {
      this.#add('TAIL_DAMAGED', `${file} ends at position ${scan.end.position}: ${because}`, place)
    } else if (verdict === 'torn' && !closed) {
      this.#add('TAIL_TORN', `${file}, position ${scan.end.position}: ${because}`, { ...place, acknowledged: 'no' })
    }
    if (end.nextLsn > proven.nextLsn) {
      const message = `LSN ${proven.nextLsn} to ${end.nextLsn - 1} are there and cannot be proven to be all`
      const lsns = { lsnFrom: proven.nextLsn, lsnTo: end.nextLsn - 1 }
      this.#add('TAIL_UNPROVEN', message, { file, position: proven.position, ...lsns, acknowledged: 'unknown' })
    }
  }

  /** Every frame up to `end`. */
  async #walk(
    opened: OpenSegment,
    segment: SurveyedSegment,
    end: number,
    endLsn: number,
    acknowledged: (frame: WalkedFrame) => Acknowledged,
  ): Promise<Walked> {
    const { header } = opened
    const walked = new Walked(header.salt, header.baseLsn, header.checksum)
    const firstLsn = this.#survey.manifest?.firstLsn ?? 0
    this.#bytes += Math.max(0, end)
    const walk = walkSegment(opened, {
      from: SEGMENT_HEADER_BYTES,
      end,
      lsn: header.baseLsn,
      chain: header.checksum,
      content: true,
    })
    let damage: Finding | undefined
    for await (const frame of walk) {
      if (damage !== undefined && damage.lsnTo === null && frame.header !== null) {
        damage.lsnTo = Math.max(damage.lsnFrom ?? 0, frame.header.baseLsn - 1)
      }
      damage = undefined
      walked.add(frame)
      const count = frame.header?.recordCount ?? 0
      if (frame.faults.length === 0 && frame.header !== null) {
        this.#records += Math.max(0, count - Math.max(0, firstLsn - frame.header.baseLsn))
        if (count > 0) this.#lastLsn = frame.header.baseLsn + count - 1
      } else damage = this.#damaged(segment, frame, acknowledged(frame))
      if (frame.paddingFault) {
        const message = `padding of the frame at position ${frame.position} of ${segment.name} is not zero`
        const place = { file: segment.name, position: frame.position }
        // A write that was under way can leave anything there; the next open copies the frame without it.
        if (acknowledged(frame) === 'yes') this.#add('PADDING_NOT_ZERO', message, place)
        else this.#add('TAIL_TORN', message, { ...place, acknowledged: 'unknown' })
      }
      if (frame.gap?.reason === 'lost') {
        const lsnFrom = frame.header!.baseLsn
        const lsns = { lsnFrom, lsnTo: lsnFrom + frame.gap.count - 1 }
        const message = `LSN ${lsns.lsnFrom} to ${lsns.lsnTo} were lost before, and a gap says so`
        this.#add('GAP_LOST', message, { file: segment.name, position: frame.position, ...lsns, acknowledged: 'yes' })
      }
    }
    if (damage !== undefined && damage.lsnTo === null) damage.lsnTo = Math.max(damage.lsnFrom ?? 0, endLsn - 1)
    return walked
  }

  #damaged(segment: SurveyedSegment, frame: WalkedFrame, acknowledged: Acknowledged): Finding {
    const { position, header } = frame
    const lsnFrom = frame.expectedLsn ?? header?.baseLsn ?? null
    const lsnTo = header === null ? null : header.baseLsn + Math.max(1, header.recordCount) - 1
    const message = `the frame at position ${position} of ${segment.name} is damaged: ${frame.faults.join('; ')}`
    const place = { file: segment.name, position, lsnFrom, lsnTo, acknowledged }
    if (frame.unknownFormat) return this.#add('FORMAT_UNKNOWN', message, { ...place, acknowledged: 'unknown' })
    // What is not proven may have been torn: a valid header whose body never reached the disk.
    return this.#add(acknowledged === 'yes' ? 'FRAME_DAMAGED' : 'TAIL_TORN', message, place)
  }

  /** Where a segment ends by its own seal or, without one, where its frames end. */
  async #ownEnd(opened: OpenSegment, segment: SurveyedSegment): Promise<number> {
    const position = segment.bytes - opened.header.alignment
    const seal = await readSeal(opened, position)
    return seal === null ? segment.bytes : position
  }

  /** The seal at `end`, and what stands behind it. False: there is none, and there need not be. */
  async #seal(
    opened: OpenSegment,
    segment: SurveyedSegment,
    end: number,
    walked: Walked,
    nextId: string | null,
  ): Promise<boolean> {
    const { alignment } = opened.header
    const file = segment.name
    const size = await opened.file.size()
    const sealEnd = Math.min(size, end + alignment)
    const bytes = Buffer.alloc(Math.max(0, sealEnd - end))
    await readAt(opened.file, segment, bytes, 0, bytes.length, end)
    const seal = await readSeal(opened, end)
    if (seal === null) {
      if (isAllZero(bytes, 0, bytes.length)) return false
      const wasSeal = looksLikeSeal(bytes, end)
      const place = { file, position: end }
      if (wasSeal) this.#add('SEAL_DAMAGED', `the seal of ${file} at position ${end} is damaged`, place)
      else this.#add('BYTES_BEYOND_CUT', `${file} was cut at position ${end}; what stands behind is never read`, place)
      return wasSeal
    }
    if (!isAllZero(bytes, 96 + 88, bytes.length)) {
      this.#add('PADDING_NOT_ZERO', `padding of the seal of ${file} is not zero`, { file, position: end })
    }
    const { header } = opened
    const fits =
      seal.end === end &&
      seal.salt === header.salt &&
      seal.firstLsn === header.baseLsn &&
      (!walked.clean ||
        (seal.chain === walked.chain &&
          seal.nextLsn === walked.nextLsn &&
          seal.frames === walked.frames &&
          seal.records === walked.records &&
          seal.firstTimeTick === walked.firstTimeTick &&
          seal.lastTimeTick === walked.lastTimeTick)) &&
      (seal.nextSegmentId === null || nextId === null || seal.nextSegmentId === nextId || header.replaced !== null)
    if (!fits)
      this.#add('SEAL_DAMAGED', `the seal of ${file} says other things than its frames`, { file, position: end })
    await this.#behind(opened, segment, sealEnd, size)
    return true
  }

  async #behind(opened: OpenSegment, segment: SurveyedSegment, from: number, size: number): Promise<void> {
    const chunk = Buffer.alloc(1024 * 1024)
    for (let at = from; at < size; at += chunk.length) {
      const length = await readAt(opened.file, segment, chunk, 0, Math.min(chunk.length, size - at), at)
      if (isAllZero(chunk, 0, length)) continue
      const place = { file: segment.name, position: at }
      this.#add('BYTES_BEYOND_CUT', `bytes stand behind the seal of ${segment.name}; they are never read`, place)
      return
    }
  }

  /** A crash between the seal and the index leaves the newest sealed segment of a log that was not closed without one. */
  #mayLackIndex(segment: SurveyedSegment): boolean {
    const { manifest, segments, others } = this.#survey
    if (manifest?.tail == null || manifest.tail.closed) return false
    const newest = [...segments, ...others].slice(-2)
    return newest.some(({ id }) => id === segment.id)
  }

  /** The index has to be byte for byte what a look at every frame makes. */
  async #index(segment: SurveyedSegment, end: number, walked: Walked, isSealed: boolean): Promise<void> {
    const file = indexNameOf(segment.name)
    const stored = await readWhole(this.#environment, `${this.#directory}/${file}`)
    if (stored === null) {
      // A writer at work makes it a moment after the seal; a segment that was cut need not have one.
      if (isSealed && !this.#survey.writerRunning) {
        if (this.#mayLackIndex(segment)) this.#add('INDEX_PENDING', `the index ${file} was not made yet`, { file })
        else this.#add('INDEX_MISSING', `the index ${file} is missing`, { file })
      }
      return
    }
    const { chain, nextLsn, lastTimeTick } = walked
    const expected = encodeIndex(walked.builder, segment.id, { position: end, chain, nextLsn: nextLsn!, lastTimeTick })
    if (!stored.equals(expected)) {
      this.#add('INDEX_WRONG', `the index ${file} says other things than its segment, or is damaged`, { file })
    }
  }

  #files(survey: LogSurvey, reached: ReadonlySet<string>): void {
    for (const { name, id } of survey.others) {
      if (!reached.has(id)) this.#add('FILE_STRAY', `${name} is not part of the log`, { file: name })
    }
    if (!survey.writerRunning) {
      for (const name of survey.names) {
        if (name.endsWith('.tmp'))
          this.#add('FILE_STRAY', `${name} was left behind and is not part of the log`, { file: name })
      }
    }
    for (const name of survey.quarantined) {
      const file = `quarantine/${name}`
      this.#add('FILES_QUARANTINED', `${file} was found and is not part of the log`, { file, acknowledged: 'unknown' })
    }
  }

  #add(...args: Parameters<typeof finding>): Finding {
    const made = finding(...args)
    this.#findings.push(made)
    return made
  }
}

/** What the frames of a segment add up to. */
class Walked implements SegmentResult {
  readonly builder: SegmentIndexBuilder
  frames = 0
  records = 0
  firstTimeTick = 0n
  lastTimeTick = 0n
  chain: bigint
  nextLsn: number | undefined
  /** No frame had a fault. */
  clean = true
  readonly #chains = new Map<number, bigint>()

  constructor(salt: bigint, baseLsn: number, chain: bigint) {
    this.builder = new SegmentIndexBuilder(salt)
    this.chain = chain
    this.nextLsn = baseLsn
    this.#chains.set(SEGMENT_HEADER_BYTES, chain)
  }

  add(frame: WalkedFrame): void {
    const { header } = frame
    if (header === null || frame.faults.length > 0) {
      this.clean = false
      return
    }
    this.frames++
    this.records += header.recordCount
    this.chain = header.checksum
    this.nextLsn = frame.nextLsn
    this.#chains.set(frame.nextPosition, header.checksum)
    if (header.kind === FrameKind.records && this.firstTimeTick === 0n) this.firstTimeTick = header.baseTimeTick
    if (header.kind === FrameKind.records || header.kind === FrameKind.timeTick) this.lastTimeTick = lastTickOf(header)
    const { position, baseLsn, baseTimeTick, recordCount, kind } = header
    this.builder.addFrame({
      position,
      baseLsn,
      baseTimeTick,
      recordCount,
      kind,
      vchannels: frame.head?.vchannels ?? [],
    })
  }

  /** Whether a frame ends at this very point. */
  boundaries(point: TailPoint): boolean {
    return this.#chains.get(point.position) === point.chain
  }
}

/** Whether these bytes are those of a seal at `position` of which some have changed: most of its marks are there. */
function looksLikeSeal(bytes: Buffer, position: number): boolean {
  if (bytes.length < 512) return false
  const marks = [
    bytes.toString('latin1', 8, 12) === 'TFRM',
    bytes[14] === FrameKind.seal,
    bytes.readUInt32LE(16) === bytes.length,
    bytes.readUInt32LE(20) === SEAL_BODY_BYTES,
    bytes.readBigUInt64LE(56) === BigInt(position),
    bytes.readBigUInt64LE(FRAME_HEADER_BYTES) === BigInt(position),
  ]
  // Every other frame has the magic and its position, and may have this length.
  return marks.filter((isThere) => isThere).length >= 4 && (marks[1]! || marks[3]!)
}

async function readSeal(opened: OpenSegment, position: number): Promise<Seal | null> {
  if (position < SEGMENT_HEADER_BYTES) return null
  const { file, segment, header } = opened
  const bytes = Buffer.alloc(header.alignment)
  const length = await readAt(file, segment, bytes, 0, bytes.length, position)
  try {
    const frame = decodeFrameHeader(bytes, 0, length, header.salt, position)
    if (frame === null || frame.kind !== FrameKind.seal || length < frame.totalLength) return null
    const body = bytes.subarray(frame.headerLength, frame.headerLength + frame.bodyLength)
    return hash64(body) === frame.bodyHash ? decodeSeal(body) : null
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}
