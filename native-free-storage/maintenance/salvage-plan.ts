/**
 * Which file has the records of which LSNs. A segment that an owner began at an LSN has everything from there on: what
 * older owners, and older segments of its own, have of those LSNs is not part of the log. So each segment has a range of
 * LSNs of its own, and no two are asked for the same record.
 */
import type { ManifestContent } from '../format/manifest.ts'
import type { Ownership } from '../log/flush.ts'
import { belongsTo, type Lineage } from '../segment/lineage.ts'
import type { Assumptions } from './salvage-report.ts'
import { compareOwners, type SalvageSource } from './salvage-source.ts'

export interface SalvageSegment {
  /** Files that hold it: copies of one another, the one with a header first. Empty: only its index is there. */
  readonly copies: readonly SalvageSource[]
  readonly baseLsn: number
  /** Behind the LSNs that it has. */
  readonly limitLsn: number
  /** Where its data ends, as the segment behind it or the manifest says; null: not known. */
  readonly end: number | null
  /** That it was synced up to here is known from elsewhere. */
  readonly syncedPosition: number
}

export interface SalvagePlan {
  /** In LSN order. */
  readonly segments: readonly SalvageSegment[]
  /** Of the quarantine, for what is lost otherwise; in LSN order. */
  readonly fallbacks: readonly SalvageSegment[]
  /** The log that is salvaged; null: no header and no manifest tells. */
  readonly lineage: Lineage | null
}

interface Group {
  key: string
  copies: SalvageSource[]
  first: SalvageSource
}

export function planSalvage(
  sources: readonly SalvageSource[],
  manifest: ManifestContent | null,
  assumptions: Assumptions,
): SalvagePlan {
  const lineage = manifest ?? commonLineage(sources, assumptions)
  const retired = new Set(manifest?.retired.map(({ id }) => id))
  const own = sources.filter((source) => {
    const { header, report, id } = source
    if (report.state === 'unreadable') return false
    if (header !== null && lineage !== null && !belongsTo(lineage, header)) report.state = 'foreign'
    // What a repair has put aside is retired, too.
    else if (id !== null && retired.has(id) && !source.isQuarantined) report.state = 'superseded'
    else return true
    return false
  })
  for (const { header, name, salt } of own) {
    if (header !== null) continue
    assumptions.add(`${name} has no valid header: it is taken to be of this log`)
    if (salt !== null) continue
    assumptions.add(
      `${name}: its salt is not known; frames are taken by their hashes, places and the chain between them`,
    )
  }
  const ends = endsOf(own, manifest)
  const main = groups(own.filter(({ isQuarantined }) => !isQuarantined))
  const known = new Map(main.map((group) => [group.key, group]))
  const set: Group[] = []
  for (const group of groups(own.filter(({ isQuarantined }) => isQuarantined))) {
    // A copy of a segment that is there helps where that one is damaged.
    const same = known.get(group.key)
    if (same !== undefined) same.copies.push(...group.copies)
    else set.push(group)
  }
  return {
    segments: ranged(main, ends, manifest),
    fallbacks: ranged(set, ends, manifest),
    lineage,
  }
}

/** Without a manifest: the log of most headers, with those that it says it was copied from. */
function commonLineage(sources: readonly SalvageSource[], assumptions: Assumptions): Lineage | null {
  const counts = new Map<string, number>()
  for (const { header, isQuarantined } of sources) {
    if (header !== null && !isQuarantined) counts.set(header.logId, (counts.get(header.logId) ?? 0) + 1)
  }
  const [most, second] = [...counts].sort(([, a], [, b]) => b - a)
  if (most === undefined) return null
  const isCopy = sources.some(({ header }) => header !== null && header.originLogId !== null)
  if (second !== undefined && !isCopy) assumptions.add(`the log is taken to be ${most[0]}, of which most files are`)
  if (second === undefined || !isCopy) return { logId: most[0], origins: [] }
  // The segments of the origins lie below the forks, which the headers of the copy name.
  const origins = new Map<string, number>()
  for (const { header } of sources) {
    if (header?.originLogId) origins.set(header.originLogId, header.forkLsn)
  }
  const logId = [...counts.keys()].find((id) => !origins.has(id)) ?? most[0]
  assumptions.add(`the log is taken to be ${logId}, a copy of ${[...origins.keys()].join(', ')}`)
  return {
    logId,
    origins: [...origins].map(([id, forkLsn]) => ({ logId: id, forkLsn })).sort((a, b) => a.forkLsn - b.forkLsn),
  }
}

