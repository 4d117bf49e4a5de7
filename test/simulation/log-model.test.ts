/** Random commands against a log on a simulated disk and against a list in memory: both must say the same. */
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { budget } from '../budget.ts'
import { newDisk } from './crash-runner.ts'
import { Session, ways } from './log-session.ts'
import {
  Append,
  CatchUp,
  type Command,
  Compact,
  compactions,
  Follow,
  LookBeside,
  looks,
  type Model,
  Read,
  ReadByTick,
  type Real,
  Reopen,
  StoreTicks,
  Truncate,
} from './model-commands.ts'

const KiB = 1024

beforeAll(async () => {
  await loadChecksum()
})

const size = fc.oneof(
  { arbitrary: fc.integer({ min: 8, max: 300 }), weight: 3 },
  { arbitrary: fc.integer({ min: 300, max: 3_000 }), weight: 3 },
  { arbitrary: fc.integer({ min: 8, max: 30_000 }), weight: 1 },
)
const sizes = fc.array(size, { minLength: 1, maxLength: 8 })
// Even: fast-check's doubles are mostly at the ends.
const part = fc.noBias(fc.integer({ min: 0, max: 999 })).map((thousandths) => thousandths / 1_000)
const vchannel = fc.constantFrom(undefined, 'v0', 'v1', 'v2', 'v3')
const append = fc.tuple(sizes, fc.boolean()).map(([list, batch]) => new Append(list, batch))

const commands: fc.Arbitrary<Command & fc.AsyncCommand<Model, Real>>[] = [
  append,
  append,
  append,
  fc.tuple(part, vchannel, fc.constantFrom(undefined, 0)).map(([from, name, type]) => new Read(from, name, type)),
  fc
    .tuple(part, fc.constantFrom(-1n, 0n, 1n), vchannel)
    .map(([from, beside, name]) => new ReadByTick(from, beside, name)),
  fc.tuple(part, vchannel).map(([from, name]) => new Follow(from, name)),
  fc.constant(new CatchUp()),
  part.map((to) => new Truncate(to)),
  fc.boolean().map((idle) => new LookBeside(idle)),
  fc.integer({ min: 4, max: 12 }).map((count) => new StoreTicks(count)),
  fc.integer({ min: 4, max: 12 }).map((count) => new StoreTicks(count)),
  fc.constant(new Compact()),
  fc.constantFrom('close', 'process dies', 'power is lost').map((how) => new Reopen(how)),
]

it('a log is a list that can be truncated, whatever happens to its process', async () => {
  const runs = budget({ small: 60, ci: 5_000, soak: 500_000 })
  // Small files roll often, and a small cache sends readers to them.
  const options = fc.record({
    segmentBytes: fc.constantFrom(8 * KiB, 8 * KiB, 16 * KiB, 64 * KiB, 512 * KiB),
    cacheBytes: fc.constantFrom(0, 4 * KiB, 64 * KiB, 1024 * KiB),
  })
  let commandsRun = 0
  const property = fc.asyncProperty(
    fc.constantFrom(...ways),
    options,
    fc.commands(commands, { maxCommands: 14, size: '+1' }),
    async (way, chosen, list) => {
      const session = new Session(newDisk({ names: 'strict', seed: 1 }), way, 1)
      await session.open(chosen)
      const model = { entries: [], firstLsn: 0, survivesPowerLoss: way.durability === 'disk', justAppended: false }
      const real: Real = { session, options: chosen, follower: undefined }
      try {
        await fc.asyncModelRun(() => ({ model, real }), list)
        commandsRun += [...list].length
      } finally {
        session.disk.powerLoss()
      }
    },
  )
  const seed = process.env.TIDELOG_SEED === undefined ? Date.now() & 0x7fff_ffff : Number(process.env.TIDELOG_SEED)
  const startedMs = performance.now()
  await fc.assert(property, { numRuns: runs, seed })
  const tookMs = performance.now() - startedMs
  console.log(
    `model: ${runs} runs, ${commandsRun} commands, ${compactions.segments} segments compacted, ${(tookMs / runs).toFixed(1)} ms a run, seed ${seed}`,
  )
  expect(commandsRun).toBeGreaterThan(runs)
  if (runs >= 500) expect(compactions.segments).toBeGreaterThan(runs / 50)
  expect(looks.whole).toBeGreaterThanOrEqual(looks.idle * 0.8)
})
