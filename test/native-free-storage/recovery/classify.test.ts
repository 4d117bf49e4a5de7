import { describe, expect, it } from 'vitest'
import {
  classifyTail,
  type FramesBehind,
  matchingRows,
  type TailEnding,
  type TailEvidence,
  tailTable,
} from '../../../native-free-storage/recovery/classify.ts'

const endings: readonly TailEnding[] = ['seal', 'empty', 'invalid']
const behind: readonly FramesBehind[] = ['none', 'unproven', 'proving']
const everything: TailEvidence[] = endings.flatMap((ending) =>
  behind.flatMap((framesBehind) => [false, true].map((manifestBeyond) => ({ ending, framesBehind, manifestBeyond }))),
)

describe('the table of what the end of a tail means', () => {
  it('walks the whole product of its inputs', () => {
    expect(new Set(everything.map((evidence) => JSON.stringify(evidence))).size).toBe(3 * 3 * 2)
  })

  it.each(everything)('has exactly one row for %o', (evidence) => {
    expect(matchingRows(evidence)).toHaveLength(1)
  })

  it('has no row that nothing matches', () => {
    for (const row of tailTable) expect(everything.some((evidence) => matchingRows(evidence)[0] === row)).toBe(true)
  })

  it('gives the verdict that is written down here once more', () => {
    for (const evidence of everything) {
      const { ending, framesBehind, manifestBeyond } = evidence
      const damaged = manifestBeyond || framesBehind === 'proving'
      const clean = ending === 'empty' && framesBehind === 'none'
      const expected = damaged ? 'damaged' : ending === 'seal' ? 'sealed' : clean ? 'clean' : 'torn'
      expect(classifyTail(evidence).verdict, JSON.stringify(evidence)).toBe(expected)
    }
  })

  it('is caught when a row is missing, and when two rows overlap', () => {
    for (const left of tailTable) {
      const rest = tailTable.filter((row) => row !== left)
      const matches = ({ ending, framesBehind, manifestBeyond }: TailEvidence) =>
        rest.filter(
          (row) =>
            row.ending.includes(ending) &&
            row.framesBehind.includes(framesBehind) &&
            row.manifestBeyond.includes(manifestBeyond),
        ).length
      expect(everything.some((evidence) => matches(evidence) !== 1)).toBe(true)
    }
  })
})
