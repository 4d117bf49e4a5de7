/**
 * Two damaged files of one segment, such as an original and its copy: what is intact only in the other one is read from
 * there. The same header, salt included, says that both are files of the same segment; the hashes of a frame, which
 * hold for this salt and position alone, that it is one of its frames.
 */
import type { Environment } from '../environment.ts'
import { piecesOf, type SegmentBounds } from './repair-frames.ts'
import { openSource, type Patch, type RepairSource } from './repair-source.ts'

/** Both have a valid header, and it is the same one. */
export function areSameSegment(a: RepairSource, b: RepairSource): boolean {
  return a.hasHeader && b.hasHeader && a.header.checksum === b.header.checksum
}

/**
 * The frames of `other` that lie in stretches that `source` has lost, and where no intact frame of it stands. The
 * stretch behind its last intact frame is not one: nobody says that it was not cut there on purpose.
 * Throws FORMAT_UNKNOWN, IO_FAILED.
 */
export async function patchesFrom(
  environment: Environment,
  directory: string,
  source: RepairSource,
  other: RepairSource,
): Promise<Patch[]> {
  const holes = await holesOf(environment, directory, source)
  const patches: Patch[] = []
  if (holes.length === 0) return patches
  // What it lacks itself is not looked for in a third file.
  const opened = await openSource(environment, directory, { ...other, patches: [] })
  try {
    let at = 0
    for await (const piece of piecesOf(opened, boundsOf(other))) {
      if (piece.kind === 'lost') continue
      const { baseLsn, position: from, totalLength } = piece.header
      const to = from + totalLength
      while (at < holes.length && holes[at]!.lsnTo < baseLsn) at++
      const hole = holes[at]
      if (hole === undefined) break
      const fits = baseLsn >= hole.lsnFrom && piece.nextLsn - 1 <= hole.lsnTo && from >= hole.from && to <= hole.to
      if (fits) patches.push({ name: other.name, from, to })
    }
  } finally {
    await opened.release()
  }
  return patches
}

interface Hole {
  lsnFrom: number
  lsnTo: number
  /** Between the intact frames around it. */
  from: number
  to: number
}

async function holesOf(environment: Environment, directory: string, source: RepairSource): Promise<Hole[]> {
  const opened = await openSource(environment, directory, source)
  const holes: Hole[] = []
  try {
    let end = 0
    let lost: { lsnFrom: number; lsnTo: number } | null = null
    for await (const piece of piecesOf(opened, boundsOf(source))) {
      if (piece.kind === 'lost') {
        lost = { lsnFrom: piece.lsnFrom, lsnTo: piece.lsnFrom + piece.count - 1 }
        continue
      }
      const { position, totalLength } = piece.header
      if (lost !== null) holes.push({ ...lost, from: end, to: position })
      lost = null
      end = position + totalLength
    }
  } finally {
    await opened.release()
  }
  return holes
}

function boundsOf({ bytes }: RepairSource): SegmentBounds {
  return { endPosition: bytes, nextLsn: null }
}
