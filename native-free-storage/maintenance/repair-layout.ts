/** What there is of a log, segment by segment, and what is missing between and behind. Reads every byte of it. */
import { parseSegmentFileName } from '../format/file-names.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { type LastSegment, leasedLsn, lookAtEnd, lsnsOfMissing } from './repair-end.ts'
import { examine, type LsnRange, type SegmentBounds } from './repair-frames.ts'
import type { RepairView } from './repair-look.ts'
import type { Candidate, SegmentOrder } from './repair-order.ts'
import { hole, rangeOf, type Slot } from './repair-slots.ts'
import { openSource, type RepairSource } from './repair-source.ts'

export interface RepairLayout {
  /** From the first LSN to the last. */
  slots: Slot[]
  /** The last segment, when it is there. */
  tail: LastSegment | null
  /** LSNs of which nobody can say whether they were given. */
  skipped: LsnRange[]
  /** In words: what was taken for granted. */
  assumptions: string[]
}

/** Throws FORMAT_UNKNOWN, IO_FAILED. */
export async function layOut(view: RepairView, order: SegmentOrder): Promise<RepairLayout> {
  return await new Layout(view).layOut(order)
}

class Layout {
  readonly #view: RepairView
  readonly #slots: Slot[] = []
  readonly #skipped: LsnRange[] = []
  readonly #assumptions: string[] = []
  #tail: LastSegment | null = null

  constructor(view: RepairView) {
    this.#view = view
  }

  async layOut({ members, isTailMissing }: SegmentOrder): Promise<RepairLayout> {
    await this.#examineMembers(members, isTailMissing)
    this.#fillFront(members)
    if (isTailMissing) this.#fillTail()
    else this.#fillBehind(members.at(-1))
    return { slots: this.#slots, tail: this.#tail, skipped: this.#skipped, assumptions: this.#assumptions }
  }

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
      const opened = await openSource(this.#view.environment, this.#view.directory, source)
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
    const opened = await openSource(this.#view.environment, this.#view.directory, source)
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

  #assumeSkipped(from: number, behind: number): void {
    this.#skipped.push(rangeOf(from, behind))
    this.#assumptions.push(
      `the end of the log cannot be proven: LSN ${from} to ${behind - 1} may have been given, and are not given again`,
    )
  }
}

function faultOf(source: RepairSource, fault: string | null): string {
  if (!source.hasHeader) return 'its header is damaged'
  if (source.patches !== undefined) return 'a part of its frames is intact only in a copy of it'
  if (!source.isExact) return 'its header is not the one that its name promises, to the last byte'
  return fault ?? 'it is damaged'
}
