/**
 * Gets every intact record out of a log of which any file may be damaged or gone, into a new log in another directory.
 * Records keep LSN, tick, vchannel, type, properties and payload; for what is missing the new log has gap frames with
 * the reason "lost". What is salvaged is read and never written, not even a lock. Memory does not grow with the log.
 */
import { makeDirectories, makeNameDurable } from '../disk/directories.ts'
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import type { SegmentName } from '../format/file-names.ts'
import { FrameKind } from '../format/frame-header.ts'
import type { Durability } from '../format/manifest.ts'
import type { Ownership } from '../log/flush.ts'
import { belongsTo } from '../segment/lineage.ts'
import { DEFAULT_SEGMENT_BYTES } from '../segment/segment-size.ts'
import { namesIn } from './log-survey.ts'
import { indexedNextLsn, indexedOnly, type KnownManifest, knownLease, knownManifest } from './salvage-evidence.ts'
import { framesOf, type SalvagedFrame, sealOf } from './salvage-frames.ts'
import { planSalvage, type SalvagePlan, type SalvageSegment } from './salvage-plan.ts'
import { Assumptions, type SalvagedSnapshot, SalvageLosses, type SalvageReport } from './salvage-report.ts'
import { SalvageSnapshots } from './salvage-snapshots.ts'
import { compareOwners, type SalvageSource, salvageSources } from './salvage-source.ts'
import { SalvageWriter } from './salvage-writer.ts'

export interface SalvageOptions {
  /** Also what stands in `quarantine/`, for LSNs that are lost otherwise. */
  quarantine?: boolean | undefined
  /** Where the manifest does not tell; default `disk`. */
  durability?: Durability | undefined
  /** Of the new log's files; default 64 MiB. */
  segmentBytes?: number | undefined
  /** A directory whose lease bounds the ticks as well: the data directory that the log lies in. */
  leaseDirectory?: string | undefined
  /** The ticks of the new log will be bounded elsewhere: it gets a lease only where it needs one for its LSNs. */
  sharedTicks?: boolean | undefined
  /** Told the vchannels of each frame that is taken. */
  onVchannels?: ((names: readonly string[]) => void) | undefined
}

/**
 * Salvages the log in `directory` to `out`, which must be missing or empty.
 *
 * Errors: LOG_MISSING (nothing in `directory` can be of a log), INVALID_ARGUMENT (`out` is not empty, or lies in
 * `directory`), DISK_FULL (retriable), IO_FAILED. What was begun stays in `out`, without a manifest.
 */
export async function salvageLog(
  environment: Environment,
  directory: string,
  out: string,
  options: SalvageOptions = {},
): Promise<SalvageReport> {
  await loadChecksum()
  const path = withoutSlash(directory)
  const target = withoutSlash(out)
  try {
    return await new Salvage(environment, path, target, options).run()
  } catch (error) {
    throw explained(error, path, target)
  }
}

/** Refuses a directory that is not empty, creates one that is missing. Throws INVALID_ARGUMENT. */
export async function prepareSalvage(environment: Environment, from: string, out: string): Promise<void> {
  if (out === from || out.startsWith(`${from}/`)) {
    throw new TidelogError('INVALID_ARGUMENT', `${out} lies in ${from}, which is salvaged: choose another directory`)
  }
  await makeDirectories(environment.disk, out)
  const names = await environment.disk.list(out)
  if (names.length > 0) {
    const what = names.sort().slice(0, 3).join(', ')
    throw new TidelogError('INVALID_ARGUMENT', `${out} is not empty (${what}): choose a new or an empty directory`)
  }
  await makeNameDurable(environment.disk, out)
}

class Salvage {
  readonly #environment: Environment
  readonly #path: string
  readonly #out: string
  readonly #options: SalvageOptions
  readonly #assumptions = new Assumptions()
  readonly #losses = new SalvageLosses()
  #plan!: SalvagePlan
  #writer!: SalvageWriter
  #snapshots!: SalvageSnapshots
  #firstLsn = 0
  #records = 0

  constructor(environment: Environment, path: string, out: string, options: SalvageOptions) {
    this.#environment = environment
    this.#path = path
    this.#out = out
    this.#options = options
  }

