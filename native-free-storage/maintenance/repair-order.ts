/**
 * Which of the files are segments of the log, in order, for a repair: with the manifest where it can be relied on, else
 * by the links of the headers alone.
 */
import type { ManifestContent } from '../format/manifest.ts'
import type { Examined } from './repair-frames.ts'
import type { RepairSource } from './repair-source.ts'

/** A file that may be a segment, with all that can be read in it. */
export interface Candidate {
  readonly source: RepairSource
  /** Up to the end of the file. */
  readonly content: Omit<Examined, 'sum'>
}

export interface SegmentOrder {
  /** Ascending. Between two of them others may be missing. */
  readonly members: readonly Candidate[]
  /** The manifest names a tail that is not among them. */
  readonly isTailMissing: boolean
}

/**
 * `known`: the manifest, where it can be relied on. `floorLsn`: nothing below belongs to the log. `candidates`: one for
 * each segment.
 */
export function orderSegments(
  candidates: readonly Candidate[],
  known: ManifestContent | null,
  floorLsn: number,
): SegmentOrder {
  const all = candidates
    .filter((candidate) => candidate.source.baseLsn >= floorLsn && !isBelied(candidate, candidates))
    .sort((a, b) => a.source.baseLsn - b.source.baseLsn || compareOwners(a, b))
  if (known !== null && known.tail === null) return { members: [], isTailMissing: false }
  const last = lastBehind(all, known?.tail ? named(all, known.tail) : lastByLinks(all))
  const members: Candidate[] = []
  const firstId = known?.firstSegment?.id
  for (let current = last; current !== undefined; ) {
    members.unshift(current)
    if (current.source.id === firstId) break
    if (known === null && current.source.hasHeader && current.source.header.previous === null) break
    current = before(current, all, members)
  }
  const isTailMissing = known?.tail != null && !members.some(({ source }) => source.id === known.tail!.id)
  // One behind the tail that is missing: then it is missing in the middle.
  const isLast = isTailMissing && !members.some(({ source }) => source.header.previous?.id === known!.tail!.id)
  return { members, isTailMissing: isLast }
}

/** Nothing in the file bears out its name, and the LSN in that stands in the middle of what another file holds. */
function isBelied({ source, content }: Candidate, candidates: readonly Candidate[]): boolean {
  if (source.hasHeader || content.frames > 0) return false
  return candidates.some((other) => {
    return other.source.baseLsn < source.baseLsn && other.content.frames > 0 && other.content.nextLsn > source.baseLsn
  })
}

/** Whether the header of `next` names `segment` as the one before it. */
export function names(next: RepairSource, segment: RepairSource): boolean {
  const { previous } = next.header
  if (previous === null) return false
  return previous.id === segment.id || (segment.hasHeader && segment.header.replaced?.id === previous.id)
}

/** The tail of the manifest. */
function named(all: readonly Candidate[], tail: { id: string; baseLsn: number }): Candidate | undefined {
  return (
    all.find(({ source }) => source.id === tail.id) ??
    all.find(({ source }) => source.header.previous?.id === tail.id) ??
    all.findLast(({ source }) => source.baseLsn <= tail.baseLsn)
  )
}

/** What was begun behind it, which a later manifest would have named. */
function lastBehind(all: readonly Candidate[], first: Candidate | undefined): Candidate | undefined {
  const seen = new Set<Candidate>()
  let last = first
  for (let next = first; next !== undefined && !seen.has(next); ) {
    seen.add(next)
    last = next
    next = all.find((candidate) => !seen.has(candidate) && continues(candidate, last!))
  }
  return last
}

/** A copy that a recovery left unfinished begins before the end; a segment that was never used holds nothing. */
function continues({ source, content }: Candidate, last: Candidate): boolean {
  if (source.baseLsn < last.source.baseLsn) return false
  const isNamed = last.content.seal?.nextSegmentId === source.id
  if (!source.hasHeader) return isNamed
  if (!names(source, last.source)) return false
  // It got its name when the one before it was durable up to there.
  const hasLostEnd = source.header.previous!.end > last.content.position
  return isNamed || hasLostEnd || (content.frames > 0 && source.baseLsn >= last.content.nextLsn)
}

/** No manifest: the last one that no other with frames follows. */
function lastByLinks(all: readonly Candidate[]): Candidate | undefined {
  const followed = (candidate: Candidate): boolean =>
    all.some((other) => other !== candidate && other.content.frames > 0 && names(other.source, candidate.source))
  const ends = all.filter((candidate) => !followed(candidate))
  const last = ends.findLast(({ content }) => content.frames > 0) ?? ends.at(-1)
  // Its frames may be gone; one that never had any does no harm.
  const behind = all.findLast((other) => last !== undefined && other !== last && names(other.source, last.source))
  return behind !== undefined && behind.source.baseLsn >= last!.content.nextLsn ? behind : last
}

function before(current: Candidate, all: readonly Candidate[], taken: readonly Candidate[]): Candidate | undefined {
  const { source } = current
  const free = all.filter((other) => !taken.includes(other) && other.source.baseLsn <= source.baseLsn)
  if (source.hasHeader && source.header.previous !== null) {
    const { id } = source.header.previous
    const named =
      free.find((other) => other.source.hasHeader && other.source.header.replaced?.id === id) ??
      free.find((other) => other.source.id === id)
    if (named !== undefined) return named
  }
  // The one that is named is missing, or the name is: the nearest one.
  return free.findLast((other) => other.source.baseLsn < source.baseLsn)
}

function compareOwners(a: Candidate, b: Candidate): number {
  return (
    a.source.header.ownerTerm - b.source.header.ownerTerm || a.source.header.incarnation - b.source.header.incarnation
  )
}
