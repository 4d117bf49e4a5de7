/**
 * What a repair is going to do: which segments stay, which are written anew and from what, which LSNs are lost, and where
 * the log ends. Reads, never writes.
 */
import type { Environment } from '../environment.ts'
import { parseSegmentFileName, segmentFileName } from '../format/file-names.ts'
import type { SegmentEnd } from '../format/segment-header.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { randomSegmentId } from '../log/segment-files.ts'
import type { TailPoint } from '../recovery/tail-scan.ts'
import { indexNameOf } from '../segment/index-file.ts'
import type { RepairAction, RepairMode } from './repair-action.ts'
import { type LastSegment, leasedLsn, lookAtEnd, lsnsOfMissing } from './repair-end.ts'
import { examine, type LsnRange, type SegmentBounds } from './repair-frames.ts'
import type { RepairView } from './repair-look.ts'
import { type Candidate, orderSegments } from './repair-order.ts'
import { openSource, type RepairSource } from './repair-source.ts'
import { compareIndex } from './verify-index.ts'

/** A segment that stays as it is. */
export interface KeptSegment {
  kind: 'kept'
  source: RepairSource
  end: { position: number; chain: bigint; nextLsn: number }
}

/** A segment that is written under a new id. */
export interface MadeSegment {
  kind: 'made'
  id: string
  baseLsn: number
  /** Whose frames it gets; null: it holds gaps alone. */
  source: RepairSource | null
  /** Of the source. */
  bounds: SegmentBounds
  /** Up to here what is not there is lost, and above may have been given. */
  knownNextLsn: number
  nextLsn: number
  replaced: SegmentEnd | null
}

export interface RepairPlan {
  mode: RepairMode
  actions: RepairAction[]
  lost: LsnRange[]
  /** LSNs of which nobody can say whether they were given: numbering goes on above them. */
  skipped: LsnRange[]
  assumptions: string[]
  segments: (KeptSegment | MadeSegment)[]
  /** Files of segments that a made one takes the place of, or that the cut leaves out; ids retire with them. */
  taken: string[]
  /** Files that are none of the log's. */
  strays: string[]
  /** Kept segments whose index is made anew, with the end that it is made for. */
  reindex: KeptSegment[]
  renewLease: boolean
  /** Of the tail, when it is kept. */
  tail: { point: TailPoint; closed: boolean } | null
  publish: boolean
  firstLsn: number
  nextLsn: number
  /** The greatest tick that was seen. */
  lastTimeTick: bigint
}

interface Slot {
  candidate: Candidate | null
  baseLsn: number
  bounds: SegmentBounds
  isSound: boolean
  fault: string
  end: KeptSegment['end']
  lost: LsnRange[]
  knownNextLsn: number
  nextLsn: number
}

export async function planRepair(view: RepairView, mode: RepairMode): Promise<RepairPlan> {
  return await new Planner(view, mode).plan()
}

class Planner {
  readonly #view: RepairView
  readonly #mode: RepairMode
  readonly #environment: Environment
  readonly #assumptions: string[] = []
  readonly #actions: RepairAction[] = []
  readonly #reindex: KeptSegment[] = []
  #tail: LastSegment | null = null
  #slots: Slot[] = []
  readonly #skipped: LsnRange[] = []

  constructor(view: RepairView, mode: RepairMode) {
    this.#view = view
    this.#mode = mode
    this.#environment = view.environment
  }

