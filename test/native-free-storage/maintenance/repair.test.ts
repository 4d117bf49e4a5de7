import { describe, expect, it } from 'vitest'
import { parseSegmentFileName } from '../../../native-free-storage/format/file-names.ts'
import { repairLog } from '../../../native-free-storage/maintenance/repair.ts'
import { undoRepair } from '../../../native-free-storage/maintenance/repair-undo.ts'
import { budgetName } from '../../budget.ts'
import {
  another,
  at,
  type Bed,
  bed,
  cutFile,
  directory,
  filesIn,
  missing,
  readAndAppend,
  removeFile,
  repaired,
  segmentFiles,
  snapshot,
  writeFile,
  zero,
} from './repair-bed.ts'

interface Damage {
  name: string
  /** The log that it is done to; a closed one when it is left out. */
  on?: 'closed' | 'left' | 'truncated'
  do(damaged: Bed): Promise<void> | void
  /** LSNs lost: of the whole of the segments with these numbers, at least one, or none. */
  lost: 'none' | 'some' | number[]
}

const segment = ({ disk }: Bed, index: number): string => segmentFiles(disk).at(index)!
const manifest = ({ disk }: Bed): string =>
  filesIn(disk)
    .filter((name) => name.startsWith('MANIFEST-'))
    .at(-1)!
const sizeOf = ({ disk }: Bed, name: string): number => disk.contents(at(name)).length
const index = (name: string): string => name.replace('.seg', '.idx')
const flip = ({ disk }: Bed, name: string, position: number, bit = 2): void => disk.flipBit(at(name), position, bit)

const frameBytes = ({ disk }: Bed, name: string): number => Buffer.from(disk.contents(at(name))).readUInt32LE(4096 + 16)

async function swap(damaged: Bed, a: string, b: string): Promise<void> {
  const [first, second] = [a, b].map((name) => Buffer.from(damaged.disk.contents(at(name))))
  await writeFile(damaged.disk, a, second!)
  await writeFile(damaged.disk, b, first!)
}

