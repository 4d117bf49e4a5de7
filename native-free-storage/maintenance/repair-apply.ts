/**
 * Carries out a repair. The log changes at one moment, when the manifest is published that names the new files and
 * retires the old ones: a crash before leaves the log as it was, a crash after it repaired. docs/decisions/0006.
 *
 * 1. The journal of what is going to be moved and made is durable.
 * 2. Every file that is going to be taken out gets a second name in quarantine/, durably.
 * 3. Where there is a valid manifest, one generation more retires the ids of the files that are not there yet: an open
 *    that comes in between takes them for nothing.
 * 4. The new segments are written, synced, and get their names; then indexes and lease.
 * 5. The manifest is published.
 * 6. What was taken out loses its first name.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { parseSegmentFileName, segmentFileName } from '../format/file-names.ts'
import type { ManifestContent, ManifestTail } from '../format/manifest.ts'
import { RETIRED_SEGMENTS_MAX } from '../format/manifest.ts'
import type { SegmentEnd, SegmentHeader } from '../format/segment-header.ts'
import { machineBootId } from '../log/boot-id.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import { LEASE_FILE } from '../log/lease-file.ts'
import { ManifestStore } from '../log/manifest-store.ts'
import { randomSalt } from '../log/segment-files.ts'
import { indexNameOf, writeIndexFile } from '../segment/index-file.ts'
import { type Lineage, originOf } from '../segment/lineage.ts'
import { rebuildIndex } from '../segment/rebuild-index.ts'
import { type RewrittenSegment, SegmentRewriter } from '../segment/rewrite-segment.ts'
import { leasedLsn } from './repair-end.ts'
import { piecesOf } from './repair-frames.ts'
import { type MovedFile, readLastJournal, writeJournal } from './repair-journal.ts'
import { renewLease } from './repair-lease.ts'
import type { RepairView } from './repair-look.ts'
import { durabilityOf, type KeptSegment, type MadeSegment, type RepairPlan } from './repair-plan.ts'
import { openSource } from './repair-source.ts'
import { readSeal } from './verify-seal.ts'

const ALIGNMENT = 512

/** The last segment as it is afterwards. */
interface Settled {
  id: string
  baseLsn: number
  position: number
  chain: bigint
  nextLsn: number
}

/** The caller holds the log's lock. Returns the names under which quarantine/ keeps what was taken out. */
export async function applyRepair(view: RepairView, plan: RepairPlan, runMs: number): Promise<string[]> {
  return await new Repairer(view, plan, runMs).run()
}

class Repairer {
  readonly #view: RepairView
  readonly #plan: RepairPlan
  readonly #environment: Environment
  readonly #directory: string
  readonly #owner: { ownerTerm: number; incarnation: number }
  readonly #runMs: number
  readonly #lineage: Lineage
  readonly #moved: MovedFile[] = []
  #manifests: ManifestStore | null = null

  constructor(view: RepairView, plan: RepairPlan, runMs: number) {
    this.#view = view
    this.#plan = plan
    this.#runMs = runMs
    this.#environment = view.environment
    this.#directory = view.directory
    this.#owner = nextOwner(view)
    // Nothing that is left tells the id: the log gets a new one.
    this.#lineage = view.newest ??
      view.lineage ??
      view.hint ?? { logId: Buffer.from(view.environment.randomBytes(16)).toString('hex'), origins: [] }
  }

