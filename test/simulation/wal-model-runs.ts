/** Draws commands and runs them: for the test of the model, and for the hunts of broken WALs. */
import fc from 'fast-check'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { MessageType } from '../../src/message/message-type.ts'
import { newDisk } from './crash-runner.ts'
import { ways } from './log-session.ts'
import type { Drawn, WalCommand } from './wal-command.ts'
import { WalModel } from './wal-model.ts'
import { Append, AppendKeyed, AppendSequenced, OpenProducer } from './wal-model-appends.ts'
import { type DrawnCall, End } from './wal-model-endings.ts'
import { CatchUp, Follow, Scan, Truncate } from './wal-model-scans.ts'
import { Confirm, StepClock } from './wal-model-time.ts'
import { Begin, Exclusive, InTransaction, Lapse } from './wal-model-transactions.ts'

const KiB = 1024
const VCHANNELS = ['a', 'b', 'c']
const TYPES = [0, 0, MessageType.insert, 40_000]
const KEYS = ['k1', 'k2', 'k3']

// Even: fast-check's numbers are mostly at the ends.
const share = fc.noBias(fc.integer({ min: 0, max: 999 }))
const vchannel = fc.constantFrom(...VCHANNELS)
const bytes = fc.oneof(
  { arbitrary: fc.integer({ min: 6, max: 60 }), weight: 6 },
  { arbitrary: fc.integer({ min: 60, max: 2_500 }), weight: 2 },
  { arbitrary: fc.integer({ min: 2_500, max: 9_000 }), weight: 1 },
)
const drawn: fc.Arbitrary<Drawn> = fc.record({ vchannel, type: fc.constantFrom(...TYPES), bytes })
const several = fc.array(drawn, { minLength: 1, maxLength: 5 })
const rarely = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 })
const call: fc.Arbitrary<DrawnCall> = fc.record({
  what: fc.constantFrom('single', 'batch', 'keyed', 'sequenced', 'body', 'commit', 'commit', 'begin', 'open'),
  share,
  drawn: several,
  key: fc.constantFrom(...KEYS),
})
const append = fc
  .tuple(several, fc.constantFrom('singles', 'batch'), fc.constantFrom(0, 0, 0, 5, 5_000))
  .map(([list, how, barrierMs]) => new Append(list, how, barrierMs))
const inTransaction = (what: 'append' | 'commit' | 'rollback') =>
  fc
    .tuple(share, fc.array(bytes, { minLength: 1, maxLength: 3 }))
    .map(([of, sizes]) => new InTransaction(of, what, what === 'append' ? sizes : []))
const keyed = fc
  .tuple(drawn, fc.constantFrom(...KEYS), fc.constantFrom('unsaid', 'now', 'first'))
  .map(([record, key, triedAt]) => new AppendKeyed(record, key, triedAt))
const sequenced = fc
  .tuple(share, fc.constantFrom('next', 'next', 'next', 'repeat', 'repeat', 'gap', 'stale', 'aborted'), bytes)
  .map(([of, what, size]) => new AppendSequenced(of, what, size))
const scan = fc
  .record({
    from: share,
    by: fc.constantFrom('lsn', 'lsn', 'after', 'unit', 'skip', 'tick'),
    vchannels: rarely(fc.subarray(VCHANNELS, { minLength: 1 })),
    types: rarely(fc.subarray([...new Set(TYPES), MessageType.dropCollection], { minLength: 1 })),
    after: rarely(share),
    fromTick: rarely(share),
    resumeEach: fc.constantFrom(1, 3, 1_000),
  })
  .map((each) => new Scan(each))
const end = fc
  .tuple(
    fc.constantFrom('close', 'process dies', 'process dies', 'power is lost', 'power is lost'),
    fc.integer({ min: 0, max: 40 }),
    fc.array(call, { maxLength: 5 }),
  )
  .map(([how, steps, calls]) => new End(how, steps, calls))

const commands: fc.Arbitrary<WalCommand>[] = [
  append,
  append,
  fc.tuple(vchannel, fc.boolean()).map(([name, isShort]) => new Begin(name, isShort)),
  fc.tuple(vchannel, fc.boolean()).map(([name, isShort]) => new Begin(name, isShort)),
  inTransaction('append'),
  inTransaction('append'),
  inTransaction('append'),
  inTransaction('commit'),
  inTransaction('commit'),
  inTransaction('rollback'),
  keyed,
  keyed,
  fc.tuple(fc.constantFrom('a', 'b'), fc.constantFrom('p', 'q')).map(([name, id]) => new OpenProducer(name, id)),
  sequenced,
  sequenced,
  fc
    .tuple(fc.constantFrom(MessageType.dropCollection, MessageType.dropCollection, MessageType.flushAll), vchannel)
    .map(([type, name]) => new Exclusive(type, name)),
  fc.constant(new Lapse()),
  fc.constantFrom(-2, -1, 1, 3).map((hours) => new StepClock(hours)),
  fc.constant(new Confirm()),
  share.map((to) => new Truncate(to)),
  scan,
  fc.tuple(share, rarely(fc.subarray(VCHANNELS, { minLength: 1 }))).map(([from, names]) => new Follow(from, names)),
  fc.constant(new CatchUp()),
  end,
  end,
]

/** Rejects with the shortest list of commands that breaks a promise. */
export async function runWalModel(
  runs: number,
  seed: number,
  shrink = true,
  onRun: () => void = () => {},
): Promise<{ runs: number; commands: number }> {
  await loadChecksum()
  // Small files roll often, a small cache sends readers to them, small frames make transactions of batches.
  const choices = fc.record({
    segmentBytes: fc.constantFrom(16 * KiB, 16 * KiB, 64 * KiB, 512 * KiB),
    cacheBytes: fc.constantFrom(0, 4 * KiB, 1024 * KiB),
    frameBytesMax: fc.constantFrom(2 * KiB, 64 * KiB),
    transactionBytes: fc.constantFrom(0, 200, 3_000, 16 * KiB * KiB),
  })
  let commandsRun = 0
  let runsDone = 0
  const property = fc.asyncProperty(
    fc.constantFrom(...ways),
    choices,
    fc.commands(commands, { maxCommands: 20, size: '+1' }),
    async (way, chosen, list) => {
      const model = new WalModel(newDisk({ names: 'strict', seed: 1 }), way, chosen)
      await model.open()
      runsDone++
      onRun()
      try {
        await fc.asyncModelRun(() => ({ model, real: model }), list)
        await model.verify()
        commandsRun += [...list].length
      } finally {
        model.session.disk.powerLoss()
      }
    },
  )
  await fc.assert(property, { numRuns: runs, seed, endOnFailure: !shrink })
  return { runs: runsDone, commands: commandsRun }
}
