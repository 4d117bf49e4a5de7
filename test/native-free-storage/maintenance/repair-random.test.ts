/**
 * Random damage, any mix of it: a repair never throws, makes the log sound, and loses only frames of which bytes are
 * gone. `TIDELOG_SEED` begins elsewhere; a failure names its seed.
 */
import { describe, expect, it } from 'vitest'
import { FRAME_HEADER_BYTES } from '../../../native-free-storage/format/frame-header.ts'
import { repairLog } from '../../../native-free-storage/maintenance/repair.ts'
import { undoRepair } from '../../../native-free-storage/maintenance/repair-undo.ts'
import { budget } from '../../budget.ts'
import { Random } from '../../simulation/random.ts'
import {
  another,
  at,
  type Bed,
  bed,
  cutFile,
  directory,
  filesIn,
  removeFile,
  repaired,
  segmentFiles,
  snapshot,
  writeFile,
} from './repair-bed.ts'

const firstSeed = Number(process.env.TIDELOG_SEED ?? 1)
const runs = budget({ small: 25, ci: 600, soak: 100_000 })

const sizeOf = ({ disk }: Bed, name: string): number => disk.contents(at(name)).length
const bytesOf = ({ disk }: Bed, name: string): Buffer => Buffer.from(disk.contents(at(name)))

/** Names that hold something of the log. */
const victims = ({ disk }: Bed): string[] => filesIn(disk).filter((name) => !/^(LOCK|pool)/.test(name))

type Blow = (damaged: Bed, random: Random) => Promise<string> | string

const blows: Blow[] = [
  (damaged, random) => {
    const name = random.pick(victims(damaged))
    const size = sizeOf(damaged, name)
    if (size === 0) return `${name} is empty`
    const position = random.below(size)
    damaged.disk.flipBit(at(name), position, random.below(8))
    return `bit at ${position} of ${name}`
  },
  (damaged, random) => {
    const name = random.pick(segmentFiles(damaged.disk))
    const size = sizeOf(damaged, name)
    if (size <= 4096) return `${name} is short`
    const position = 4096 + random.below(size - 4096)
    damaged.disk.flipBit(at(name), position, random.below(8))
    return `bit at ${position} of ${name}`
  },
  (damaged, random) => {
    const name = random.pick(victims(damaged))
    const from = random.below(Math.ceil(sizeOf(damaged, name) / 512) + 1) * 512
    const bytes = Math.min(512 * random.between(1, 12), sizeOf(damaged, name) - from)
    if (bytes <= 0) return 'nothing'
    damaged.disk.poke(at(name), from, random.chance(0.5) ? new Uint8Array(bytes) : random.bytes(bytes))
    return `${bytes} bytes at ${from} of ${name}`
  },
  async (damaged, random) => {
    const name = random.pick(victims(damaged))
    const bytes = random.below(sizeOf(damaged, name) + 1)
    await cutFile(damaged.disk, name, bytes)
    return `${name} cut to ${bytes}`
  },
  async (damaged, random) => {
    const name = random.pick(victims(damaged))
    await removeFile(damaged.disk, name)
    return `${name} removed`
  },
  async (damaged, random) => {
    const [a, b] = [random.pick(segmentFiles(damaged.disk)), random.pick(segmentFiles(damaged.disk))]
    const [first, second] = [bytesOf(damaged, a), bytesOf(damaged, b)]
    await writeFile(damaged.disk, a, second)
    if (random.chance(0.5)) await writeFile(damaged.disk, b, first)
    return `${b} over ${a}`
  },
  async (damaged, random) => {
    const name = random.pick(segmentFiles(damaged.disk))
    const copy = `${String(random.below(60)).padStart(20, '0')}-${random.u32().toString(16).padStart(16, 'c')}.seg`
    await writeFile(damaged.disk, copy, bytesOf(damaged, name))
    return `${name} copied to ${copy}`
  },
]

interface Frame {
  lsns: number[]
  bytes: string
  position: number
  header: string
  /** Files of its segment and of the one behind it. */
  files: string[]
}

/** Of every frame with records, the bytes that count. */
function framesOf(whole: Bed): Frame[] {
  const frames: Frame[] = []
  const names = segmentFiles(whole.disk)
  for (const [index, name] of names.entries()) {
    const files = names.slice(index, index + 2)
    const file = bytesOf(whole, name)
    const header = file.toString('latin1', 0, 4096)
    for (let position = 4096; position + FRAME_HEADER_BYTES <= file.length; ) {
      const total = file.readUInt32LE(position + 16)
      if (file.toString('latin1', position + 8, position + 12) !== 'TFRM') break
      const count = file.readUInt32LE(position + 28)
      const end = FRAME_HEADER_BYTES + file.readUInt32LE(position + 20) + file.readUInt32LE(position + 24)
      const base = Number(file.readBigUInt64LE(position + 40))
      const lsns = Array.from({ length: count }, (_, index) => base + index)
      if (count > 0)
        frames.push({ lsns, bytes: file.toString('latin1', position, position + end), position, header, files })
      position += total
    }
  }
  return frames
}