  async run(): Promise<string[]> {
    await this.#writeDown()
    await this.#keepOriginals()
    if (this.#plan.publish) await this.#beginManifests()
    const settled = await this.#writeSegments()
    for (const name of this.#plan.strays) await this.#unlink(name)
    if (this.#plan.strays.length > 0) await this.#environment.disk.syncDirectory(this.#directory)
    for (const segment of this.#plan.reindex) await this.#reindex(segment)
    if (this.#plan.renewLease) await this.#renewLease()
    if (this.#plan.publish) await this.#publish(settled)
    await this.#removeTaken()
    return this.#moved.map(({ kept }) => kept)
  }

  // ---- 1 and 2

  async #writeDown(): Promise<void> {
    const { disk, randomBytes } = this.#environment
    const { taken, strays, reindex, renewLease, publish, segments, mode } = this.#plan
    const { names, manifests, newest, hint } = this.#view
    const mark = Buffer.from(randomBytes(4)).toString('hex')
    const moved = new Set([...taken, ...strays])
    for (const name of [...moved]) moved.add(indexNameOf(name))
    for (const { source } of reindex) moved.add(indexNameOf(source.name))
    if (renewLease) moved.add(LEASE_FILE)
    if (publish) for (const { name } of manifests) moved.add(name)
    const present = new Set(names)
    for (const name of [...moved].sort()) {
      if (present.has(name)) this.#moved.push({ name, kept: `${name}.${mark}` })
    }
    const made: string[] = []
    for (const segment of segments) {
      if (segment.kind === 'kept') continue
      const name = segmentFileName(segment.baseLsn, segment.id)
      made.push(name, indexNameOf(name))
    }
    for (const { source } of reindex) {
      const name = indexNameOf(source.name)
      if (!present.has(name)) made.push(name)
    }
    await disk.makeDirectory(`${this.#directory}/${QUARANTINE}`)
    await disk.syncDirectory(this.#directory)
    const { numbers } = await readLastJournal(this.#environment, this.#directory)
    const before = newest ?? hint
    const last = segments.at(-1)
    await writeJournal(this.#environment, this.#directory, {
      number: (numbers.at(-1) ?? 0) + 1,
      runMs: this.#runMs,
      mode,
      moved: this.#moved,
      made,
      stays: names.filter((name) => parseSegmentFileName(name) !== null && !moved.has(name)),
      publishes: publish,
      before: {
        firstLsn: before?.firstLsn ?? 0,
        nextLsn: Math.max(before?.nextLsn ?? 0, this.#plan.nextLsn),
        tailId: newest?.tail?.id ?? null,
      },
      after: {
        firstLsn: this.#plan.firstLsn,
        nextLsn: this.#plan.nextLsn,
        tailId: last === undefined ? null : last.kind === 'kept' ? last.source.id : last.id,
      },
    })
  }

  /** A second name: the first one stays until the new manifest counts. */
  async #keepOriginals(): Promise<void> {
    const { disk } = this.#environment
    for (const { name, kept } of this.#moved) {
      try {
        await disk.link(`${this.#directory}/${name}`, `${this.#directory}/${QUARANTINE}/${kept}`)
      } catch (error) {
        if (!isDiskError(error, 'EEXIST')) throw error
      }
    }
    await disk.syncDirectory(`${this.#directory}/${QUARANTINE}`)
  }

  // ---- 3

  async #beginManifests(): Promise<void> {
    const { newest, manifests } = this.#view
    if (newest === null) return
    const generations = manifests.map(({ generation }) => generation).filter((each) => each !== newest.generation)
    const store = new ManifestStore(this.#environment, this.#directory, newest, async () => false, generations)
    const made = this.#plan.segments.flatMap((segment) =>
      segment.kind === 'made' ? [{ id: segment.id, baseLsn: segment.baseLsn }] : [],
    )
    await store.publish((content) => ({
      ...content,
      ...this.#owner,
      bootId: machineBootId(this.#environment),
      retired: this.#retired(content, made),
    }))
    this.#manifests = store
  }

  /** `content`'s, as far as their files are there, and `more`. */
  #retired(content: ManifestContent | null, more: readonly { id: string; baseLsn: number }[]): typeof more {
    const present = new Set(this.#view.names.map((name) => parseSegmentFileName(name)?.id))
    const before = content?.retired.filter(({ id }) => present.has(id)) ?? []
    return [...more, ...before].slice(0, RETIRED_SEGMENTS_MAX)
  }

  // ---- 4

  async #writeSegments(): Promise<Settled | null> {
    const { disk } = this.#environment
    const written: RewrittenSegment[] = []
    let last: Settled | null = null
    for (const segment of this.#plan.segments) {
      if (segment.kind === 'kept') {
        const { id, baseLsn } = segment.source
        last = { id, baseLsn, ...segment.end }
        continue
      }
      const made = await this.#writeSegment(segment, last)
      written.push(made)
      last = { id: made.id, baseLsn: made.baseLsn, ...made.end }
    }
    for (const { temporaryName, name } of written) {
      await disk.rename(`${this.#directory}/${temporaryName}`, `${this.#directory}/${name}`)
    }
    if (written.length > 0) await disk.syncDirectory(this.#directory)
    return last
  }

  async #writeSegment(segment: MadeSegment, before: Settled | null): Promise<RewrittenSegment> {
    const { source, bounds, knownNextLsn, nextLsn } = segment
    const rewriter = await SegmentRewriter.begin(this.#environment, this.#directory, this.#headerOf(segment, before))
    try {
      if (source !== null) {
        const opened = await openSource(this.#environment, this.#directory, source)
        try {
          for await (const piece of piecesOf(opened, bounds)) {
            if (piece.kind === 'lost') await rewriter.gap(piece.count, 'lost')
            else await rewriter.frame(piece.header, piece.bytes, piece.nextLsn)
          }
        } finally {
          await opened.release()
        }
      }
      if (rewriter.nextLsn < knownNextLsn) await rewriter.gap(knownNextLsn - rewriter.nextLsn, 'lost')
      if (rewriter.nextLsn < nextLsn) await rewriter.gap(nextLsn - rewriter.nextLsn, 'leased')
      return await rewriter.finish()
    } catch (error) {
      await rewriter.abandon()
      throw error
    }
  }

  #headerOf(segment: MadeSegment, before: Settled | null): SegmentHeader {
    const { source, baseLsn, id, replaced } = segment
    const header = source?.hasHeader ? source.header : null
    const previous: SegmentEnd | null =
      before === null ? (header?.previous ?? null) : { id: before.id, end: before.position, chain: before.chain }
    return {
      ...this.#origin(baseLsn),
      segmentId: id,
      baseLsn,
      baseTimeTick: header?.baseTimeTick ?? 0n,
      ...this.#owner,
      salt: randomSalt(this.#environment),
      alignment: header?.alignment ?? ALIGNMENT,
      previous,
      replaced,
      oldestOpenTransaction: header?.oldestOpenTransaction ?? null,
      createdMs: this.#environment.clock.nowMs(),
      preparedBytes: 0,
    }
  }

  /** A segment from before a fork is still one of the log that it was copied from. */
  #origin(baseLsn: number): Pick<SegmentHeader, 'logId' | 'originLogId' | 'forkLsn'> {
    const lineage = this.#lineage
    const { logId } = lineage
    const origin = lineage.origins.find(({ forkLsn }) => baseLsn < forkLsn)
    if (origin !== undefined) return { logId: origin.logId, originLogId: null, forkLsn: 0 }
    return { logId, ...originOf(lineage) }
  }

  async #reindex({ source, end }: KeptSegment): Promise<void> {
    const opened = await openSource(this.#environment, this.#directory, source)
    try {
      // One that is not finished has none.
      if ((await readSeal(opened, end.position)) === null) {
        await this.#unlink(indexNameOf(source.name))
        return
      }
      const { builder, summary } = await rebuildIndex(opened, end)
      await writeIndexFile({ environment: this.#environment, directory: this.#directory }, source, builder, summary)
    } finally {
      await opened.release()
    }
  }

  async #renewLease(): Promise<void> {
    const { lease } = this.#view
    const { lastTimeTick, nextLsn } = this.#plan
    const isOs = durabilityOf(this.#view) === 'os'
    const leastLsnBound = isOs ? Math.max(nextLsn, leasedLsn(this.#view, nextLsn)) : null
    await renewLease(this.#environment, this.#directory, { lease, lastTimeTick }, leastLsnBound)
  }

  // ---- 5 and 6

  async #publish(last: Settled | null): Promise<void> {
    const { newest, manifests } = this.#view
    const content = this.#content(newest, last)
    if (this.#manifests !== null) {
      await this.#manifests.publish((before) => ({ ...content, generation: before.generation }))
      return
    }
    const generation = manifests.at(-1)?.generation ?? 0
    const first: ManifestContent = { ...content, generation }
    if (generation === 0) {
      await ManifestStore.create(this.#environment, this.#directory, { ...first, generation: 1 }, async () => false)
      return
    }
    const older = manifests.slice(0, -1).map((each) => each.generation)
    const store = new ManifestStore(this.#environment, this.#directory, first, async () => false, older)
    await store.publish((before) => before)
  }

  #content(newest: ManifestContent | null, last: Settled | null): ManifestContent {
    const { taken, segments, tail, firstLsn, lastTimeTick, nextLsn } = this.#plan
    const { hint } = this.#view
    const first = segments[0]
    const firstSegment =
      first === undefined
        ? null
        : { baseLsn: first.kind === 'kept' ? first.source.baseLsn : first.baseLsn, id: idOf(first) }
    let end: { tail: ManifestTail | null; nextLsn: number; lastTimeTick: bigint } = {
      tail: null,
      nextLsn,
      lastTimeTick,
    }
    if (last !== null) {
      const { id, baseLsn } = last
      const { position, chain } = tail?.point ?? last
      end = {
        tail: { id, baseLsn, syncedPosition: position, chain, closed: tail?.closed ?? true },
        nextLsn: tail?.point.nextLsn ?? last.nextLsn,
        lastTimeTick: tail?.point.lastTimeTick ?? lastTimeTick,
      }
    }
    const gone = taken.flatMap((name) => parseSegmentFileName(name) ?? [])
    return {
      generation: 0,
      logId: this.#lineage.logId,
      durability: durabilityOf(this.#view),
      origins: this.#lineage.origins,
      ...this.#owner,
      firstLsn,
      firstSegment,
      ...end,
      bootId: machineBootId(this.#environment),
      retired: this.#retired(newest ?? hint, gone),
    }
  }

  async #removeTaken(): Promise<void> {
    const { taken, publish } = this.#plan
    if (!publish) return
    const gone = [...taken, ...taken.map(indexNameOf)]
    for (const name of gone) await this.#unlink(name)
    await this.#environment.disk.syncDirectory(this.#directory)
  }

  async #unlink(name: string): Promise<void> {
    try {
      await this.#environment.disk.unlink(`${this.#directory}/${name}`)
    } catch (error) {
      if (!isDiskError(error, 'ENOENT')) throw error
    }
  }
}

/** Above every pair that was ever given, so that whoever has one of them is fenced. */
function nextOwner({ newest, hint, candidates }: RepairView): { ownerTerm: number; incarnation: number } {
  const pairs = [newest, hint, ...candidates.map(({ source }) => (source.hasHeader ? source.header : null))]
  let ownerTerm = 0
  let incarnation = 0
  for (const pair of pairs) {
    if (pair === null) continue
    if (pair.ownerTerm > ownerTerm) incarnation = 0
    ownerTerm = Math.max(ownerTerm, pair.ownerTerm)
    if (pair.ownerTerm === ownerTerm) incarnation = Math.max(incarnation, pair.incarnation)
  }
  return { ownerTerm, incarnation: incarnation + 1 }
}

function idOf(segment: KeptSegment | MadeSegment): string {
  return segment.kind === 'kept' ? segment.source.id : segment.id
}
