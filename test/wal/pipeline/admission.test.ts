import { describe, expect, test } from 'vitest'
import { Admission, type AdmissionLimits, type ThrottleState } from '../../../src/wal/pipeline/admission.ts'
import { AdmissionGate } from '../../../src/wal/pipeline/admission-gate.ts'
import { ManualClock, turn } from '../manual-clock.ts'

function makeBound(limits: AdmissionLimits) {
  const clock = new ManualClock()
  const bound = new Admission(clock, 'pchannel 3', limits)
  const states: ThrottleState['state'][] = []
  bound.onChange(({ state }) => states.push(state))
  return { clock, bound, states, gate: new AdmissionGate(clock, [bound]) }
}

describe('the rate', () => {
  test('a burst passes; then appends are held back as long as they owe, and refused when that is too long', async () => {
    const { clock, bound, states } = makeBound({ bytesPerSecond: 1_000, burstBytes: 500, delayMsMax: 800 })
    expect(bound.enter(500)).toBe(0)
    expect(bound.state.state).toBe('ok')
    expect(bound.enter(300)).toBe(300)
    expect(bound.enter(500)).toBe(800)
    expect(bound.state).toEqual({ state: 'slow', bytesPerSecond: 1_000 })
    expect(() => bound.enter(1)).toThrow(
      expect.objectContaining({ code: 'RATE_LIMITED', retriable: true, outcome: 'not-written' }),
    )
    expect(() => bound.enter(1)).toThrow(/pchannel 3/)
    expect(bound.statistics()).toEqual({ bytes: 1_300, delayed: 2, delayedMs: 1_100, refused: 2 })
    expect(states).toEqual(['slow', 'refusing'])
    // Nobody comes any more, and still the state goes back.
    await clock.advance(2_000)
    expect(states).toEqual(['slow', 'refusing', 'slow', 'ok'])
    expect(clock.timers).toBe(0)
    expect(bound.enter(500)).toBe(0)
  })

  test('the rate is kept over a long time, whoever asks', async () => {
    const { clock, bound } = makeBound({ bytesPerSecond: 10_000, burstBytes: 1_000 })
    let bytes = 0
    const startMs = clock.monotonicMs()
    for (let turns = 0; turns < 200; turns++) {
      const delay = bound.enter(700)
      bytes += 700
      await clock.advance(delay)
    }
    const seconds = (clock.monotonicMs() - startMs) / 1_000
    expect(bytes / seconds).toBeGreaterThan(9_900)
    expect((bytes - 1_000) / seconds).toBeLessThan(10_100)
  })

  test('what is larger than the whole burst is let in when nothing is owed', async () => {
    const { clock, bound } = makeBound({ bytesPerSecond: 1_000, burstBytes: 100 })
    expect(bound.enter(5_000)).toBe(0)
    expect(() => bound.enter(1)).toThrow(/4901 ms/)
    await clock.advance(4_999)
    expect(bound.enter(100)).toBeGreaterThan(0)
  })

  test('a step of the wall clock changes nothing', async () => {
    const { clock, bound } = makeBound({ bytesPerSecond: 1_000 })
    bound.enter(1_000)
    clock.stepMs = 3_600_000
    expect(bound.enter(500)).toBe(500)
    clock.stepMs = -3_600_000
    expect(bound.enter(500)).toBe(1_000)
  })
})

describe('the memory', () => {
  test('slow before full, refused when full, and open again only when a fifth is free', () => {
    const { bound, states } = makeBound({ memoryBytes: 1_000, delayMsMax: 1_000 })
    for (let index = 0; index < 8; index++) expect(bound.enter(100)).toBe(0)
    const first = bound.enter(100)
    const second = bound.enter(100)
    expect(first).toBeGreaterThan(0)
    expect(second).toBeGreaterThan(first)
    expect(() => bound.enter(1)).toThrow(expect.objectContaining({ code: 'RATE_LIMITED', outcome: 'not-written' }))
    expect(() => bound.enter(1)).toThrow(/1000 bytes are under way/)
    bound.release(100)
    expect(() => bound.enter(1)).toThrow(/RATE|refuses/)
    bound.release(100)
    bound.release(100)
    expect(bound.enter(50)).toBe(0)
    expect(states).toEqual(['slow', 'refusing', 'ok'])
  })

  test('one that is larger than the bound is let in alone', () => {
    const { bound } = makeBound({ memoryBytes: 1_000 })
    expect(bound.enter(5_000)).toBe(0)
    expect(() => bound.enter(1)).toThrow(/refuses appends/)
    bound.release(5_000)
    expect(bound.enter(1)).toBe(0)
  })
})

describe('the gate', () => {
  test('the node bounds all its pchannels together, and what it refuses is counted nowhere', () => {
    const clock = new ManualClock()
    const node = new Admission(clock, 'the node', { memoryBytes: 1_000 })
    const one = new Admission(clock, 'pchannel 1', { memoryBytes: 10_000 })
    const two = new Admission(clock, 'pchannel 2', { memoryBytes: 10_000 })
    expect(new AdmissionGate(clock, [one, node]).enter(800, undefined)).toBeNull()
    const other = new AdmissionGate(clock, [two, node])
    expect(() => other.enter(500, undefined)).toThrow(/the node refuses/)
    expect([one, two, node].map((bound) => bound.statistics().bytes)).toEqual([800, 0, 800])
  })

  test('those that are held back leave in the order in which they came', async () => {
    const { clock, gate } = makeBound({ bytesPerSecond: 1_000, burstBytes: 100 })
    const order: string[] = []
    const enter = (name: string, bytes: number) => {
      const waiting = gate.enter(bytes, undefined)
      if (waiting === null) order.push(name)
      else void waiting.then(() => order.push(name))
    }
    enter('first', 100)
    enter('second', 500)
    enter('third', 10)
    await clock.advance(100)
    enter('fourth', 1)
    await turn()
    expect(order).toEqual(['first'])
    await clock.advance(1_000)
    expect(order).toEqual(['first', 'second', 'third', 'fourth'])
  })

  test('an abort ends the wait, and what it counted', async () => {
    const { clock, bound, gate } = makeBound({ bytesPerSecond: 1_000, burstBytes: 100 })
    expect(gate.enter(100, undefined)).toBeNull()
    const controller = new AbortController()
    const waiting = gate.enter(500, controller.signal)
    const behind = gate.enter(10, undefined)
    controller.abort('enough')
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-written', cause: 'enough' })
    expect(bound.statistics().bytes).toBe(110)
    await clock.advance(1_000)
    await behind
    expect(clock.timers).toBe(0)
  })
})

test('limits that are no positive numbers are refused', () => {
  const clock = new ManualClock()
  for (const limits of [{ bytesPerSecond: 0 }, { memoryBytes: -1 }, { burstBytes: Number.NaN }, { delayMsMax: -1 }]) {
    expect(() => new Admission(clock, 'x', limits)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
})
