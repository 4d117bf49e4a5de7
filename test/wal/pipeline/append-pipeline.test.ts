import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TidelogError } from '../../../src/errors.ts'
import { MemoryLogs } from '../../../src/log-store/memory.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import type { Effect } from '../../../src/wal/effect.ts'
import { AppendPipeline } from '../../../src/wal/pipeline/append-pipeline.ts'
import { ExclusiveLock } from '../../../src/wal/pipeline/exclusive-lock.ts'
import type { AppendUnit, Stage, UnitResult } from '../../../src/wal/pipeline/interceptor.ts'
import { NO_OPTIONS, unitOfMessages } from '../../../src/wal/unit.ts'
import { budget } from '../../budget.ts'
import { ManualClock, turn } from '../manual-clock.ts'

/** What a stage does with a unit. */
type Before = 'pass' | 'wait' | 'throw' | 'wait, then throw' | 'answer' | 'wait, then answer'

interface Plan {
  vchannels: string[]
  exclusive: boolean
  keyed: boolean
  stages: Before[]
  refusedAtLast: boolean
}

const answer: UnitResult = {
  range: { firstLsn: 4_711, lastLsn: 4_711, firstTimeTick: 1n, lastTimeTick: 1n },
  duplicate: true,
  duplicates: [],
}

const before = fc.constantFrom<Before>(
  ...(['pass', 'pass', 'pass', 'wait', 'throw', 'wait, then throw', 'answer', 'wait, then answer'] as const),
)
const plan: fc.Arbitrary<Plan> = fc.record({
  vchannels: fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
  exclusive: fc.boolean(),
  keyed: fc.boolean(),
  stages: fc.array(before, { minLength: 2, maxLength: 2 }),
  refusedAtLast: fc.boolean(),
})

/** Stages that do what the plan of each unit says, and note what is asked of them. */
class Recorder {
  readonly plans = new Map<AppendUnit, Plan>()
  readonly notes = new Map<AppendUnit, string[]>()
  readonly appliedLsns: number[] = []
  readonly afterLsns: number[] = []
  readonly refusal = new TidelogError('CLOSED', 'refused', { outcome: 'not-written' })

  note(unit: AppendUnit, what: string): void {
    this.notes.get(unit)!.push(what)
  }

  stages(): Stage[] {
    return [0, 1].map((index) => ({
      name: `stage ${index}`,
      before: (unit) => {
        const what = this.plans.get(unit)!.stages[index]!
        const act = () => {
          if (what.endsWith('throw')) throw this.refusal
          if (what.endsWith('answer')) unit.answer = answer
          this.note(unit, `before ${index}`)
        }
        if (what.startsWith('wait')) return turn().then(act)
        act()
      },
      admit: (unit) => {
        this.note(unit, `admit ${index}`)
        return index === 1 && this.plans.get(unit)!.refusedAtLast ? this.refusal : null
      },
      after: (unit, { range }) => {
        this.note(unit, `after ${index}`)
        if (index === 0) this.afterLsns.push(range.firstLsn)
      },
      failed: (unit) => this.note(unit, `failed ${index}`),
      leave: (unit) => this.note(unit, `leave ${index}`),
    }))
  }
}

function makeUnit(one: Plan): AppendUnit {
  if (one.exclusive) {
    const message = { vchannel: one.vchannels[0]!, type: MessageType.dropCollection }
    return unitOfMessages([message], 0, undefined, null, NO_OPTIONS)
  }
  const messages = one.vchannels.map((vchannel) => ({ vchannel }))
  const shared = one.keyed ? null : { transaction: 7 }
  return unitOfMessages(messages, 0, one.keyed ? 'key' : undefined, shared, NO_OPTIONS)
}