const damages: Damage[] = [
  {
    name: 'a flipped bit in a record of the first segment',
    do: (bed) => flip(bed, segment(bed, 0), 4096 + 300),
    lost: 'some',
  },
  {
    name: 'a flipped bit in a frame header in the middle',
    do: (bed) => flip(bed, segment(bed, 1), 4096 + 50),
    lost: 'some',
  },
  { name: 'a flipped bit in the closed tail', do: (bed) => flip(bed, segment(bed, -1), 4096 + 30), lost: 'some' },
  {
    name: 'a flipped bit in the tail that was left',
    on: 'left',
    do: (bed) => flip(bed, segment(bed, -1), 4096 + 30),
    lost: 'some',
  },
  {
    name: 'flipped bits in several segments',
    do: (bed) =>
      [0, 1, 2, 3].forEach((at) => {
        flip(bed, segment(bed, at), 4096 + 200 + 16 * at)
      }),
    lost: 'some',
  },
  { name: 'a flipped bit in the salt of a header', do: (bed) => flip(bed, segment(bed, 1), 90), lost: 'none' },
  { name: 'a flipped bit in the links of a header', do: (bed) => flip(bed, segment(bed, 2), 110), lost: 'none' },
  {
    name: 'a flipped bit in the header of the first segment',
    do: (bed) => flip(bed, segment(bed, 0), 70),
    lost: 'none',
  },
  {
    name: 'a flipped bit in the header of the closed tail',
    do: (bed) => flip(bed, segment(bed, -1), 70),
    lost: 'none',
  },
  {
    name: 'a flipped bit in the header of the tail that was left',
    on: 'left',
    do: (bed) => flip(bed, segment(bed, -1), 70),
    lost: 'none',
  },
  { name: 'a flipped bit in unused bytes of a header', do: (bed) => flip(bed, segment(bed, 1), 3000), lost: 'none' },
  {
    name: 'a header of zeros in a sealed segment',
    do: (bed) => zero(bed.disk, segment(bed, 1), 0, 4096),
    lost: 'none',
  },
  {
    name: 'a header of zeros in the tail that was left',
    on: 'left',
    do: (bed) => zero(bed.disk, segment(bed, -1), 0, 4096),
    lost: [-1],
  },
  {
    name: 'a flipped bit in a seal',
    do: (bed) => flip(bed, segment(bed, 1), sizeOf(bed, segment(bed, 1)) - 512 + 100),
    lost: 'none',
  },
  {
    name: 'a flipped bit in the seal of the closed tail',
    do: (bed) => flip(bed, segment(bed, -1), sizeOf(bed, segment(bed, -1)) - 512 + 100),
    lost: 'none',
  },
  {
    name: 'half a seal',
    do: (bed) => cutFile(bed.disk, segment(bed, 1), sizeOf(bed, segment(bed, 1)) - 300),
    lost: 'none',
  },
  {
    name: 'a flipped bit in the padding of a frame',
    do: (bed) => flip(bed, segment(bed, 1), 4096 + frameBytes(bed, segment(bed, 1)) - 1),
    lost: 'none',
  },
  { name: 'a flipped bit in an index', do: (bed) => flip(bed, index(segment(bed, 1)), 4096 + 9), lost: 'none' },
  { name: 'a lost index', do: (bed) => removeFile(bed.disk, index(segment(bed, 0))), lost: 'none' },
  {
    name: 'the index of another segment',
    do: (bed) => swap(bed, index(segment(bed, 0)), index(segment(bed, 1))),
    lost: 'none',
  },
  { name: 'a flipped bit in the manifest', do: (bed) => flip(bed, manifest(bed), 90), lost: 'none' },
  {
    name: 'a flipped bit in the manifest of a log that was left',
    on: 'left',
    do: (bed) => flip(bed, manifest(bed), 90),
    lost: 'none',
  },
  { name: 'no manifest', do: (bed) => removeFile(bed.disk, manifest(bed)), lost: 'none' },
  {
    name: 'no manifest of a log that was left',
    on: 'left',
    do: (bed) => removeFile(bed.disk, manifest(bed)),
    lost: 'none',
  },
  {
    name: 'no manifest of a log that was truncated',
    on: 'truncated',
    do: (bed) => removeFile(bed.disk, manifest(bed)),
    lost: 'none',
  },
  { name: 'a flipped bit in a slot of the lease', do: (bed) => flip(bed, 'LEASE', 30), lost: 'none' },
  {
    name: 'both slots of the lease',
    do: (bed) => {
      flip(bed, 'LEASE', 30)
      flip(bed, 'LEASE', 540)
    },
    lost: 'none',
  },
  { name: 'a missing first segment', do: (bed) => removeFile(bed.disk, segment(bed, 0)), lost: [0] },
  { name: 'a missing segment in the middle', do: (bed) => removeFile(bed.disk, segment(bed, 1)), lost: [1] },
  {
    name: 'two missing segments in the middle',
    do: async (bed) => {
      await removeFile(bed.disk, segment(bed, 1))
      await removeFile(bed.disk, segment(bed, 1))
    },
    lost: [1, 2],
  },
  { name: 'a missing closed tail', do: (bed) => removeFile(bed.disk, segment(bed, -1)), lost: [-1] },
  {
    name: 'a missing tail of a log that was left',
    on: 'left',
    do: (bed) => removeFile(bed.disk, segment(bed, -1)),
    lost: [-1],
  },
  {
    name: 'no segment at all',
    do: async (bed) => {
      for (const name of segmentFiles(bed.disk)) await removeFile(bed.disk, name)
    },
    lost: [0, 1, 2, 3],
  },
  {
    name: 'a missing first segment of a log that was truncated',
    on: 'truncated',
    do: (bed) => removeFile(bed.disk, segment(bed, 0)),
    lost: [0],
  },
  { name: 'a segment that is shorter', do: (bed) => cutFile(bed.disk, segment(bed, 1), 4096 + 2000), lost: 'some' },
  {
    name: 'a segment that is shorter than its header',
    do: (bed) => cutFile(bed.disk, segment(bed, 1), 2000),
    lost: [1],
  },
  { name: 'an empty segment', do: (bed) => cutFile(bed.disk, segment(bed, 1), 0), lost: [1] },
  {
    name: 'a closed tail that is shorter',
    do: (bed) => cutFile(bed.disk, segment(bed, -1), 4096 + 1000),
    lost: 'some',
  },
  {
    name: 'a tail of zeros',
    do: (bed) => zero(bed.disk, segment(bed, -1), 4096 + 1536, sizeOf(bed, segment(bed, -1))),
    lost: 'some',
  },
  { name: 'zeros in the middle of a segment', do: (bed) => zero(bed.disk, segment(bed, 1), 8192, 12288), lost: 'some' },
  {
    name: 'two segments that have exchanged their contents',
    do: (bed) => swap(bed, segment(bed, 1), segment(bed, 2)),
    lost: 'none',
  },
  {
    name: 'the first segment and the tail, exchanged',
    do: (bed) => swap(bed, segment(bed, 0), segment(bed, -1)),
    lost: 'none',
  },
  {
    name: 'a segment over which a copy of another was put',
    do: async (bed) => writeFile(bed.disk, segment(bed, 1), Buffer.from(bed.disk.contents(at(segment(bed, 2))))),
    lost: [1],
  },
  {
    name: 'a copy of a segment under another name',
    do: async (bed) =>
      writeFile(
        bed.disk,
        `${'7'.padStart(20, '0')}-${'b'.repeat(16)}.seg`,
        Buffer.from(bed.disk.contents(at(segment(bed, 1)))),
      ),
    lost: 'none',
  },
  {
    name: 'a segment under another name',
    do: async (bed) => {
      const name = segment(bed, 1)
      const bytes = Buffer.from(bed.disk.contents(at(name)))
      await removeFile(bed.disk, name)
      await writeFile(bed.disk, `${'7'.padStart(20, '0')}-${'b'.repeat(16)}.seg`, bytes)
    },
    lost: 'none',
  },
  {
    name: 'rubbish in the place of a segment',
    do: (bed) => writeFile(bed.disk, segment(bed, 2), Buffer.alloc(9000, 0x5a)),
    lost: [2],
  },
  {
    name: 'no manifest, a missing segment and a flipped bit',
    do: async (bed) => {
      flip(bed, segment(bed, -1), 4096 + 300)
      await removeFile(bed.disk, segment(bed, 1))
      await removeFile(bed.disk, manifest(bed))
    },
    lost: 'some',
  },
]