  async plan(): Promise<RepairPlan> {
    const { newest, known, candidates, lease, findings } = this.#view
    this.#assumeWithoutManifest()
    const floorLsn = known?.firstSegment?.baseLsn ?? 0
    const { members, isTailMissing } = orderSegments(candidates, known, floorLsn)
    await this.#examineMembers(members, isTailMissing)
    this.#fillFront(members)
    if (isTailMissing) this.#fillTail()
    else this.#fillBehind(members.at(-1))
    const firstLsn = this.#firstLsn()
    const lost = this.#lostRanges(firstLsn)
    if (this.#mode === 'point-in-time' && lost[0] !== undefined) this.#cutAt(lost[0].lsnFrom)
    this.#dropEmpty()
    const segments = this.#settle()
    const used = new Set(segments.flatMap((segment) => (segment.kind === 'kept' ? [segment.source.name] : [])))
    const memberNames = new Set(members.map(({ source }) => source.name))
    // What frames are copied from stays until the new manifest counts.
    const donors = members.flatMap(({ source }) => source.patches?.map(({ name }) => name) ?? [])
    for (const name of donors) memberNames.add(name)
    const taken = [...memberNames].filter((name) => !used.has(name))
    const strays = [...this.#view.strays, ...candidates.map(({ source }) => source.name)].filter(
      (name) => !memberNames.has(name),
    )
    for (const name of taken) {
      if (this.#actions.some(({ action, file }) => action === 'quarantine' && file === name)) continue
      const isDonor = donors.includes(name)
      const reason = isDonor
        ? 'it is a copy of a segment, of which frames are taken'
        : 'it lies behind the end that the log gets'
      this.#act('quarantine', name, reason)
    }
    const made = segments.some(({ kind }) => kind === 'made')
    const publish = made || known === null || taken.length > 0
    for (const name of strays) {
      this.#act('quarantine', name, 'it is none of the segments of the log')
    }
    const renewLease =
      lease === 'damaged' || findings.some(({ code, file }) => code === 'LEASE_DAMAGED' && file === 'LEASE')
    if (renewLease) this.#renewLease()
    await this.#lookAtIndexes(segments)
    if (publish) {
      const reason = newest === null ? 'there is no valid manifest' : 'it names the segments as they are now'
      this.#act('publish-manifest', 'MANIFEST', reason)
    }
    const last = this.#slots.at(-1)
    const nextLsn = last?.nextLsn ?? newest?.nextLsn ?? 0
    return {
      mode: this.#mode,
      actions: this.#actions,
      lost: this.#mode === 'point-in-time' ? this.#lostRanges(firstLsn) : lost,
      skipped: this.#skipped,
      assumptions: this.#assumptions,
      segments,
      taken,
      strays,
      reindex: this.#reindex,
      renewLease,
      tail: segments.at(-1)?.kind === 'kept' ? this.#tail : null,
      publish,
      firstLsn,
      nextLsn,
      lastTimeTick: this.#lastTimeTick(),
    }
  }

  // ---- what there is

  async #examineMembers(members: readonly Candidate[], isTailMissing: boolean): Promise<void> {
    for (const [index, member] of members.entries()) {
      const next = members[index + 1]
      if (next === undefined && !isTailMissing) {
        this.#tail = await lookAtEnd(this.#view, member)
        this.#slots.push(await this.#lastSlot(member, this.#tail))
        continue
      }
      const nextBase = next?.source.baseLsn ?? this.#view.known!.tail!.baseLsn
      const slot = await this.#innerSlot(member, next, nextBase)
      this.#slots.push(slot)
      if (slot.nextLsn < nextBase) this.#slots.push(hole(slot.nextLsn, nextBase))
    }
  }

  async #innerSlot(member: Candidate, next: Candidate | undefined, nextBase: number): Promise<Slot> {
    const { source, content } = member
    const link = next?.source.hasHeader ? next.source.header.previous : null
    let bounds: SegmentBounds
    if (next !== undefined && link !== null && link.id === source.id) {
      bounds = { endPosition: link.end, nextLsn: nextBase }
    } else if (content.seal !== null && content.seal.nextLsn <= nextBase) {
      bounds = { endPosition: content.seal.end, nextLsn: content.seal.nextLsn }
    } else {
      const opened = await openSource(this.#environment, this.#view.directory, source)
      try {
        // Others are missing behind it: what it does not prove to have been durable may have been written anew in them.
        const isGap = link !== null || next === undefined
        const from = { endPosition: Math.max(SEGMENT_HEADER_BYTES, source.bytes), nextLsn: nextBase }
        const upTo = isGap ? { endPosition: content.durablePosition, nextLsn: null } : from
        const found = await examine(opened, upTo)
        const reaches = isGap || found.nextLsn === nextBase
        bounds = { endPosition: found.position, nextLsn: reaches ? found.nextLsn : nextBase }
        if (isGap && found.nextLsn < content.nextLsn) {
          this.#assumptions.push(
            `${source.name} has no seal, and what followed it is missing: it ends where its frames prove that it was durable, before LSN ${found.nextLsn}`,
          )
        }
      } finally {
        await opened.release()
      }
    }
    return await this.#slotOf(member, bounds)
  }

