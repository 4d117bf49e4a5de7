/**
 * The intact frames of one segment, from whichever of its copies has them. Behind a hole only what is proven to be data:
 * in a tail that was not closed a valid frame behind a hole is none, unless something says that the hole was durable.
 */
import type { Environment } from '../environment.ts'
import { FrameKind } from '../format/frame-header.ts'
import { ALIGNMENT_MAX, SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import type { SalvageSegment } from './salvage-plan.ts'
import { openSource, type SalvageSource, walkSource } from './salvage-source.ts'
import type { WalkedFrame } from './segment-walk.ts'
import { readSeal } from './verify-seal.ts'

export interface SalvagedFrame {
  readonly source: SalvageSource
  readonly frame: WalkedFrame
}

interface Copy {
  source: SalvageSource
  opened: OpenSegment
}

/** In the order of their positions; seals are left out. */
export async function* framesOf(
  environment: Environment,
  segment: SalvageSegment,
): AsyncGenerator<SalvagedFrame, void> {
  const copies: Copy[] = []
  try {
    for (const source of segment.copies) {
      const opened = await openSource(environment, source)
      if (opened !== null) copies.push({ source, opened })
    }
    if (copies.length === 0) return
    // A file may be cut in the padding of its last frame.
    const bytes = Math.max(...copies.map(({ source }) => source.bytes))
    const end = segment.end ?? Math.ceil(bytes / ALIGNMENT_MAX) * ALIGNMENT_MAX
    let proven = segment.end ?? -1
    for await (const found of framesBetween(copies, SEGMENT_HEADER_BYTES, end)) {
      if ('frame' in found) {
        if (found.frame.header!.kind === FrameKind.seal) return
        yield found
        continue
      }
      if (proven < 0) proven = await provenEnd(copies, segment, found.holeAt, end)
      if (found.holeAt >= proven) return
      copies[0]!.source.report.holes++
    }
  } finally {
    for (const { opened } of copies) await opened.release()
  }
}

/** Where the segment ended, as a seal at its end has it: one above its last LSN; null: there is no seal. */
export async function sealOf(
  environment: Environment,
  { copies }: SalvageSegment,
): Promise<{ nextLsn: number; nextSegmentId: string | null } | null> {
  for (const source of copies) {
    if (source.salt === null) continue
    const opened = await openSource(environment, source)
    if (opened === null) continue
    try {
      for (let alignment = 512; alignment <= 4096; alignment *= 2) {
        const seal = await readSeal(opened, source.bytes - alignment)
        if (seal !== null) return seal
      }
    } finally {
      await opened.release()
    }
  }
  return null
}

/** What no copy has an intact frame for is a hole. */
async function* framesBetween(
  copies: readonly Copy[],
  from: number,
  end: number,
): AsyncGenerator<SalvagedFrame | { holeAt: number }, void> {
  const [copy, ...others] = copies
  if (copy === undefined) {
    yield { holeAt: from }
    return
  }
  let held: WalkedFrame | undefined
  for await (const frame of copy.source.salt === null
    ? linked(copy, from, end)
    : walkSource(copy.opened, copy.source, from, end)) {
    held = frame
    if (frame.intact) yield { source: copy.source, frame }
    else yield* framesBetween(others, frame.position, frame.nextPosition)
  }
  const last = held?.nextPosition ?? from
  if (last < end) yield* framesBetween(others, last, end)
}

/** Frames whose checksums cannot be verified count as intact when the one before or behind agrees on the chain and the LSN. */
async function* linked({ source, opened }: Copy, from: number, end: number): AsyncGenerator<WalkedFrame, void> {
  let before: WalkedFrame | undefined
  let isBeforeLinked = false
  for await (const frame of walkSource(opened, source, from, end)) {
    const follows = before !== undefined && agree(before, frame)
    if (before !== undefined) yield { ...before, intact: before.intact && (isBeforeLinked || follows) }
    isBeforeLinked = follows || (frame.position === SEGMENT_HEADER_BYTES && frame.header?.baseLsn === source.baseLsn)
    before = frame
  }
  if (before !== undefined) yield { ...before, intact: before.intact && isBeforeLinked }
}

function agree(before: WalkedFrame, { header }: WalkedFrame): boolean {
  if (before.header === null || header === null) return false
  return header.chain === before.header.checksum && (before.nextLsn === undefined || header.baseLsn === before.nextLsn)
}

/** Up to where the segment is known to have been durable, by the manifest and by frames behind the hole. */
async function provenEnd(
  copies: readonly Copy[],
  segment: SalvageSegment,
  holeAt: number,
  end: number,
): Promise<number> {
  let proven = segment.syncedPosition
  for (const { source, opened } of copies) {
    const to = Math.min(end, source.bytes)
    for await (const { header, intact } of walkSource(opened, source, holeAt, to)) {
      if (header === null || !intact) continue
      // Whatever stands before a seal was durable.
      const durable = header.kind === FrameKind.seal ? header.position : header.durablePosition
      if (durable > proven) proven = durable
    }
  }
  return proven
}
