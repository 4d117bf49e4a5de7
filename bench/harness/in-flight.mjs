/**
 * A closed loop: so and so many appends are in flight, and each that settles makes room for the next. What a number of
 * callers do who each wait for their own.
 */
import { Samples } from './statistics.mjs'

/** Of so many appends one is timed: a clock is read twice for it. A prime, so that it wanders through the frames. */
const STRIDE = 13
/** With fewer in flight each is timed. */
const STRIDE_FROM = 64

/**
 * For `warmMs` nothing is counted, then for `measureMs` what settles is. `start` begins one append.
 *
 * @param {{ start: () => Promise<unknown>, inFlight: number, warmMs: number, measureMs: number, statistics: () => any }} options
 */
export function measureInFlight({ start, inFlight, warmMs, measureMs, statistics }) {
  return new Promise((resolve, reject) => {
    const latencies = new Samples()
    const stride = inFlight >= STRIDE_FROM ? STRIDE : 1
    let issued = 0
    let settled = 0
    let running = inFlight
    let measuring = false
    let stopping = false
    let result = null

    const next = () => {
      if (stopping) {
        running--
        if (running === 0) resolve(result)
        return
      }
      issued++
      if (issued % stride !== 0) {
        start().then(onSettled, reject)
        return
      }
      const began = performance.now()
      start().then(() => {
        if (measuring) latencies.add(performance.now() - began)
        onSettled()
      }, reject)
    }
    const onSettled = () => {
      settled++
      next()
    }

    setTimeout(() => {
      measuring = true
      const before = { at: performance.now(), settled, statistics: statistics(), cpu: process.cpuUsage() }
      setTimeout(() => {
        const ms = performance.now() - before.at
        const cpu = process.cpuUsage(before.cpu)
        measuring = false
        stopping = true
        result = {
          appends: settled - before.settled,
          ms,
          latencies,
          /** Of all threads together, in cores. */
          cores: (cpu.user + cpu.system) / 1000 / ms,
          statistics: difference(statistics(), before.statistics),
        }
      }, measureMs)
    }, warmMs)
    for (let slot = 0; slot < inFlight; slot++) next()
  })
}

/** Exactly `appends` of them, `inFlight` at a time; the time runs from the first call until all have settled. */
export async function appendExactly({ start, appends, inFlight, statistics }) {
  const latencies = new Samples()
  const before = statistics()
  const began = performance.now()
  const beganCpu = process.cpuUsage()
  let left = appends
  const caller = async () => {
    while (left > 0) {
      left--
      const at = performance.now()
      await start()
      latencies.add(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: Math.min(inFlight, appends) }, caller))
  const ms = performance.now() - began
  const cpu = process.cpuUsage(beganCpu)
  return {
    appends,
    ms,
    latencies,
    cores: (cpu.user + cpu.system) / 1000 / ms,
    statistics: difference(statistics(), before),
  }
}

/** What the counters grew by. */
function difference(after, before) {
  return Object.fromEntries(
    Object.entries(after)
      .filter(([, value]) => typeof value === 'number')
      .map(([key, value]) => [key, value - before[key]]),
  )
}