  async #slotOf(member: Candidate, bounds: SegmentBounds): Promise<Slot> {
    const { source } = member
    const opened = await openSource(this.#environment, this.#view.directory, source)
    try {
      const found = await examine(opened, bounds)
      const isSound = source.isExact && found.isSound
      const nextLsn = bounds.nextLsn ?? found.nextLsn
      return {
        candidate: member,
        baseLsn: source.baseLsn,
        bounds,
        isSound,
        fault: faultOf(source, found.fault),
        end: { position: bounds.endPosition, chain: found.chain, nextLsn },
        lost: found.lost,
        knownNextLsn: nextLsn,
        nextLsn,
      }
    } finally {
      await opened.release()
    }
  }

  async #lastSlot(member: Candidate, last: LastSegment): Promise<Slot> {
    const slot = await this.#slotOf(member, last.bounds)
    const { isSound, endIsLost } = last
    if (isSound) {
      const nextLsn = last.knownNextLsn
      return { ...slot, isSound, lost: [], knownNextLsn: nextLsn, nextLsn }
    }
    const nextLsn = Math.max(last.boundLsn, leasedLsn(this.#view, last.knownNextLsn))
    if (nextLsn > last.knownNextLsn) this.#assumeSkipped(last.knownNextLsn, nextLsn)
    const knownNextLsn = endIsLost ? nextLsn : last.knownNextLsn
    const lost = knownNextLsn > slot.nextLsn ? [...slot.lost, rangeOf(slot.nextLsn, knownNextLsn)] : slot.lost
    return { ...slot, isSound, fault: last.fault ?? slot.fault, lost, knownNextLsn, nextLsn }
  }

  /** What the manifest names before the first segment that is there. */
  #fillFront(members: readonly Candidate[]): void {
    const { known } = this.#view
    const first = known?.firstSegment
    if (known === null || first === null || first === undefined) return
    const begins = members[0]?.source.baseLsn ?? known.tail!.baseLsn
    if (begins > first.baseLsn && known.firstLsn < begins) this.#slots.unshift(hole(first.baseLsn, begins))
  }

  /** The tail of the manifest is gone. */
  #fillTail(): void {
    const { tail, nextLsn: knownNextLsn } = this.#view.known!
    const before = this.#slots.at(-1)
    const baseLsn = before?.nextLsn ?? tail!.baseLsn
    const least = Math.max(baseLsn, knownNextLsn)
    let nextLsn = least
    if (!tail!.closed) {
      nextLsn = Math.max(least + lsnsOfMissing(this.#view), leasedLsn(this.#view, least))
      this.#assumeSkipped(least, nextLsn)
    }
    const made = hole(baseLsn, nextLsn)
    // A hole in front of it and the tail are one.
    if (before !== undefined && before.candidate === null) {
      this.#slots.pop()
      made.baseLsn = before.baseLsn
      made.lost = made.knownNextLsn > before.baseLsn ? [rangeOf(before.baseLsn, made.knownNextLsn)] : []
    }
    this.#slots.push(made)
  }

  /** The seal of the last segment names one of which there is a file, and the file holds something else. */
  #fillBehind(last: Candidate | undefined): void {
    const next = last?.content.seal?.nextSegmentId ?? null
    const { candidates, strays } = this.#view
    const files = [...candidates.map(({ source }) => source.name), ...strays]
    const isThere = files.some((name) => parseSegmentFileName(name)?.id === next)
    const slot = this.#slots.at(-1)
    if (next === null || !isThere || slot === undefined || slot.nextLsn !== last!.content.seal!.nextLsn) return
    const { nextLsn } = slot
    const behind = Math.max(nextLsn + lsnsOfMissing(this.#view), leasedLsn(this.#view, nextLsn))
    this.#assumeSkipped(nextLsn, behind)
    this.#slots.push(hole(nextLsn, behind))
    this.#tail = null
  }

  #firstLsn(): number {
    const { known, newest, hint } = this.#view
    if (known !== null) return known.firstLsn
    const begins = this.#slots[0]?.baseLsn ?? 0
    const least = (newest ?? hint)?.firstLsn ?? 0
    const firstLsn = Math.max(begins, least)
    if (begins > least) {
      this.#assumptions.push(
        `the records below LSN ${begins} were truncated away: no manifest says otherwise, and no file holds them`,
      )
    }
    return firstLsn
  }