/** What has to be asked of the stages, in order; and how it ends. */
function expected(one: Plan): { notes: string[]; ends: 'written' | 'refused' | 'answered' } {
  const notes: string[] = []
  let passed = 0
  let ends: 'written' | 'refused' | 'answered' = 'written'
  for (const what of one.stages) {
    if (what.endsWith('throw')) {
      ends = 'refused'
      break
    }
    notes.push(`before ${passed++}`)
    if (what.endsWith('answer')) {
      ends = 'answered'
      break
    }
  }
  if (ends === 'written') {
    // Keys and exclusive messages are settled before.
    if (!one.exclusive && !one.keyed) {
      notes.push('admit 0', 'admit 1')
      if (one.refusedAtLast) ends = 'refused'
    }
    if (ends === 'written') notes.push('after 0', 'after 1')
  }
  const back = Array.from({ length: passed }, (_, index) => passed - 1 - index)
  if (ends === 'refused') notes.push(...back.map((index) => `failed ${index}`))
  notes.push(...back.map((index) => `leave ${index}`))
  return { notes, ends }
}

test('whatever stages do: each is told how it ended, once, in LSN order, and the lock is free in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(plan, fc.boolean()), { minLength: 1, maxLength: 12 }), async (program) => {
      const store = await new MemoryLogs().opener().open('0', 1)
      const lock = new ExclusiveLock(new ManualClock(), { waitMs: 1_000, waitersMax: 100 })
      const recorder = new Recorder()
      const apply = (effects: readonly Effect[], { firstLsn }: { firstLsn: number }) => {
        expect(effects.length).toBeGreaterThan(0)
        recorder.appliedLsns.push(firstLsn)
      }
      const pipeline = new AppendPipeline(store, lock, recorder.stages(), apply)
      const appends: Promise<void>[] = []
      for (const [one, pause] of program) {
        const unit = makeUnit(one)
        recorder.plans.set(unit, one)
        recorder.notes.set(unit, [])
        const { entered, settled } = pipeline.run(unit)
        const { notes, ends } = expected(one)
        const checked = settled.then(
          (result) => {
            expect(ends).toBe(result === answer ? 'answered' : 'written')
            if (ends === 'written') expect(result.range.firstLsn).toBeLessThan(store.nextLsn)
          },
          (error) => {
            expect(ends).toBe('refused')
            expect(error).toBe(recorder.refusal)
          },
        )
        appends.push(checked.then(() => expect(recorder.notes.get(unit)).toEqual(notes)))
        if (entered !== null) appends.push(entered)
        if (pause) await turn()
      }
      const idle = pipeline.idle()
      await Promise.all(appends)
      await idle
      expect(pipeline.underWay).toBe(0)
      const inOrder = recorder.afterLsns.toSorted((one, two) => one - two)
      expect(recorder.afterLsns).toEqual(inOrder)
      expect(recorder.appliedLsns).toEqual(inOrder)
      expect(lock.exclusive('')).toBeNull()
      await store.close()
    }),
    { numRuns: budget({ small: 150, ci: 2_000 }) },
  )
})

test('a store that throws instead of rejecting, and a stage that throws behind the log, leave nobody waiting', async () => {
  const store = await new MemoryLogs().opener().open('0', 1)
  const lock = new ExclusiveLock(new ManualClock(), { waitMs: 1_000, waitersMax: 100 })
  const broken = new Error('a broken invariant')
  let isBroken = true
  const pipeline = new AppendPipeline(store, lock, [], () => {
    if (isBroken) throw broken
  })
  const unit = () => unitOfMessages([{ vchannel: 'a' }], 0, 'key', null, NO_OPTIONS)
  await expect(pipeline.run(unit()).settled).rejects.toBe(broken)
  isBroken = false
  const { appendRecords } = store
  store.appendRecords = () => {
    throw broken
  }
  await expect(pipeline.run(unit()).settled).rejects.toBe(broken)
  store.appendRecords = appendRecords
  expect((await pipeline.run(unit()).settled).range.firstLsn).toBe(1)
  expect(pipeline.underWay).toBe(0)
  expect(lock.exclusive('')).toBeNull()
})
