/**
 * What a repair is going to do: which segments stay, which are written anew and from what, which LSNs are lost, and where
 * the log ends. Reads, never writes.
 */
import type { Environment } from '../environment.ts'
import { segmentFileName } from '../format/file-names.ts'
import type { SegmentEnd } from '../format/segment-header.ts'
import { randomSegmentId } from '../log/segment-files.ts'
import type { TailPoint } from '../recovery/tail-scan.ts'
import { indexNameOf } from '../segment/index-file.ts'
import type { RepairAction, RepairMode } from './repair-action.ts'
import { examine, type LsnRange, type SegmentBounds } from './repair-frames.ts'
import { layOut } from './repair-layout.ts'
import type { RepairView } from './repair-look.ts'
import { type Candidate, orderSegments } from './repair-order.ts'
import { cutAt, lostRanges, type Slot, withoutEmpty } from './repair-slots.ts'
import { snapshotsBehind } from './repair-snapshots.ts'
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

  constructor(view: RepairView, mode: RepairMode) {
    this.#view = view
    this.#mode = mode
    this.#environment = view.environment
  }

  async plan(): Promise<RepairPlan> {
    const { names, newest, known, candidates, lease, findings } = this.#view
    this.#assumeWithoutManifest()
    const floorLsn = known?.firstSegment?.baseLsn ?? 0
    const order = orderSegments(candidates, known, floorLsn)
    const { slots: found, tail, skipped, assumptions } = await layOut(this.#view, order)
    this.#assumptions.push(...assumptions)
    const firstLsn = this.#firstLsn(found)
    const lost = lostRanges(found, firstLsn)
    const cutLsn = this.#mode === 'point-in-time' ? lost[0]?.lsnFrom : undefined
    const slots = withoutEmpty(cutLsn === undefined ? found : cutAt(found, cutLsn))
    const segments = this.#settle(slots)
    const { taken, strays } = this.#filesToTakeOut(order.members, segments)
    for (const name of snapshotsBehind(names, [...lostRanges(slots, firstLsn), ...skipped])) {
      taken.push(name)
      this.#act('quarantine', name, 'the frame that it stands behind is not in the log any more')
    }
    const made = segments.some(({ kind }) => kind === 'made')
    const publish = made || known === null || taken.length > 0
    for (const name of strays) this.#act('quarantine', name, 'it is none of the segments of the log')
    const renewLease =
      lease === 'damaged' || findings.some(({ code, file }) => code === 'LEASE_DAMAGED' && file === 'LEASE')
    if (renewLease) this.#renewLease()
    await this.#lookAtIndexes(segments)
    if (publish) {
      const reason = newest === null ? 'there is no valid manifest' : 'it names the segments as they are now'
      this.#act('publish-manifest', 'MANIFEST', reason)
    }
    return {
      mode: this.#mode,
      actions: this.#actions,
      lost: this.#mode === 'point-in-time' ? lostRanges(slots, firstLsn) : lost,
      skipped,
      assumptions: this.#assumptions,
      segments,
      taken,
      strays,
      reindex: this.#reindex,
      renewLease,
      tail: segments.at(-1)?.kind === 'kept' ? tail : null,
      publish,
      firstLsn,
      nextLsn: slots.at(-1)?.nextLsn ?? newest?.nextLsn ?? 0,
      lastTimeTick: this.#lastTimeTick(),
    }
  }

  #firstLsn(slots: readonly Slot[]): number {
    const { known, newest, hint } = this.#view
    if (known !== null) return known.firstLsn
    const begins = slots[0]?.baseLsn ?? 0
    const least = (newest ?? hint)?.firstLsn ?? 0
    const firstLsn = Math.max(begins, least)
    if (begins > least) {
      this.#assumptions.push(
        `the records below LSN ${begins} were truncated away: no manifest says otherwise, and no file holds them`,
      )
    }
    return firstLsn
  }

  /** From the last to the first: a segment that stays says what the one before it has to be. */
  #settle(slots: readonly Slot[]): (KeptSegment | MadeSegment)[] {
    const settled: (KeptSegment | MadeSegment)[] = []
    for (const [index, slot] of [...slots.entries()].reverse()) {
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

  /** `taken`: those that held segments, and nothing else does in the log as it is to be. */
  #filesToTakeOut(
    members: readonly Candidate[],
    segments: readonly (KeptSegment | MadeSegment)[],
  ): { taken: string[]; strays: string[] } {
    const used = new Set(segments.flatMap((segment) => (segment.kind === 'kept' ? [segment.source.name] : [])))
    const memberNames = new Set(members.map(({ source }) => source.name))
    // What frames are copied from stays until the new manifest counts.
    const donors = members.flatMap(({ source }) => source.patches?.map(({ name }) => name) ?? [])
    for (const name of donors) memberNames.add(name)
    const taken = [...memberNames].filter((name) => !used.has(name))
    for (const name of taken) {
      if (this.#actions.some(({ action, file }) => action === 'quarantine' && file === name)) continue
      const isDonor = donors.includes(name)
      const reason = isDonor
        ? 'it is a copy of a segment, of which frames are taken'
        : 'it lies behind the end that the log gets'
      this.#act('quarantine', name, reason)
    }
    const all = [...this.#view.strays, ...this.#view.candidates.map(({ source }) => source.name)]
    return { taken, strays: all.filter((name) => !memberNames.has(name)) }
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