  async run(): Promise<SalvageReport> {
    const { quarantine = false } = this.#options
    const names = await namesIn(this.#environment, this.#path)
    const sources = await salvageSources(this.#environment, this.#path, quarantine)
    const manifest = await this.#manifest(names ?? [], sources)
    const indexed = indexedOnly(names ?? [])
    if (names === null || (sources.length === 0 && manifest.content === null && indexed.length === 0)) {
      throw new TidelogError('LOG_MISSING', `nothing in ${this.#path} can be of a log`, { file: this.#path })
    }
    this.#plan = planSalvage(sources, manifest.content, this.#assumptions)
    this.#snapshots = new SalvageSnapshots(names)
    await prepareSalvage(this.#environment, this.#path, this.#out)
    const logId = Buffer.from(this.#environment.randomBytes(16)).toString('hex')
    const { segments, lineage } = this.#plan
    const gone = [...indexed, ...unreadable(sources)]
      .filter(({ id }) => !segments.some(({ copies }) => copies.some((copy) => copy.id === id)))
      .filter(({ id }) => !manifest.content?.retired.some((retired) => retired.id === id))
      .sort((a, b) => a.baseLsn - b.baseLsn)
    this.#firstLsn = this.#beginning(manifest, gone[0]?.baseLsn)
    const durability = manifest.content?.durability ?? this.#options.durability ?? 'disk'
    this.#writer = new SalvageWriter(
      {
        environment: this.#environment,
        directory: this.#out,
        logId,
        owner: newestOwner(sources, manifest),
        durability,
        segmentBytes: this.#options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
      },
      this.#firstLsn,
    )
    let snapshots: SalvagedSnapshot[]
    try {
      for (const segment of segments) await this.#take(segment)
      await this.#end(manifest, gone)
      const to = { directory: this.#out, logId, firstLsn: this.#firstLsn }
      snapshots = await this.#snapshots.copy(this.#environment, this.#path, to, lineage)
      await this.#writer.finish(this.#firstLsn, await this.#lease(manifest))
    } catch (error) {
      await this.#writer.abandon()
      throw error
    }
    return {
      path: this.#path,
      out: this.#out,
      logId,
      originLogId: lineage?.logId ?? null,
      durability,
      firstLsn: this.#firstLsn,
      nextLsn: this.#writer.nextLsn,
      records: this.#records,
      frames: this.#writer.frames,
      lastTimeTick: this.#writer.lastTimeTick,
      lost: this.#losses.ranges,
      lostOmitted: this.#losses.omitted,
      files: sources.map(({ report }) => report),
      snapshots,
      assumptions: this.#assumptions.list,
      assumptionsOmitted: this.#assumptions.omitted,
    }
  }

  /** Unless it is that of another log. */
  async #manifest(names: readonly string[], sources: readonly SalvageSource[]): Promise<KnownManifest> {
    const known = await knownManifest(this.#environment, this.#path, names, this.#assumptions)
    const { content } = known
    const headers = sources.map(({ header }) => header).filter((header) => header !== null)
    if (content === null || headers.length === 0 || headers.some((header) => belongsTo(content, header))) return known
    this.#assumptions.add(`the manifest is that of another log, ${content.logId}: it is not believed`)
    return { content: null, doubtful: null }
  }

  /** The LSN with which the log begins: below it everything was truncated away. */
  #beginning({ content, doubtful }: KnownManifest, goneLsn: number | undefined): number {
    if (content !== null) return content.firstLsn
    const [first] = this.#plan.segments
    const lowest = Math.min(first?.baseLsn ?? Number.MAX_SAFE_INTEGER, goneLsn ?? Number.MAX_SAFE_INTEGER)
    if (lowest === Number.MAX_SAFE_INTEGER) return 0
    if (doubtful !== null && doubtful.firstLsn <= lowest) {
      this.#assumptions.add(`the log begins with LSN ${doubtful.firstLsn}, as the damaged manifest says`)
      return doubtful.firstLsn
    }
    const header = first?.copies[0]?.header
    const isFirst = header != null && header.previous === null && first!.baseLsn === lowest
    if (isFirst || lowest === 0) return lowest
    this.#assumptions.add(`LSN 0 to ${lowest - 1} are taken to be lost; they may have been truncated away`)
    return 0
  }

  async #take(segment: SalvageSegment): Promise<void> {
    // That it was begun here says that everything below had been given.
    await this.#reach(Math.min(segment.baseLsn, segment.limitLsn), null)
    for await (const found of framesOf(this.#environment, segment)) {
      if (found.frame.header!.baseLsn >= segment.limitLsn) break
      await this.#offer(found)
    }
    const nextLsn = (await sealOf(this.#environment, segment))?.nextLsn ?? (await this.#indexed(segment))
    if (nextLsn !== null) await this.#reach(Math.min(nextLsn, segment.limitLsn), null)
  }

  async #indexed({ copies, baseLsn }: SalvageSegment): Promise<number | null> {
    const known = copies.find(({ id, salt }) => id !== null && salt !== null)
    if (known === undefined) return null
    const name = { id: known.id!, baseLsn }
    return await indexedNextLsn(this.#environment, this.#path, name, known.salt)
  }

  async #offer({ source, frame }: SalvagedFrame): Promise<void> {
    const header = frame.header!
    const writer = this.#writer
    const { report } = source
    const nextLsn = frame.nextLsn!
    if (header.kind === FrameKind.durableMarker || header.kind === FrameKind.fence) return
    const place = `the frame at position ${header.position} of ${source.name}, LSN ${header.baseLsn} to ${nextLsn - 1},`
    const isTick = header.kind === FrameKind.timeTick
    if (isTick ? header.baseLsn < writer.nextLsn : nextLsn <= writer.nextLsn) return
    if (header.baseLsn < writer.nextLsn) {
      if (header.kind === FrameKind.gap) return await this.#skip(frame, source)
      if (writer.frames > 0) return this.#assumptions.add(`${place} overlaps what is there already: it was left out`)
      // A truncation ended within it.
      writer.beginAt(header.baseLsn)
    }
    if (header.baseTimeTick < writer.tickFloor) {
      return this.#assumptions.add(`${place} has a tick below those before it: it was left out`)
    }
    await this.#reach(header.baseLsn, header.baseTimeTick)
    if (header.kind === FrameKind.gap) return await this.#skip(frame, source)
    await writer.add(frame)
    if (header.recordCount === 0) return
    this.#snapshots.ended(nextLsn, header, writer.lastFrame)
    report.state = 'used'
    report.frames++
    const records = Math.min(header.recordCount, nextLsn - this.#firstLsn)
    report.records += records
    this.#records += records
    this.#options.onVchannels?.(frame.head!.vchannels)
  }

  /** A gap of the log that is salvaged. What was lost before is not counted as lost once more. */
  async #skip(frame: SalvagedFrame['frame'], source: SalvageSource): Promise<void> {
    const { reason } = frame.gap!
    if (reason === 'lost') await this.#fallBack(frame.nextLsn!, null, true)
    if (frame.nextLsn! > this.#writer.nextLsn) {
      await this.#writer.gap(frame.nextLsn!, reason)
      this.#snapshots.ended(frame.nextLsn!, frame.header!, this.#writer.lastFrame)
    }
    if (source.report.state === 'empty') source.report.state = 'used'
  }

  /** All LSNs below `lsn` were given: those that are not there are lost. `tickBelow`: of what comes next. */
  async #reach(lsn: number, tickBelow: bigint | null): Promise<void> {
    if (lsn <= this.#writer.nextLsn) return
    await this.#fallBack(lsn, tickBelow, false)
    if (lsn > this.#writer.nextLsn) await this.#lose(lsn)
  }

  async #lose(behind: number): Promise<void> {
    this.#losses.add(this.#writer.nextLsn, behind - 1)
    await this.#writer.gap(behind, 'lost')
  }

  /**
   * What the quarantine has of the LSNs from the next one to `behind`, as long as its ticks fit. `isKnown`: that they are
   * lost was known before.
   */
  async #fallBack(behind: number, tickBelow: bigint | null, isKnown: boolean): Promise<void> {
    for (const segment of this.#plan.fallbacks) {
      if (this.#writer.nextLsn >= behind) return
      for await (const found of framesOf(this.#environment, segment)) {
        const { header, nextLsn } = found.frame
        const { kind, baseLsn, baseTimeTick, recordCount } = header!
        if (kind !== FrameKind.records || baseLsn < this.#writer.nextLsn) continue
        if (nextLsn! > behind || baseLsn >= segment.limitLsn) break
        if (baseTimeTick < this.#writer.tickFloor) continue
        if (tickBelow !== null && baseTimeTick + BigInt(recordCount) > tickBelow) continue
        if (baseLsn > this.#writer.nextLsn) {
          if (!isKnown) this.#losses.add(this.#writer.nextLsn, baseLsn - 1)
          await this.#writer.gap(baseLsn, 'lost')
        }
        this.#assumptions.add(`records of ${found.source.name} stand for LSNs that are lost in the log`)
        this.#snapshots.restored(baseLsn)
        await this.#offer(found)
      }
    }
  }

  /** What is known to have been given behind the last frame that is there. `gone`: segments without a frame. */
  async #end({ content, doubtful }: KnownManifest, gone: readonly SegmentName[]): Promise<void> {
    if (content !== null) await this.#reach(content.nextLsn, null)
    for (const segment of gone) {
      // What others reached is told by them.
      if (segment.baseLsn < this.#writer.nextLsn) continue
      await this.#reach(segment.baseLsn, null)
      const nextLsn = await indexedNextLsn(this.#environment, this.#path, segment, null)
      if (nextLsn !== null) await this.#reach(nextLsn, null)
      else if (content === null) {
        this.#endUnknown(`nothing is left of the segment ${segment.id}, which began with LSN ${segment.baseLsn}`)
        return
      }
    }
    if (content !== null) return
    if (doubtful !== null && doubtful.nextLsn > this.#writer.nextLsn) {
      this.#endUnknown(`the damaged manifest says that LSN ${doubtful.nextLsn} was to come next`)
      return
    }
    const last = this.#plan.segments.at(-1)
    if (last === undefined || gone.length > 0) return
    const seal = await sealOf(this.#environment, last)
    if (seal?.nextSegmentId != null)
      this.#endUnknown(`the segment ${seal.nextSegmentId} was to follow, and is not there`)
  }

  #endUnknown(why: string): void {
    this.#losses.add(this.#writer.nextLsn, null)
    this.#assumptions.add(`${why}: from LSN ${this.#writer.nextLsn} on records may be lost`)
  }

  async #lease({ content }: KnownManifest): Promise<{ tickBound: bigint; lsnBound: number } | null> {
    const durability = content?.durability ?? this.#options.durability
    if (this.#options.sharedTicks === true && durability !== 'os') return null
    const own = await knownLease(this.#environment, this.#path)
    const { leaseDirectory } = this.#options
    const shared = leaseDirectory === undefined ? null : await knownLease(this.#environment, leaseDirectory)
    if (own === null && shared === null) {
      this.#assumptions.add('there is no valid lease: ticks go on above those of the records')
    }
    let tickBound = own?.tickBound ?? 0n
    if (shared !== null && shared.tickBound > tickBound) tickBound = shared.tickBound
    return { tickBound, lsnBound: durability === 'os' ? (own?.lsnBound ?? 0) : 0 }
  }
}

/** Files with the name of a segment in which nothing can be read. */
function unreadable(sources: readonly SalvageSource[]): SegmentName[] {
  return sources.flatMap(({ id, baseLsn, report, isQuarantined }) => {
    return id !== null && report.state === 'unreadable' && !isQuarantined ? [{ id, baseLsn }] : []
  })
}

function newestOwner(sources: readonly SalvageSource[], { content }: KnownManifest): Ownership {
  const owners = sources.filter(({ report }) => report.state !== 'foreign').map(({ owner }) => owner)
  if (content !== null) owners.push({ ownerTerm: content.ownerTerm, incarnation: content.incarnation })
  const newest = owners.sort(compareOwners).at(-1)
  return { ownerTerm: newest?.ownerTerm ?? 0, incarnation: Math.max(1, newest?.incarnation ?? 1) }
}

function withoutSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path
}

function explained(error: unknown, path: string, out: string): unknown {
  if (!isDiskError(error)) return error
  if (error.code === 'ENOSPC') {
    const message = `no space for what is salvaged in ${out}: delete it, make room and begin again`
    return new TidelogError('DISK_FULL', message, { retriable: true, cause: error })
  }
  const message = `the salvage of ${path} to ${out} failed: ${error.message}`
  return new TidelogError('IO_FAILED', message, { file: error.path, cause: error })
}