/** LSNs whose frame stands whole at its place in a file with its header, wherever that file is. */
function mustSurvive(frames: readonly Frame[], whole: Bed, damaged: Bed): Set<number> {
  const [before, now] = [snapshot(whole.disk), snapshot(damaged.disk)]
  const files = segmentFiles(damaged.disk).map((name) => bytesOf(damaged, name).toString('latin1'))
  const standsIn = (file: string, { header, bytes, position }: Frame): boolean =>
    file.startsWith(header) && file.startsWith(bytes, position)
  /** Of files of one segment the one with the most frames counts; behind its last one nothing is taken from others. */
  const endOf = (header: string): number => {
    const standing = files.map((file) => frames.filter((frame) => frame.header === header && standsIn(file, frame)))
    const most = Math.max(...standing.map(({ length }) => length))
    return Math.min(...standing.filter(({ length }) => length === most).map((of) => of.at(-1)?.position ?? 0))
  }
  const safe = new Set<number>()
  for (const frame of frames) {
    const { lsns, position, header, files: own } = frame
    // Of a segment whose seal is gone, and which nothing follows any more, only what it proves itself is believed.
    if (own.every((name) => now.get(at(name)) !== before.get(at(name)))) continue
    if (position > endOf(header)) continue
    if (files.some((file) => standsIn(file, frame))) for (const lsn of lsns) safe.add(lsn)
  }
  return safe
}

/**
 * Whether what is left says up to where the log was acknowledged: not where the last segment was changed, and it was not
 * closed, or the manifest is damaged as well.
 */
function isEndKnown(whole: Bed, damaged: Bed, closed: boolean): boolean {
  const now = snapshot(damaged.disk)
  const same = (name: string): boolean => now.get(at(name)) === snapshot(whole.disk).get(at(name))
  if (same(segmentFiles(whole.disk).at(-1)!)) return true
  return (
    closed &&
    filesIn(whole.disk)
      .filter((name) => name.startsWith('MANIFEST-'))
      .every(same)
  )
}

async function run(seed: number): Promise<void> {
  const random = new Random(`repair/${seed}`)
  const closed = random.chance(0.6)
  const whole = await bed({
    segments: random.between(1, 5),
    closed,
    truncateBefore: random.chance(0.2) ? 12 : 0,
    recordBytes: random.pick([60, 700, 2500]),
    durability: random.chance(0.15) ? 'os' : 'disk',
  })
  const frames = framesOf(whole)
  const damaged = another(whole)
  const done: string[] = []
  try {
    for (let i = random.between(1, 4); i > 0; i--) {
      if (segmentFiles(damaged.disk).length > 0) done.push(await random.pick(blows)(damaged, random))
    }
    const names = filesIn(damaged.disk)
    if (!names.some((name) => /^MANIFEST-|\.seg$/.test(name))) return
    const mode = random.chance(0.8) ? 'tail' : 'point-in-time'
    const { report, contents } = await repaired(damaged, mode, isEndKnown(whole, damaged, closed))
    if (mode === 'tail') {
      const safe = mustSurvive(frames, whole, damaged)
      // What follows a hole at the unproven end of a log that was not closed was never acknowledged.
      const last = closed ? 0 : (frames.at(-1)?.lsns[0] ?? 0)
      const firstOfTail = frames.findLast(({ position }) => position === 4096)?.lsns[0] ?? last
      for (const lsn of whole.records.keys()) {
        if (safe.has(lsn) && (closed || lsn < firstOfTail)) expect(contents.has(lsn), `LSN ${lsn} is intact`).toBe(true)
      }
    }
    if (report.applied) {
      const before = snapshot(damaged.disk)
      const { environment, disk } = another(damaged)
      await repairLog(environment, directory, { apply: true, mode })
      await undoRepair(environment, directory, { apply: true })
      // A temporary file that a dead process left may be gone: every opening removes it.
      const lasting = (files: Map<string, string>) => [...files].filter(([path]) => !path.endsWith('.tmp'))
      const now = lasting(snapshot(disk))
      const changed = now.flatMap(([path, bytes]) => (before.get(path) === bytes ? [] : [path]))
      expect(changed.join(), 'files that undo did not restore').toBe('')
      expect(now).toEqual(lasting(before))
    }
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error)
    throw new Error(`TIDELOG_SEED=${seed} TIDELOG_RUNS=1: ${done.join('; ')}: ${what}`, { cause: error })
  }
}

/** Each once found a fault of the repair, or of what verify says. */
const regressions = [
  [28, 'a frame of which only padding is gone'],
  [32, 'no manifest, and a last segment of which nothing is left but its header'],
  [40, 'no manifest, and a last segment that is cut short'],
  [174, 'nothing that is left tells the id of the log'],
  [261, 'a log whose manifest had not followed its last roll, repaired and undone'],
  [288, 'the file that the last seal names holds another segment'],
  [5822, 'a damaged segment and a damaged copy of it, each with a frame that the other has lost'],
  [300142, 'a file without header under an LSN in the middle of a segment'],
  [6249, 'nothing is left of a segment, and the next one is missing'],
] as const

describe('repair of random damage', () => {
  it.each(regressions)('seed %i: %s', async (seed) => {
    await run(seed)
  })

  it(`never throws, leaves a sound log, and loses only what is damaged (${runs} seeds from ${firstSeed})`, async () => {
    const failures: string[] = []
    for (let seed = firstSeed; seed < firstSeed + runs && failures.length < 5; seed++) {
      await run(seed).catch((error: Error) => failures.push(error.message))
    }
    expect(failures).toEqual([])
  }, 3_600_000)
})
