import { describe, expect, it } from 'vitest'
import { SimClock } from './sim-clock.ts'

describe('the simulated clock', () => {
  it('passes minutes in no time, in order', async () => {
    const clock = new SimClock()
    const fired: string[] = []
    const begin = performance.now()
    await new Promise<void>((resolve) => {
      clock.after(600_000, () => {
        fired.push('last')
        resolve()
      })
      clock.after(10, () => {
        fired.push('first')
        clock.after(5, () => fired.push('second'))
      })
      clock.after(20, () => fired.push('cancelled')).cancel()
      clock.after(20, () => fired.push('third'))
      clock.after(20, () => fired.push('fourth'))
    })
    expect(fired).toEqual(['first', 'second', 'third', 'fourth', 'last'])
    expect(clock.monotonicMs()).toBe(600_000)
    expect(performance.now() - begin).toBeLessThan(1000)
  })

  it('lets everything that is ready run before it moves on', async () => {
    const clock = new SimClock()
    const seen: number[] = []
    const ended = new Promise<void>((resolve) => clock.after(2, resolve))
    const busy = async () => {
      for (let i = 0; i < 50; i++) await null
      seen.push(clock.monotonicMs())
    }
    clock.after(1, () => void busy())
    await ended
    expect(seen).toEqual([1])
  })

  it('stands still until it is advanced, if it is told to, and steps the wall clock alone', async () => {
    const clock = new SimClock({ auto: false, startMs: 1000 })
    let fired = 0
    clock.after(10, () => fired++)
    await new Promise((resolve) => setImmediate(resolve))
    expect(fired).toBe(0)
    await clock.advance(9)
    expect(fired).toBe(0)
    await clock.advance(1)
    expect(fired).toBe(1)
    expect(clock.nowMs()).toBe(1010)
    clock.stepWallClock(-500)
    expect(clock.nowMs()).toBe(510)
    expect(clock.monotonicMs()).toBe(10)
  })
})
