/**
 * What waits to be written: frames in the order of the calls. Bounded in bytes and in callers that wait for room.
 */
import { assert, TidelogError } from '../errors.ts'
import type { BodyLimits, RecordInput } from '../format/body-plan.ts'
import { type AppendResult, GatheredFrame, type PendingFrame } from './pending-frame.ts'

/** A gathered frame is closed at this size: a point read verifies a whole frame. */
const GATHERED_BYTES_MAX = 1024 * 1024
const GATHERED_RECORDS_MAX = 65_536
/** Callers that may wait for room, each with one frame in its hands. */
const WAITERS_MAX = 65_536

interface Waiter {
  bytes: number
  admit(): void
  reject(error: TidelogError): void
}

export class AppendQueue {
  readonly #limits: BodyLimits
  readonly #bytesMax: number
  readonly #whenFull: 'wait' | 'reject'
  #frames: PendingFrame[] = []
  #head = 0
  /** Bytes of frames that are here or under way. */
  #heldBytes = 0
  /** Bytes of frames that are here. */
  #waitingBytes = 0
  /** The last frame, while single appends may still join it. */
  #open: GatheredFrame | null = null
  #waiters: Waiter[] = []
  #waitersHead = 0

  constructor(limits: BodyLimits, bytesMax: number, whenFull: 'wait' | 'reject') {
    this.#limits = limits
    this.#bytesMax = bytesMax
    this.#whenFull = whenFull
  }

  get isEmpty(): boolean {
    return this.#head === this.#frames.length
  }

  get waitingBytes(): number {
    return this.#waitingBytes
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  get waiters(): number {
    return this.#waiters.length - this.#waitersHead
  }

  /** True: there is room now for `bytes` (or nothing is held at all, so that a large frame passes alone). */
  hasRoom(bytes: number): boolean {
    return this.waiters === 0 && (this.#heldBytes === 0 || this.#heldBytes + bytes <= this.#bytesMax)
  }

  /** Calls `admit` when there is room; rejects with QUEUE_FULL (not written, retriable) or ABORTED. */
  whenRoom(
    bytes: number,
    admit: () => void,
    reject: (error: TidelogError) => void,
    signal: AbortSignal | undefined,
  ): void {
    if (this.#whenFull === 'reject' || this.waiters >= WAITERS_MAX) {
      reject(
        new TidelogError(
          'QUEUE_FULL',
          `${this.#heldBytes} bytes wait for the disk; at most ${this.#bytesMax} may. Send more slowly, or again later.`,
          {
            outcome: 'not-written',
            retriable: true,
          },
        ),
      )
      return
    }
    const waiter: Waiter = { bytes, admit, reject }
    if (signal !== undefined) {
      const abort = () => {
        const index = this.#waiters.indexOf(waiter, this.#waitersHead)
        if (index >= 0) this.#waiters.splice(index, 1)
        reject(aborted(signal))
      }
      waiter.admit = () => {
        signal.removeEventListener('abort', abort)
        admit()
      }
      waiter.reject = (error) => {
        signal.removeEventListener('abort', abort)
        reject(error)
      }
      signal.addEventListener('abort', abort, { once: true })
    }
    this.#waiters.push(waiter)
  }

  push(frame: PendingFrame): void {
    this.#open = null
    this.#frames.push(frame)
    this.#heldBytes += frame.queuedBytes
    this.#waitingBytes += frame.queuedBytes
  }

  /** A single append joins the last frame or begins one. Throws what `planBody` throws, and then has changed nothing. */
  gather(
    record: RecordInput,
    bytes: number,
    barrierTick: bigint,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    let open = this.#open
    if (open !== null && (open.queuedBytes + bytes > GATHERED_BYTES_MAX || open.recordCount >= GATHERED_RECORDS_MAX)) {
      open = null
    }
    const frame = open ?? new GatheredFrame(this.#limits)
    const before = open === null ? 0 : frame.queuedBytes
    frame.add(record, barrierTick, resolve, reject)
    const added = frame.queuedBytes - before
    if (open === null) {
      this.#frames.push(frame)
      this.#open = frame
    }
    this.#heldBytes += added
    this.#waitingBytes += added
  }

  /** The first frame, to be measured and placed: nothing joins it any more, even if it has to stay for now. */
  peek(): PendingFrame | undefined {
    const frame = this.#frames[this.#head]
    if (frame === this.#open) this.#open = null
    return frame
  }

  /** Takes the first frame: nothing joins it any more. Its bytes stay held until it settles. */
  shift(): PendingFrame {
    const frame = this.#frames[this.#head]!
    this.#frames[this.#head] = undefined as unknown as PendingFrame
    this.#head++
    if (this.#head === this.#frames.length) {
      this.#frames = []
      this.#head = 0
    } else if (this.#head > 1024 && this.#head * 2 > this.#frames.length) {
      this.#frames = this.#frames.slice(this.#head)
      this.#head = 0
    }
    assert(frame !== this.#open, 'a frame is looked at before it is taken')
    this.#waitingBytes -= frame.queuedBytes
    return frame
  }

  /** A frame that was taken is durable. */
  settle(frame: PendingFrame, baseLsn: number, baseTimeTick: bigint): void {
    frame.settle(baseLsn, baseTimeTick)
    this.#release(frame.queuedBytes)
  }

  /** A frame that was taken is not written. */
  fail(frame: PendingFrame, error: TidelogError): void {
    this.#release(frame.queuedBytes)
    frame.fail(error)
  }

  /** A frame has settled: whoever waits for room may come. */
  #release(bytes: number): void {
    this.#heldBytes -= bytes
    while (this.waiters > 0) {
      const waiter = this.#waiters[this.#waitersHead]!
      if (this.#heldBytes !== 0 && this.#heldBytes + waiter.bytes > this.#bytesMax) return
      this.#waitersHead++
      if (this.#waitersHead === this.#waiters.length) {
        this.#waiters = []
        this.#waitersHead = 0
      } else if (this.#waitersHead > 1024) {
        this.#waiters = this.#waiters.slice(this.#waitersHead)
        this.#waitersHead = 0
      }
      waiter.admit()
    }
  }

  /** Refuses everything that has not been written. */
  rejectAll(error: () => TidelogError): void {
    const waiters = this.#waiters.slice(this.#waitersHead)
    this.#waiters = []
    this.#waitersHead = 0
    while (!this.isEmpty) {
      this.peek()
      const frame = this.shift()
      this.#heldBytes -= frame.queuedBytes
      frame.fail(error())
    }
    for (const waiter of waiters) waiter.reject(error())
  }
}

export function aborted(signal: AbortSignal): TidelogError {
  return new TidelogError('ABORTED', 'the append was aborted before it was written', {
    outcome: 'not-written',
    cause: signal.reason,
  })
}