  #lostRanges(firstLsn: number): LsnRange[] {
    const merged: LsnRange[] = []
    for (const { lsnFrom: from, lsnTo } of this.#slots.flatMap(({ lost }) => lost)) {
      const lsnFrom = Math.max(from, firstLsn)
      if (lsnFrom > lsnTo) continue
      const last = merged.at(-1)
      if (last !== undefined && last.lsnTo + 1 === lsnFrom) last.lsnTo = lsnTo
      else merged.push({ lsnFrom, lsnTo })
    }
    return merged
  }

  // ---- what becomes of it

  /** Everything from `lsn` on goes; one gap covers it. */
  #cutAt(lsn: number): void {
    const end = this.#slots.at(-1)!
    const at = this.#slots.findIndex((slot) => lsn < slot.nextLsn || slot === end)
    const cut = this.#slots[at]!
    const { knownNextLsn, nextLsn } = end
    const isWhole = cut.candidate === null || cut.baseLsn >= lsn
    this.#slots = [
      ...this.#slots.slice(0, at),
      {
        ...cut,
        candidate: isWhole ? null : cut.candidate,
        bounds: { ...cut.bounds, nextLsn: lsn },
        isSound: false,
        fault: `the log is cut at LSN ${lsn}, where its first damage is`,
        lost: [rangeOf(lsn, knownNextLsn)],
        knownNextLsn,
        nextLsn,
      },
    ]
  }

  /** Where nothing is left of a segment and the next one is missing, one gap takes the place of both: no two begin alike. */
  #dropEmpty(): void {
    this.#slots = this.#slots.filter((slot, index) => {
      const next = this.#slots[index + 1]
      return slot.nextLsn > slot.baseLsn || next?.candidate !== null || next.baseLsn !== slot.baseLsn
    })
  }

  /** From the last to the first: a segment that stays says what the one before it has to be. */
  #settle(): (KeptSegment | MadeSegment)[] {
    const settled: (KeptSegment | MadeSegment)[] = []
    for (const [index, slot] of [...this.#slots.entries()].reverse()) {
      const after = settled[0]
      const isFirst = index === 0
      const wanted = after?.kind === 'kept' ? after.source.header.previous : null
      const fault = slot.isSound ? this.#linkFault(slot, wanted, after?.kind === 'kept', isFirst) : slot.fault
      if (fault === null) settled.unshift({ kind: 'kept', source: slot.candidate!.source, end: slot.end })
      else settled.unshift(this.#made(slot, wanted, fault))
    }
    return settled
  }

  /** Null: it can stay. */
  #linkFault(slot: Slot, wanted: SegmentEnd | null, hasWanted: boolean, isFirst: boolean): string | null {
    const { source } = slot.candidate!
    const { header, id, name } = source
    if (!isFirst && header.previous === null) return `${name} names no segment before it, and there is one`
    if (!hasWanted) return null
    const { position, chain } = slot.end
    if (wanted !== null && wanted.id === id && wanted.end === position && wanted.chain === chain) return null
    const { replaced } = header
    const isReplaced =
      wanted !== null && replaced?.id === wanted.id && replaced.end === wanted.end && replaced.chain === wanted.chain
    return isReplaced && slot.candidate!.content.seal !== null ? null : 'the segment behind it follows another one'
  }

  #made(slot: Slot, wanted: SegmentEnd | null, reason: string): MadeSegment {
    const { candidate, baseLsn, bounds, knownNextLsn, nextLsn } = slot
    const id = randomSegmentId(this.#environment)
    const source = candidate?.source ?? null
    if (source === null) {
      const held = nextLsn > baseLsn ? `LSN ${baseLsn} to ${nextLsn - 1} are missing` : 'a segment is missing'
      this.#act('fill', segmentFileName(baseLsn, id), `${held}: a gap takes their place`)
    } else {
      this.#act('rewrite', source.name, reason)
      this.#act('quarantine', source.name, `${segmentFileName(baseLsn, id)} takes its place`)
    }
    const own =
      source === null || !source.hasHeader ? null : { id: source.id, end: slot.end.position, chain: slot.end.chain }
    return { kind: 'made', id, baseLsn, source, bounds, knownNextLsn, nextLsn, replaced: wanted ?? own }
  }

  async #lookAtIndexes(segments: readonly (KeptSegment | MadeSegment)[]): Promise<void> {
    const { environment, directory, findings } = this.#view
    for (const segment of segments) {
      if (segment.kind === 'made') continue
      const { source, end } = segment
      const file = indexNameOf(source.name)
      const found = findings.find((each) => each.file === file && each.severity !== 'info')
      let wrong = found?.message ?? null
      if (wrong === null) {
        const opened = await openSource(environment, directory, source)
        try {
          const { sum, seal, isSound } = await examine(opened, { endPosition: end.position, nextLsn: end.nextLsn })
          if (!isSound) continue
          const state = await compareIndex(environment, directory, source, end.position, sum)
          if (state === 'missing') wrong = seal === null ? null : `the index ${file} is missing`
          else if (state.wrongAt !== null) wrong = `the index ${file} says other things than its segment`
        } finally {
          await opened.release()
        }
      }
      if (wrong === null) continue
      this.#reindex.push(segment)
      this.#act('reindex', file, wrong)
    }
  }

  #renewLease(): void {
    this.#act('renew-lease', 'LEASE', 'a slot of it is damaged, or older than the log')
    if (this.#view.lease !== 'damaged') return
    this.#assumptions.push(
      'both slots of the lease are damaged: ticks go on above the clock of this machine and above those in the log',
    )
  }

  #assumeWithoutManifest(): void {
    const { newest, known, hint, lineage } = this.#view
    if (known !== null) return
    if (newest !== null) {
      this.#assumptions.push('the newest manifest is older than the segments: their headers say what follows')
      return
    }
    this.#assumptions.push(
      `there is no valid manifest: the log is ${lineage?.logId ?? 'a new one'}, as most of its segments say, in the order of the links of their headers`,
    )
    if (hint === null) {
      this.#assumptions.push(
        `its durability is ${durabilityOf(this.#view)}, and nothing of it was truncated within a file`,
      )
    }
  }

  #assumeSkipped(from: number, behind: number): void {
    this.#skipped.push(rangeOf(from, behind))
    this.#assumptions.push(
      `the end of the log cannot be proven: LSN ${from} to ${behind - 1} may have been given, and are not given again`,
    )
  }

  #lastTimeTick(): bigint {
    const { newest, hint, candidates } = this.#view
    const ticks = [newest?.lastTimeTick ?? 0n, hint?.lastTimeTick ?? 0n]
    for (const { source, content } of candidates) {
      ticks.push(content.lastTimeTick)
      if (source.hasHeader && source.header.baseTimeTick > 0n) ticks.push(source.header.baseTimeTick - 1n)
    }
    let most = 0n
    for (const tick of ticks) if (tick > most) most = tick
    return most
  }

  #act(action: RepairAction['action'], file: string, reason: string): void {
    this.#actions.push({ action, file, reason })
  }
}

