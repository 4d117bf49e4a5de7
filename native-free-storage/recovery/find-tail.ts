/**
 * Which files make up the log, and where it ends: from the manifest, the names in the directory and the tail alone, so
 * the cost does not grow with the log. Reads, never writes. docs/FORMAT.md sections 6 and 9.
 */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { manifestFileName, parseSegmentFileName, segmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from '../format/segment-header.ts'
import type { SegmentEntry } from '../log/log-view.ts'
import { SegmentFiles } from '../segment/segment-file.ts'
import { classifyTail, type TailVerdict } from './classify.ts'
import { holdsFrame, pointNamed, scanTail, type TailFrame, type TailPoint, type TailScan } from './tail-scan.ts'

/** Headers that are looked at for the segment before the tail, when that was written anew. */
const REWRITTEN_LOOKS_MAX = 8

export interface FoundTail {
  entry: SegmentEntry
  header: SegmentHeader
  /** Behind the last valid frame: what a writer has to keep. */
  end: TailPoint
  /** Up to here it is proven that it was durable. */
  proven: TailPoint
  /** Frames between the two. */
  unproven: readonly TailFrame[]
  /** A seal or the manifest says that nothing more came. */
  closed: boolean
  /** The id that the seal names for the next segment; that segment is not there. */
  nextSegmentId: string | null
  /** What the bytes behind the end mean, and why, in words. */
  verdict: Exclude<TailVerdict, 'damaged'>
  because: string
  /** One above the highest LSN in frames behind the end; the next LSN where there are none. */
  nextLsnBehind: number
  /** From here on the file is zeros; undefined when it holds other bytes behind its end, which stay. */
  zeroFrom: number | undefined
}

export interface FoundSegments {
  /** In LSN order, the tail included. */
  entries: readonly SegmentEntry[]
  tail: FoundTail | null
  /** Segment files that are not part of the log. */
  strays: readonly string[]
}

/** Throws LOG_DAMAGED, SEGMENT_MISSING, FORMAT_UNKNOWN, IO_FAILED. */
export async function findSegments(
  environment: Environment,
  directory: string,
  manifest: ManifestContent,
  names: readonly string[],
): Promise<FoundSegments> {
  const files = listSegmentFiles(names)
  const retired = new Set(manifest.retired.map(({ id }) => id))
  if (manifest.tail === null || manifest.firstSegment === null) {
    return { entries: [], tail: null, strays: files.filter(({ id }) => !retired.has(id)).map(({ name }) => name) }
  }
  const segments = new SegmentFiles(environment, directory, manifest)
  const first = manifest.firstSegment
  const known = manifest.tail
  const tails = await walkFrom(segments, files, manifest)
  const walked = new Set(tails.map(({ entry }) => entry.id))
  const walkedFirst = tails[0]!
  const before = files.filter(
    ({ id, baseLsn }) =>
      !walked.has(id) &&
      !retired.has(id) &&
      (id === first.id || (baseLsn >= first.baseLsn && baseLsn <= known.baseLsn)) &&
      id !== known.id,
  )
  // A segment with the base LSN of the first one, when that is the tail: a rival has named it.
  const members = walked.has(first.id) ? [] : await withoutRivals(segments, before, first.id, walkedFirst.header)
  // The first segment belongs to the log also when its file is gone: a reader that comes to it is told.
  const isFirstGone = !walked.has(first.id) && members[0]?.id !== first.id
  const gone = isFirstGone ? [{ ...first, name: segmentFileName(first.baseLsn, first.id) }] : []
  const entries = [...gone, ...members].map(asEntry)
  entries.push(...tails.map(({ entry }) => entry))
  const kept = new Set(entries.map(({ id }) => id))
  const strays = files.filter(({ id }) => !kept.has(id) && !retired.has(id))
  await heedSuccessors(segments, tails[tails.length - 1]!, strays)
  for (const [index, found] of tails.entries()) {
    const next = tails[index + 1]
    if (next !== undefined)
      found.entry.end = { position: found.end.position, chain: found.end.chain, nextLsn: found.end.nextLsn }
  }
  return {
    entries,
    tail: tails[tails.length - 1]!,
    strays: strays.map(({ name }) => name),
  }
}

/**
 * For who lists the files beside a writer: he has published since, and two of the files begin with the same LSN. One of
 * them was written anew from the other, and the manifest that says which one counts was read too early.
 */
export function hasMoved(
  { disk }: Environment,
  directory: string,
  { generation }: ManifestContent,
  { entries }: FoundSegments,
): boolean {
  if (!entries.some(({ baseLsn }, index) => entries[index + 1]?.baseLsn === baseLsn)) return false
  return disk.existsSync(`${directory}/${manifestFileName(generation + 1)}`)
}

/**
 * A segment gets its name only when the one before it is durable up to the end that it names. So a file that names a
 * point of the tail proves the tail up to there; one that names a point behind its end, or goes on with frames at its
 * very end where bytes stand that are no seal, tells that the tail has lost its end or its seal. One that names an
 * earlier point is left of a cut.
 */
async function heedSuccessors(segments: SegmentFiles, tail: FoundTail, strays: readonly SegmentFile[]): Promise<void> {
  if (tail.closed) return
  const { entry, end } = tail
  for (const stray of strays) {
    if (stray.baseLsn < entry.baseLsn) continue
    const header = await segments.header(stray).catch(() => null)
    const previous = header?.previous
    if (header === null || previous?.id !== entry.id) continue
    if (previous.end > end.position) {
      const message = `${stray.name} was begun when it was durable up to position ${previous.end}`
      throw lostEnd(tail, header.baseLsn, message)
    }
    const isNext = tail.verdict === 'torn' && previous.end === end.position && previous.chain === end.chain
    if (isNext && (await segmentHoldsFrame(segments, stray))) {
      throw lostEnd(tail, header.baseLsn, `${stray.name} goes on there, and the seal that names it is gone`)
    }
    raiseProven(tail, previous)
  }
}

function lostEnd({ entry, end }: FoundTail, successorLsn: number, because: string): TidelogError {
  return new TidelogError(
    'LOG_DAMAGED',
    `${entry.name} ends at position ${end.position}, and ${because}. Nothing was changed. Restore the file from a backup, or see what "tidelog verify" says and what "tidelog repair" would do.`,
    {
      file: entry.name,
      position: end.position,
      lsnFrom: end.nextLsn,
      lsnTo: Math.max(end.nextLsn, successorLsn - 1),
    },
  )
}

function raiseProven(tail: FoundTail, previous: { end: number; chain: bigint }): void {
  const named = pointNamed(tail.unproven, tail.proven, previous)
  if (named === null) return
  tail.proven = named.point
  tail.unproven = tail.unproven.slice(named.frames)
}

async function segmentHoldsFrame(segments: SegmentFiles, segment: SegmentFile): Promise<boolean> {
  const opened = await segments.open(segment)
  try {
    return await holdsFrame(opened)
  } finally {
    await opened.release()
  }
}

/** The manifest's tail and what follows it: a seal names the next segment, whose header names the one before. */
async function walkFrom(
  segments: SegmentFiles,
  files: readonly SegmentFile[],
  manifest: ManifestContent,
): Promise<FoundTail[]> {
  const known = manifest.tail!
  const tails: FoundTail[] = []
  let file = files.find(({ id }) => id === known.id)
  if (file === undefined) {
    throw new TidelogError(
      'SEGMENT_MISSING',
      `the manifest names the segment ${known.id} with LSN ${known.baseLsn} as the tail; its file is not there`,
      {
        lsnFrom: known.baseLsn,
      },
    )
  }
  let start: TailPoint | null = {
    position: known.syncedPosition,
    chain: known.chain,
    nextLsn: manifest.nextLsn,
    lastTimeTick: manifest.lastTimeTick,
  }
  while (true) {
    const found: FoundTail = await examine(segments, file, start, tails.length === 0 && known.closed)
    tails.push(found)
    if (found.nextSegmentId === null) return tails
    const next = files.find(({ id }) => id === found.nextSegmentId)
    if (next === undefined || tails.some(({ entry }) => entry.id === next.id)) return tails
    const opened = await segments.open(next)
    await opened.release()
    const { header } = opened
    const { previous } = header
    if (
      previous?.id !== file.id ||
      previous.end !== found.end.position ||
      previous.chain !== found.end.chain ||
      header.baseLsn !== found.end.nextLsn
    ) {
      throw new TidelogError(
        'LOG_DAMAGED',
        `${next.name} is named by the seal of ${file.name} and does not follow it`,
        {
          file: next.name,
          position: 0,
          lsnFrom: found.end.nextLsn,
        },
      )
    }
    found.closed = true
    file = next
    start = {
      position: SEGMENT_HEADER_BYTES,
      chain: header.checksum,
      nextLsn: header.baseLsn,
      lastTimeTick: found.end.lastTimeTick,
    }
  }
}

async function examine(
  segments: SegmentFiles,
  file: SegmentFile,
  start: TailPoint,
  closed: boolean,
): Promise<FoundTail> {
  const opened = await segments.open(file)
  try {
    const { header } = opened
    const scan = await scanTail(opened.file, header.salt, start)
    const { verdict, because } = classifyTail(scan.evidence)
    if (verdict === 'damaged') throw damagedTail(file, scan, start, because)
    const entry = asEntry(file)
    const judged = { verdict, because, nextLsnBehind: scan.nextLsnBehind }
    if (closed) {
      return {
        ...judged,
        entry,
        header,
        end: start,
        proven: start,
        unproven: [],
        closed: true,
        nextSegmentId: scan.seal !== null && scan.end.position === start.position ? scan.seal.nextSegmentId : null,
        zeroFrom: verdict === 'clean' && scan.zeroFrom < scan.fileBytes ? scan.zeroFrom : undefined,
      }
    }
    const sealed = verdict === 'sealed'
    return {
      ...judged,
      entry,
      header,
      end: scan.end,
      proven: sealed ? scan.end : scan.proven,
      unproven: sealed ? [] : scan.unproven,
      closed: sealed,
      nextSegmentId: scan.seal?.nextSegmentId ?? null,
      zeroFrom: verdict === 'clean' && scan.zeroFrom < scan.fileBytes ? scan.zeroFrom : undefined,
    }
  } finally {
    await opened.release()
  }
}

function damagedTail(file: SegmentFile, scan: TailScan, start: TailPoint, because: string): TidelogError {
  const { end } = scan
  const upTo = scan.nextLsnBehind > end.nextLsn ? `LSN ${scan.nextLsnBehind - 1}` : 'an LSN that is not known'
  return new TidelogError(
    'LOG_DAMAGED',
    `${file.name} is damaged at position ${end.position}: ${because}. Records from LSN ${end.nextLsn} up to ${upTo} may be gone; everything below LSN ${end.nextLsn} is intact as far as it was looked at. Nothing was changed. Restore the file from a backup, or see what is left with "tidelog verify" and "tidelog dump".`,
    {
      file: file.name,
      position: Math.min(end.position, Math.max(start.position, end.position)),
      lsnFrom: end.nextLsn,
      lsnTo: scan.nextLsnBehind > end.nextLsn ? scan.nextLsnBehind - 1 : undefined,
    },
  )
}

interface SegmentFile {
  id: string
  baseLsn: number
  name: string
}

function listSegmentFiles(names: readonly string[]): SegmentFile[] {
  const files: SegmentFile[] = []
  for (const name of names) {
    const parsed = parseSegmentFileName(name)
    if (parsed !== null) files.push({ id: parsed.id, baseLsn: parsed.baseLsn, name })
  }
  // The digits of a base LSN are as many in every name: the order of the names is that of the LSNs.
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * A writer that was fenced may have named a segment just before the tail. The tail's own header tells its predecessor:
 * what stands between the two in the list is none of the log's.
 */
async function withoutRivals(
  segments: SegmentFiles,
  before: readonly SegmentFile[],
  firstId: string,
  tail: SegmentHeader,
): Promise<readonly SegmentFile[]> {
  const previousId = tail.previous?.id
  let last = before.findIndex(({ id }) => id === previousId)
  // It was written anew: then its own header says which one it replaces. Few rivals can stand behind it.
  for (let at = before.length - 1; last < 0 && at >= 0 && at >= before.length - REWRITTEN_LOOKS_MAX; at--) {
    const header = await segments.header(before[at]!).catch(() => null)
    if (header !== null && previousId !== undefined && header.replaced?.id === previousId) last = at
  }
  const linked = last < 0 ? before : before.slice(0, last + 1)
  const first = linked.findIndex(({ id }) => id === firstId)
  return first < 0 ? linked : linked.slice(first)
}

function asEntry({ id, baseLsn, name }: SegmentFile): SegmentEntry {
  return { id, baseLsn, name, end: undefined, building: undefined }
}
