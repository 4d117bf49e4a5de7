import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ExclusiveLock } from '../../../src/wal/pipeline/exclusive-lock.ts'
import { budget } from '../../budget.ts'
import { ManualClock, turn } from '../manual-clock.ts'

function makeLock(options = {}) {
  const clock = new ManualClock()
  const lock = new ExclusiveLock(clock, { waitMs: 1_000, waitersMax: 100, ...options })
  const log: string[] = []
  /** Notes when it has its turn. */
  const shared = (name: string, vchannels: string[], signal?: AbortSignal) => {
    const waiting = lock.shared(vchannels, signal)
    if (waiting === null) log.push(name)
    return waiting?.then(() => void log.push(name)) ?? null
  }
  const exclusive = (name: string, vchannel: string, signal?: AbortSignal) => {
    const waiting = lock.exclusive(vchannel, signal)
    if (waiting === null) log.push(name)
    return waiting?.then(() => void log.push(name)) ?? null
  }
  return { clock, lock, log, shared, exclusive }
}

describe('the exclusive lock', () => {
  test('shared holds do not see each other, and make no promise', () => {
    const { lock } = makeLock()
    expect(lock.tryShared('a')).toBe(true)
    expect(lock.tryShared('a')).toBe(true)
    expect(lock.shared(['a', 'b'])).toBeNull()
    expect(lock.statistics).toEqual({ waiting: 0, waits: 0 })
  })

  test('an exclusive one waits for those under way on its vchannel alone', async () => {
    const { lock, log, exclusive } = makeLock()
    lock.tryShared('a')
    lock.tryShared('a')
    lock.tryShared('b')
    exclusive('ddl', 'a')
    lock.leaveShared('a')
    await turn()
    expect(log).toEqual([])
    lock.leaveShared('a')
    await turn()
    expect(log).toEqual(['ddl'])
  })

  test('while one waits, new ones on its vchannel wait behind it, and others pass', async () => {
    const { lock, log, shared, exclusive } = makeLock()
    lock.tryShared('a')
    exclusive('ddl', 'a')
    expect(lock.tryShared('a')).toBe(false)
    shared('a1', ['a'])
    expect(lock.tryShared('b')).toBe(true)
    shared('b1', ['b'])
    lock.leaveShared('a')
    await turn()
    expect(log).toEqual(['b1', 'ddl'])
    lock.leaveExclusive('a')
    await turn()
    expect(log).toEqual(['b1', 'ddl', 'a1'])
  })

  test('a pchannel-exclusive one waits for all, also for vchannel-exclusive ones, and keeps all away', async () => {
    const { lock, log, shared, exclusive } = makeLock()
    expect(exclusive('ddl a', 'a')).toBeNull()
    lock.tryShared('b')
    exclusive('flush all', '')
    shared('b1', ['b'])
    exclusive('ddl c', 'c')
    lock.leaveShared('b')
    await turn()
    expect(log).toEqual(['ddl a'])
    lock.leaveExclusive('a')
    await turn()
    expect(log).toEqual(['ddl a', 'flush all'])
    expect(lock.tryShared('d')).toBe(false)
    lock.leaveExclusive('')
    await turn()
    expect(log).toEqual(['ddl a', 'flush all', 'b1', 'ddl c'])
  })

  test('one that was there first keeps a pchannel-exclusive one away until it is done', async () => {
    const { lock, log, exclusive } = makeLock()
    exclusive('flush all', '')
    exclusive('ddl', 'a')
    await turn()
    expect(log).toEqual(['flush all'])
    lock.leaveExclusive('')
    await turn()
    expect(log).toEqual(['flush all', 'ddl'])
    exclusive('again', '')
    await turn()
    expect(log).toEqual(['flush all', 'ddl'])
    lock.leaveExclusive('a')
    await turn()
    expect(log).toEqual(['flush all', 'ddl', 'again'])
  })

  test('several vchannels at once: all or none are held, and the order is kept behind it', async () => {
    const { lock, log, shared, exclusive } = makeLock()
    exclusive('ddl', 'a')
    shared('ab', ['a', 'b'])
    shared('b', ['b'])
    exclusive('ddl b', 'b')
    await turn()
    expect(log).toEqual(['ddl'])
    lock.leaveExclusive('a')
    await turn()
    expect(log).toEqual(['ddl', 'ab', 'b'])
    lock.leaveAllShared(['a', 'b'])
    lock.leaveShared('b')
    await turn()
    expect(log).toEqual(['ddl', 'ab', 'b', 'ddl b'])
  })

  test('a deadline and an abort end a wait, and let those behind it go', async () => {
    const { clock, lock, log, shared, exclusive } = makeLock()
    lock.tryShared('a')
    const late = exclusive('late', 'a')
    const controller = new AbortController()
    const behind = shared('behind', ['a'])
    const aborted = shared('aborted', ['a'], controller.signal)
    const expectations = [
      expect(late).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-written', retriable: true }),
      expect(aborted).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written', cause: 'enough' }),
    ]
    controller.abort('enough')
    await clock.advance(1_000)
    await Promise.all(expectations)
    await behind
    expect(log).toEqual(['behind'])
    expect(lock.statistics).toEqual({ waiting: 0, waits: 3 })
    expect(clock.timers).toBe(0)
    // Nothing is left behind: the next exclusive one waits for the two holds, and gets its turn.
    exclusive('next', 'a')
    lock.leaveShared('a')
    lock.leaveShared('a')
    await turn()
    expect(log).toEqual(['behind', 'next'])
  })

  test('waiters are bounded', async () => {
    const { lock } = makeLock({ waitersMax: 2 })
    expect(lock.exclusive('a')).toBeNull()
    const waiting = [lock.shared(['a']), lock.exclusive('')]
    await expect(lock.shared(['a'])).rejects.toMatchObject({ code: 'QUEUE_FULL', outcome: 'not-written' })
    lock.leaveExclusive('a')
    await waiting[0]
    lock.leaveShared('a')
    await waiting[1]
  })

  test('with very many vchannels it forgets those that nobody holds', () => {
    const { lock } = makeLock()
    for (let index = 0; index < 20_000; index++) {
      lock.tryShared(`v${index}`)
      lock.leaveShared(`v${index}`)
    }
    expect(lock.exclusive('v7')).toBeNull()
    expect(lock.tryShared('v7')).toBe(false)
  })

  test('any mix: never two that exclude each other, everybody gets a turn, conflicting ones in order', async () => {
    const names = ['a', 'b', 'c']
    const request = fc.oneof(
      fc.record({ kind: fc.constant('shared' as const), vchannels: fc.subarray(names, { minLength: 1 }) }),
      fc.record({ kind: fc.constant('exclusive' as const), vchannels: fc.constantFrom(...names, '').map((v) => [v]) }),
    )
    type Request = { kind: 'shared' | 'exclusive'; vchannels: string[] }
    const conflict = (one: Request, two: Request) => {
      if (one.kind === 'shared' && two.kind === 'shared') return false
      if (one.vchannels[0] === '' || two.vchannels[0] === '') return true
      return one.vchannels.some((vchannel) => two.vchannels.includes(vchannel))
    }
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(request, fc.nat(3)), { maxLength: 24 }), async (program) => {
        const { lock } = makeLock()
        const holding = new Map<number, Request>()
        const order: number[] = []
        const hold = (index: number, own: Request) => {
          for (const other of holding.values()) expect(conflict(own, other)).toBe(false)
          holding.set(index, own)
          order.push(index)
        }
        const release = () => {
          const [first] = holding
          if (first === undefined) return false
          const [index, { kind, vchannels }] = first
          holding.delete(index)
          if (kind === 'shared') lock.leaveAllShared(vchannels)
          else lock.leaveExclusive(vchannels[0]!)
          return true
        }
        for (const [index, [own, releases]] of program.entries()) {
          const waiting = own.kind === 'shared' ? lock.shared(own.vchannels) : lock.exclusive(own.vchannels[0]!)
          if (waiting === null) hold(index, own)
          else void waiting.then(() => hold(index, own))
          for (let count = 0; count < releases; count++) {
            release()
            await turn()
          }
        }
        while (release()) await turn()
        expect(order.toSorted((one, two) => one - two)).toEqual(program.map((_, index) => index))
        for (const [at, index] of order.entries()) {
          for (const later of order.slice(at + 1)) {
            if (later < index) expect(conflict(program[later]![0], program[index]![0])).toBe(false)
          }
        }
      }),
      { numRuns: budget({ small: 100, ci: 1_000 }) },
    )
  })
})