/** Without a manifest: a lease that bounds LSNs belongs to a log that is not synced. */
export function durabilityOf({ newest, hint, lease }: RepairView): 'disk' | 'os' {
  const known = newest ?? hint
  if (known !== null) return known.durability
  return lease !== null && lease !== 'damaged' && lease.lsnBound > 0 ? 'os' : 'disk'
}

function faultOf(source: RepairSource, fault: string | null): string {
  if (!source.hasHeader) return 'its header is damaged'
  if (source.patches !== undefined) return 'a part of its frames is intact only in a copy of it'
  if (!source.isExact) return 'its header is not the one that its name promises, to the last byte'
  return fault ?? 'it is damaged'
}

function hole(baseLsn: number, nextLsn: number): Slot {
  return {
    candidate: null,
    baseLsn,
    bounds: { endPosition: SEGMENT_HEADER_BYTES, nextLsn },
    isSound: false,
    fault: 'it is missing',
    end: { position: SEGMENT_HEADER_BYTES, chain: 0n, nextLsn },
    lost: nextLsn > baseLsn ? [rangeOf(baseLsn, nextLsn)] : [],
    knownNextLsn: nextLsn,
    nextLsn,
  }
}

function rangeOf(from: number, behind: number): LsnRange {
  return { lsnFrom: from, lsnTo: behind - 1 }
}
