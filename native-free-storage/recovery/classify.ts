/**
 * What the end of a tail means, as a table. P is the position behind the last valid frame of the walk. The test walks
 * the cross product of the inputs and demands that exactly one row matches. docs/FORMAT.md section 10.
 */

/** What stands at P. */
export type TailEnding =
  /** A valid seal frame: the segment was finished. */
  | 'seal'
  /** Nothing: the end of the file, or zeros up to it. */
  | 'empty'
  /** Bytes that are no valid frame here. */
  | 'invalid'

/** What was found by scanning ahead from P: frames of this file (right salt and position, LSN not below the expected one, length inside the file). */
export type FramesBehind =
  | 'none'
  /** All have a durable position at or below P: writes in flight, of which an earlier one was lost. */
  | 'unproven'
  /** One has a durable position beyond P: what stood at P was durable. */
  | 'proving'

export interface TailEvidence {
  ending: TailEnding
  framesBehind: FramesBehind
  /** The manifest's synced position lies beyond P. */
  manifestBeyond: boolean
}

export type TailVerdict =
  /** The segment ends here and was finished. */
  | 'sealed'
  /** The segment ends here; the writer just stopped. */
  | 'clean'
  /** What follows was never acknowledged: cut here, logically. */
  | 'torn'
  /** What follows was acknowledged and is gone or changed: refuse to open. */
  | 'damaged'

interface Row {
  ending: readonly TailEnding[]
  framesBehind: readonly FramesBehind[]
  manifestBeyond: readonly boolean[]
  verdict: TailVerdict
  /** In words, for messages and for `verify`. */
  because: string
}

const anyEnding: readonly TailEnding[] = ['seal', 'empty', 'invalid']
const anyFrames: readonly FramesBehind[] = ['none', 'unproven', 'proving']

export const tailTable: readonly Row[] = [
  {
    ending: anyEnding,
    framesBehind: anyFrames,
    manifestBeyond: [true],
    verdict: 'damaged',
    because: 'the manifest says that the segment was synced beyond this position',
  },
  {
    ending: anyEnding,
    framesBehind: ['proving'],
    manifestBeyond: [false],
    verdict: 'damaged',
    because: 'a later frame of the segment was written when the bytes at this position were known to be durable',
  },
  {
    ending: ['seal'],
    framesBehind: ['none', 'unproven'],
    manifestBeyond: [false],
    verdict: 'sealed',
    because: 'the segment is sealed',
  },
  {
    ending: ['empty'],
    framesBehind: ['none'],
    manifestBeyond: [false],
    verdict: 'clean',
    because: 'nothing was written behind the last frame',
  },
  {
    ending: ['invalid'],
    framesBehind: ['none'],
    manifestBeyond: [false],
    verdict: 'torn',
    because: 'the last write was under way when the writer stopped',
  },
  {
    ending: ['empty', 'invalid'],
    framesBehind: ['unproven'],
    manifestBeyond: [false],
    verdict: 'torn',
    because: 'several writes were under way when the writer stopped, and an earlier one was lost',
  },
]

export function matchingRows(evidence: TailEvidence): readonly Row[] {
  return tailTable.filter(
    (row) =>
      row.ending.includes(evidence.ending) &&
      row.framesBehind.includes(evidence.framesBehind) &&
      row.manifestBeyond.includes(evidence.manifestBeyond),
  )
}

export function classifyTail(evidence: TailEvidence): { verdict: TailVerdict; because: string } {
  const row = matchingRows(evidence)[0]
  if (row === undefined)
    throw new Error(`invariant broken: no row of the tail table matches ${JSON.stringify(evidence)}`)
  return { verdict: row.verdict, because: row.because }
}