async function damagedBed(damage: Damage): Promise<Bed> {
  const on = damage.on ?? 'closed'
  const damaged = await bed({ closed: on !== 'left', ...(on === 'truncated' ? { truncateBefore: 20 } : {}) })
  await damage.do(damaged)
  return damaged
}

/** LSNs of the segments with these numbers, before the damage. */
async function lsnsOf(damage: Damage, numbers: number[]): Promise<[number, number][]> {
  const on = damage.on ?? 'closed'
  const whole = await bed({ closed: on !== 'left', ...(on === 'truncated' ? { truncateBefore: 20 } : {}) })
  const bases = segmentFiles(whole.disk).map((name) => parseSegmentFileName(name)!.baseLsn)
  const first = Math.min(...whole.records.keys())
  return numbers.map((number) => {
    const at = number < 0 ? bases.length + number : number
    return [Math.max(first, bases[at]!), bases[at + 1] ?? whole.nextLsn]
  })
}

/** Of the other ways a part, where time is short. */
const some = budgetName() === 'small' ? damages.filter((_, index) => index % 4 === 1) : damages

describe('repair', () => {
  it('finds nothing to do in a sound log, closed or left', async () => {
    for (const closed of [true, false]) {
      const { report } = await repaired(await bed({ closed }))
      expect(report).toMatchObject({ applied: false, damage: 0, actions: [], lost: [], sound: true })
    }
  })

  it.each(damages)('$name', async (damage) => {
    const damaged = await damagedBed(damage)
    const { report, contents } = await repaired(damaged)
    expect(report.applied).toBe(true)
    expect(report.damage).not.toBe(0)
    const gone = missing(damaged.records, contents)
    if (damage.lost === 'none') expect(gone).toEqual([])
    else if (damage.lost === 'some') expect(gone.length).toBeGreaterThan(0)
    else {
      const wanted = await lsnsOf(damage, damage.lost)
      const lsns = wanted.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i))
      expect([...damaged.records.keys()].filter((lsn) => !contents.has(lsn))).toEqual(lsns)
    }
  })

  it.each(some)('point in time: $name', async (damage) => {
    const damaged = await damagedBed(damage)
    const { report, contents } = await repaired(damaged, 'point-in-time')
    const gone = missing(damaged.records, contents)
    if (gone.length > 0) expect(gone).toEqual([{ lsnFrom: gone[0]!.lsnFrom, lsnTo: damaged.nextLsn - 1 }])
    expect(report.applied).toBe(true)
  })

  it.each(some)('is undone: $name', async (damage) => {
    const damaged = await damagedBed(damage)
    const before = snapshot(damaged.disk)
    const { environment, disk } = another(damaged)
    await repairLog(environment, directory, { apply: true, mode: 'tail' })
    expect((await undoRepair(environment, directory, { apply: false })).applied).toBe(false)
    const undone = await undoRepair(environment, directory, { apply: true })
    expect(undone.applied).toBe(true)
    expect(snapshot(disk)).toEqual(before)
    await repaired({ ...damaged, disk, environment })
  })

  it('is not undone once something was appended', async () => {
    const damaged = await bed()
    flip(damaged, segment(damaged, 1), 4096 + 50)
    await repairLog(damaged.environment, directory, { apply: true, mode: 'tail' })
    await readAndAppend(damaged)
    const before = snapshot(damaged.disk)
    await expect(undoRepair(damaged.environment, directory, { apply: true })).rejects.toMatchObject({
      code: 'UNDO_REFUSED',
    })
    expect(snapshot(damaged.disk)).toEqual(before)
  })
})
