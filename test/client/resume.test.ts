/** A consumer that goes on from any position it was given has exactly the rest, whatever is cut on the way. */
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { ConsumedRecord, Transaction } from '../../src/client/types.ts'
import { budget } from '../budget.ts'
import { ModelSetup, text } from './model-setup.ts'

let setup: ModelSetup
afterEach(() => setup.close())

const seed = Number(process.env.TIDELOG_SEED ?? 1)

type Step =
  | { kind: 'plain'; vchannel: string; type: number }
  | { kind: 'begin' | 'commit' | 'rollback'; slot: number }
  | { kind: 'body'; slot: number; type: number; count: number }

const vchannel = fc.constantFrom('a', 'b')
const type = fc.constantFrom(0, 2, 3)
const slot = fc.nat(2)
const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('plain' as const), vchannel, type }),
    fc.record({ kind: fc.constantFrom('begin' as const, 'commit' as const, 'rollback' as const), slot }),
    fc.record({ kind: fc.constant('body' as const), slot, type, count: fc.integer({ min: 1, max: 3 }) }),
  ),
  { minLength: 5, maxLength: 40 },
)

/** Slot 0 and 1 write to `a`, 2 to `b`. */
async function write(program: readonly Step[]): Promise<void> {
  const { direct } = setup
  await direct.createVchannel('a')
  await direct.createVchannel('b')
  const open = new Map<number, Transaction>()
  let number = 0
  for (const step of program) {
    if (step.kind === 'plain') await direct.append(step.vchannel, { ...text(number++), type: step.type })
    else if (step.kind === 'begin') {
      if (!open.has(step.slot)) open.set(step.slot, await direct.begin(step.slot === 2 ? 'b' : 'a'))
    } else if (step.kind === 'body') {
      const records = Array.from({ length: step.count }, () => ({ ...text(number++), type: step.type }))
      await open.get(step.slot)?.appendBatch(records)
    } else {
      await open.get(step.slot)?.[step.kind]()
      open.delete(step.slot)
    }
  }
}

const shape = ({ vchannel, lsn, timeTick, type, transaction, position, payload }: ConsumedRecord) => ({
  vchannel,
  lsn,
  timeTick,
  type,
  transaction,
  position,
  payload: Buffer.from(payload).toString(),
})

describe(`a consumer that goes on (seed ${seed})`, () => {
  it('has exactly the rest, from the position of each record', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.constantFrom(undefined, [2], [0, 3]), async (program, types) => {
        setup = await ModelSetup.start()
        try {
          await write(program)
          const all = (await setup.read(['a', 'b'], { types })).map(shape)
          const ticks = all.map(({ timeTick }) => timeTick)
          expect(ticks).toEqual([...ticks].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)))
          for (const [index, { position, timeTick }] of all.entries()) {
            expect((await setup.read(['a', 'b'], { types, from: position })).map(shape)).toEqual(all.slice(index + 1))
            const later = all.filter((other) => other.timeTick > timeTick)
            expect((await setup.read(['a', 'b'], { types, afterTick: timeTick })).map(shape)).toEqual(later)
          }
        } finally {
          await setup.close()
        }
      }),
      { seed, numRuns: budget({ small: 4, ci: 60 }) },
    )
  })

  it('has every record once when its connection is cut anywhere, in the middle of transactions too', async () => {
    setup = await ModelSetup.start()
    const { direct, client, proxy } = setup
    const count = budget({ small: 15, ci: 40 })
    for (let at = 0; at < count; at++) {
      const txn = await direct.begin('a')
      for (let frame = 0; frame < 5; frame++) {
        await txn.appendBatch(
          Array.from({ length: 10 }, (_, index) => text(`${at}/${10 * frame + index}/${'x'.repeat(40)}`)),
        )
        await direct.append('a', text('plain'))
      }
      await txn.commit()
    }
    const all = (await setup.read('a')).map(shape)
    expect(all).toHaveLength(count * 55)
    let cutAt = 701 + (seed % 1000)
    proxy.cutAfter = () => {
      cutAt = 1500 + ((cutAt * 7) % 30_011)
      return cutAt
    }
    proxy.cut()
    const read: ConsumedRecord[] = []
    for await (const record of client.consume('a', { untilCaughtUp: true })) read.push(record)
    expect(proxy.connections).toBeGreaterThan(2)
    expect(read.map(shape)).toEqual(all)
  })

  it('is told of ticks between records: what has such a tick or a lower one came before', async () => {
    setup = await ModelSetup.start()
    const { direct } = setup
    await direct.createVchannel('a')
    const seen: (bigint | 'tick')[] = []
    const ticks: bigint[] = []
    const stop = new AbortController()
    const reading = (async () => {
      let highest = 0n
      const onTick = (tick: bigint) => {
        ticks.push(tick)
        seen.push('tick')
        highest = tick
      }
      for await (const { timeTick } of direct.consume('a', { onTick, signal: stop.signal })) {
        expect(timeTick).toBeGreaterThan(highest)
        seen.push(timeTick)
        if (seen.filter((item) => item !== 'tick').length === 60) return
      }
    })()
    for (let at = 0; at < 10; at++) {
      const txn = await direct.begin('a')
      await txn.appendBatch([text(1), text(2)])
      for (let plain = 0; plain < 4; plain++) await direct.append('a', text('plain'))
      await txn.commit()
      const confirmed = await direct.confirmed('a')
      expect(await direct.confirmed('a', { atLeast: confirmed + 1n })).toBeGreaterThan(confirmed)
    }
    await reading
    expect(ticks.length).toBeGreaterThan(1)
    expect([...ticks].sort((a, b) => (a < b ? -1 : 1))).toEqual(ticks)
  })

  it('ends with what onTick throws', async () => {
    setup = await ModelSetup.start()
    const { direct } = setup
    await direct.append('a', text(1))
    const onTick = () => {
      throw new Error('enough')
    }
    const reading = (async () => {
      for await (const _ of direct.consume('a', { onTick }));
    })()
    await expect(reading).rejects.toThrow('enough')
    expect(await setup.read('a')).toHaveLength(1)
  })
})