/** By segment id: where the newest owner that follows it, or the manifest, says that it ends. */
function endsOf(sources: readonly SalvageSource[], manifest: ManifestContent | null): Map<string, number> {
  const ends = new Map<string, number>()
  for (const { header } of [...sources].sort((a, b) => compareOwners(a.owner, b.owner))) {
    if (header?.previous) ends.set(header.previous.id, header.previous.end)
  }
  if (manifest?.tail?.closed) ends.set(manifest.tail.id, manifest.tail.syncedPosition)
  return ends
}

function groups(sources: readonly SalvageSource[]): Group[] {
  const byKey = new Map<string, Group>()
  for (const source of sources) {
    const key = source.id ?? `file ${source.name}`
    const group = byKey.get(key)
    if (group === undefined) byKey.set(key, { key, copies: [source], first: source })
    else group.copies.push(source)
  }
  for (const group of byKey.values()) {
    group.copies.sort((a, b) => Number(b.header !== null) - Number(a.header !== null) || b.bytes - a.bytes)
    group.first = group.copies[0]!
  }
  return [...byKey.values()]
}

/**
 * As whose a segment counts, by key. One that a repair wrote anew has the repair's owner, and yet its place among the
 * others: it counts as of that of the segment that follows it, and names it or the one that it replaces.
 */
function effectiveOwners(all: readonly Group[]): Map<string, Ownership> {
  const following = new Map<string, Group[]>()
  for (const group of all) {
    const previous = group.first.header?.previous?.id
    if (previous !== undefined) following.set(previous, [...(following.get(previous) ?? []), group])
  }
  const owners = new Map<string, Ownership>()
  for (const { key, first } of [...all].sort((a, b) => b.first.baseLsn - a.first.baseLsn)) {
    const replaced = first.header?.replaced?.id
    const behind = [...(following.get(key) ?? []), ...(following.get(replaced ?? '') ?? [])]
    const newest = behind
      .map((group) => owners.get(group.key) ?? group.first.owner)
      .sort(compareOwners)
      .at(-1)
    owners.set(key, newest !== undefined && compareOwners(newest, first.owner) < 0 ? newest : first.owner)
  }
  return owners
}

/** From the newest to the oldest: each has the LSNs below all that are newer. */
function ranged(
  all: readonly Group[],
  ends: ReadonlyMap<string, number>,
  manifest: ManifestContent | null,
): SalvageSegment[] {
  const named = new Set(all.flatMap(({ first }) => first.header?.previous?.id ?? []))
  if (manifest?.tail) named.add(manifest.tail.id)
  const owners = effectiveOwners(all)
  const newestFirst = [...all].sort((a, b) => {
    const byOwner = compareOwners(owners.get(b.key)!, owners.get(a.key)!)
    if (byOwner !== 0) return byOwner
    if (a.first.baseLsn !== b.first.baseLsn) return b.first.baseLsn - a.first.baseLsn
    // Of a segment and the one that a repair wrote in its place, the latter.
    const byOwn = compareOwners(b.first.owner, a.first.owner)
    if (byOwn !== 0) return byOwn
    // Of two at one LSN the one that belongs to the chain.
    return Number(named.has(b.key)) - Number(named.has(a.key)) || createdMs(b.first) - createdMs(a.first)
  })
  const segments: SalvageSegment[] = []
  let limitLsn = Number.MAX_SAFE_INTEGER
  for (const { key, copies, first } of newestFirst) {
    if (first.baseLsn >= limitLsn) {
      for (const { report } of copies) report.state = 'superseded'
      continue
    }
    const tail = manifest?.tail?.id === key ? manifest.tail : null
    const syncedPosition = tail?.syncedPosition ?? 0
    segments.push({ copies, baseLsn: first.baseLsn, limitLsn, end: ends.get(key) ?? null, syncedPosition })
    limitLsn = first.baseLsn
  }
  return segments.reverse()
}

function createdMs({ header }: SalvageSource): number {
  return header?.createdMs ?? 0
}
