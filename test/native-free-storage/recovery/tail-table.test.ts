/** The table of FORMAT 10 is the one of the code, and each of its rows is reached from bytes. */
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import {
  type FramesBehind,
  matchingRows,
  type TailEnding,
  type TailEvidence,
  tailTable,
} from '../../../native-free-storage/recovery/classify.ts'
import { at, fileBytes, start, Tail } from './handmade-tail.ts'

beforeAll(loadChecksum)

const endings: readonly TailEnding[] = ['seal', 'empty', 'invalid']
const behind: readonly FramesBehind[] = ['none', 'unproven', 'proving']
const key = ({ ending, framesBehind, manifestBeyond }: TailEvidence) => `${ending}/${framesBehind}/${manifestBeyond}`

/** A tail of the bytes of which the walk has to find this. The other cases no bytes lead to; the table decides them all the same. */
const tails: Record<string, () => ReturnType<Tail['scan']>> = {
  'seal/none/false': () => new Tail().frame(at(0)).seal().scan(),
  'seal/unproven/false': () => {
    const tail = new Tail().frame(at(0)).seal()
    tail.position += 1024
    return tail.frame(at(1)).scan()
  },
  'seal/proving/false': () => {
    const tail = new Tail().frame(at(0)).seal()
    tail.position += 1024
    return tail.frame(at(2)).scan()
  },
  'empty/none/false': () => new Tail().frame(at(0)).scan(),
  'invalid/none/false': () => new Tail().frame(at(0)).frame(at(1)).lose(1, 0xa5).scan(),
  'invalid/unproven/false': () => new Tail().frame(at(0)).frame(at(1)).frame(at(1)).lose(1).scan(),
  'invalid/proving/false': () => new Tail().frame(at(0)).frame(at(1)).frame(at(2)).lose(1).scan(),
  // Behind the end of a file there is nothing, whatever stood there.
  'empty/none/true': () => new Tail().frame(at(0)).scan({ ...start, position: fileBytes + 512 }),
}

describe('the table of the end of a tail', () => {
  it('finds each case in the bytes of a tail, and every row is reached', async () => {
    const reached = new Set<unknown>()
    for (const [name, build] of Object.entries(tails)) {
      const { evidence } = await build()
      expect(key(evidence)).toBe(name)
      for (const row of matchingRows(evidence)) reached.add(row)
    }
    expect(reached.size).toBe(tailTable.length)
  })

  it('is the one of the format page', () => {
    const page = readFileSync('docs/FORMAT.md', 'utf8')
    const section = page.slice(page.indexOf('## 10. What the end of the walk means'))
    const rows = [...section.matchAll(/^\| (.+?) \| (.+?) \| (yes|no) \| (\w+) \| .+ \|$/gm)]
    const listed = rows.map(([, ending, frames, beyond, verdict]) => ({
      ending: ending === 'any' ? endings : ending!.split(', '),
      framesBehind: frames === 'any' ? behind : frames!.split(', '),
      manifestBeyond: [beyond === 'yes'],
      verdict,
    }))
    expect(listed).toEqual(tailTable.map(({ because, ...row }) => row))
  })
})
