/**
 * Virtual time. By itself it moves on whenever the code under test has nothing left to do at the present moment
 * (`auto`, the default), or only by `advance`. Timers at the same moment fire in the order they were set.
 *
 * Between two timers everything that JavaScript has ready (promises, ticks) is done. Real asynchrony
 * (files, worker threads) is not waited for; code under simulation has none.
 */
import type { Clock, Timer } from '../../native-free-storage/environment.ts'

const pumpsBetweenImmediates = 64

interface Waiting {
  atMs: number
  order: number
  callback: () => void
  cancelled: boolean
}

export class SimClock implements Clock {
  #nowMs: number
  #stepMs = 0
  readonly #startMs: number
  readonly #auto: boolean
  #order = 0
  #stopped = false
  #pumping = false
  #pumps = 0
  /** Called when nothing is ready and no timer is left, or when it is later than `untilMs`: whoever waits, waits for ever. */
  onEnd: (() => void) | undefined
  untilMs = Number.POSITIVE_INFINITY
  /** Binary heap by time, then order. */
  readonly #heap: Waiting[] = []

  constructor(options: { startMs?: number; auto?: boolean } = {}) {
    this.#startMs = options.startMs ?? Date.UTC(2026, 0, 1)
    this.#nowMs = 0
    this.#auto = options.auto ?? true
  }

  nowMs(): number {
    return Math.floor(this.#startMs + this.#nowMs + this.#stepMs)
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, callback: () => void): Timer {
    const entry: Waiting = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      order: this.#order++,
      callback,
      cancelled: false,
    }
    this.#push(entry)
    if (this.#auto) this.#pump()
    return {
      cancel: () => {
        entry.cancelled = true
      },
    }
  }

  /** Steps the wall clock, forward or back; the monotonic one is not touched. */
  stepWallClock(byMs: number): void {
    this.#stepMs += byMs
  }

  /** No timer ever fires again. For the end of a test, and for a machine that lost its power. */
  stop(): void {
    this.#stopped = true
    this.#heap.length = 0
  }

  /** Moves on by `byMs`, firing what falls due, in order. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs
    await settle()
    while (!this.#stopped) {
      const next = this.#next()
      if (next === undefined || next.atMs > untilMs) break
      this.#fire()
      await settle()
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs)
  }

  /**
   * The next timer fires when nothing is ready any more. A tick of Node's that is asked for in a promise job runs when
   * all promise jobs are done: ten times as cheap as an immediate, which lets others run now and then.
   */
  #pump(): void {
    if (this.#pumping || this.#stopped) return
    this.#pumping = true
    const next = () => {
      this.#pumping = false
      if (this.#next() === undefined || this.#nowMs > this.untilMs) {
        this.onEnd?.()
        return
      }
      this.#fire()
      this.#pump()
    }
    if (++this.#pumps % pumpsBetweenImmediates === 0) setImmediate(next)
    else queueMicrotask(() => process.nextTick(next))
  }

  #fire(): void {
    const entry = this.#pop()
    this.#nowMs = Math.max(this.#nowMs, entry.atMs)
    entry.callback()
  }

  #next(): Waiting | undefined {
    while (this.#heap.length > 0 && this.#heap[0]!.cancelled) this.#pop()
    return this.#heap[0]
  }

  #push(entry: Waiting): void {
    const heap = this.#heap
    if (this.#stopped) return
    let index = heap.push(entry) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(entry, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = entry
  }

  #pop(): Waiting {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) {
      let index = 0
      for (;;) {
        let child = 2 * index + 1
        if (child >= heap.length) break
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
        if (!before(heap[child]!, last)) break
        heap[index] = heap[child]!
        index = child
      }
      heap[index] = last
    }
    return top
  }
}

function before(a: Waiting, b: Waiting): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** Lets everything that is ready run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
