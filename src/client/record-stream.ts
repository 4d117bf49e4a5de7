/** What `consume` gives: the records of some vchannels, from all their groups, one after the other. */
import { TidelogError } from '../errors.ts'
import type { TickMessage } from '../protocol/consume-messages.ts'
import { decodeResolved, encodeResolve } from '../protocol/control-messages.ts'
import { CONSUME_TYPES_MAX, CONSUME_VCHANNELS_MAX } from '../protocol/limits.ts'
import { MessageType } from '../protocol/message.ts'
import { onAbort } from './abort-listeners.ts'
import { checkName, refused } from './check-record.ts'
import { GroupStream } from './group-stream.ts'
import type { ReceivedFrame } from './received-frame.ts'
import type { Session } from './session.ts'
import { abortedError } from './settings.ts'
import type { ConsumedRecord, ConsumeOptions, ConsumePosition, RecordStream } from './types.ts'

const WINDOW_BYTES_MIN = 64 * 1024
const RESOLVES_AT_A_TIME = 32
const DAY_MS = 86_400_000
const TICK_MAX = 2n ** 64n - 1n

interface TickWaiter {
  tick: bigint
  resolve(): void
  reject(error: TidelogError<string>): void
}

export class ConsumedRecords implements RecordStream, AsyncIterator<ConsumedRecord, undefined> {
  readonly #session: Session
  readonly #vchannels: readonly string[]
  readonly #options: ConsumeOptions
  readonly #onEnd: () => void
  #stopListening: (() => void) | undefined
  #streams = new Map<number, GroupStream>()
  #began = false
  #ended = false
  #opening: Promise<void> | null = null
  #ready: ReceivedFrame[] = []
  #readyHead = 0
  #current: ReceivedFrame | null = null
  #left: number
  #wake: (() => void) | null = null
  #busy: Promise<unknown> | null = null
  #watermark = 0n
  #tickWaiters: TickWaiter[] = []
  #nextTickMs = Number.NEGATIVE_INFINITY
  /** What `onTick` has thrown. */
  #tickError: { error: unknown } | null = null

  /** Throws INVALID_ARGUMENT and LIMIT_EXCEEDED. `onEnd` is called once, if it ever began. */
  constructor(
    session: Session,
    vchannels: string | readonly string[],
    options: ConsumeOptions,
    events: { onBegin: () => void; onEnd: () => void },
  ) {
    const names = typeof vchannels === 'string' ? [vchannels] : [...new Set(vchannels)]
    if (names.length === 0) throw refused('a consumer needs a vchannel')
    for (const name of names) checkName(name)
    const { limit, types, from, afterTick, ticksEveryMs } = options
    if (limit !== undefined && (!Number.isSafeInteger(limit) || limit < 0))
      throw refused('a limit is an integer from 0 on')
    if (types !== undefined) checkTypes(types)
    checkPosition(from)
    if (afterTick !== undefined && !(typeof afterTick === 'bigint' && afterTick >= 0n && afterTick < TICK_MAX)) {
      throw refused('afterTick is a bigint below 2^64 - 1')
    }
    if (
      ticksEveryMs !== undefined &&
      !(typeof ticksEveryMs === 'number' && ticksEveryMs >= 0 && ticksEveryMs <= DAY_MS)
    ) {
      throw refused(`ticksEveryMs is a number from 0 to ${DAY_MS}`)
    }
    this.#session = session
    this.#vchannels = names
    this.#options = options
    this.#left = limit ?? Number.POSITIVE_INFINITY
    this.#onBegin = events.onBegin
    this.#onEnd = events.onEnd
  }

  readonly #onBegin: () => void;

  [Symbol.asyncIterator](): AsyncIterator<ConsumedRecord, undefined> {
    if (this.#began) throw refused('a consumer is iterated once')
    this.#began = true
    return this
  }

  watermark(): bigint {
    return this.#watermark
  }

  reached(tick: bigint, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#watermark >= tick) return Promise.resolve()
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(ended())
        return
      }
      const leave = () => {
        stopListening?.()
        this.#tickWaiters = this.#tickWaiters.filter((other) => other !== waiter)
      }
      let stopListening: (() => void) | undefined
      const waiter: TickWaiter = {
        tick,
        resolve: () => {
          leave()
          resolve()
        },
        reject: (error) => {
          leave()
          reject(error)
        },
      }
      this.#tickWaiters.push(waiter)
      if (signal?.aborted) waiter.reject(abortedError(signal))
      else if (signal !== undefined) stopListening = onAbort(signal, () => waiter.reject(abortedError(signal)))
    })
  }

  next(): Promise<IteratorResult<ConsumedRecord, undefined>> {
    // The fast way: nothing is awaited while a frame has more.
    if (this.#busy === null && this.#current !== null && !this.#ended && this.#left > 0) {
      try {
        const record = this.#options.signal?.aborted ? null : this.#current.next()
        if (record !== null) {
          this.#left--
          return Promise.resolve({ done: false, value: record })
        }
      } catch (error) {
        this.#finish()
        return Promise.reject(error)
      }
    }
    const step: Promise<IteratorResult<ConsumedRecord, undefined>> = (this.#busy ?? Promise.resolve()).then(() =>
      this.#step(),
    )
    const settled = step
      .catch(() => {})
      .then(() => {
        if (this.#busy === settled) this.#busy = null
      })
    this.#busy = settled
    return step
  }

  return(): Promise<IteratorResult<ConsumedRecord, undefined>> {
    this.#finish()
    return Promise.resolve({ done: true, value: undefined })
  }

  /** The client is closed: it ends as if it had been left. */
  end(): void {
    this.#finish()
  }

  onTick(tick: TickMessage): void {
    for (const stream of this.#streams.values()) stream.onTick(tick)
  }

  async #step(): Promise<IteratorResult<ConsumedRecord, undefined>> {
    try {
      const record = await this.#advance()
      if (record !== null) return { done: false, value: record }
      this.#finish()
      return { done: true, value: undefined }
    } catch (error) {
      this.#finish()
      throw error
    }
  }

  async #advance(): Promise<ConsumedRecord | null> {
    for (;;) {
      if (this.#ended || this.#left <= 0) return null
      if (this.#options.signal?.aborted) throw abortedError(this.#options.signal)
      this.#opening ??= this.#open()
      await this.#opening
      if (this.#ended) return null
      const frame = this.#current
      if (frame !== null) {
        const record = frame.next()
        if (record !== null) {
          this.#left--
          return record
        }
        this.#current = null
        this.#streams.get(frame.group)!.consumed(frame)
        this.#raiseWatermark()
      }
      if (this.#takeReady()) continue
      if (this.#tickError !== null) throw this.#tickError.error
      const error = this.#firstError()
      if (error !== null) throw error
      if ([...this.#streams.values()].every((stream) => stream.done)) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #takeReady(): boolean {
    if (this.#readyHead === this.#ready.length) return false
    this.#current = this.#ready[this.#readyHead]!
    this.#readyHead++
    if (this.#readyHead === this.#ready.length) {
      this.#ready = []
      this.#readyHead = 0
    } else if (this.#readyHead >= 256) {
      this.#ready = this.#ready.slice(this.#readyHead)
      this.#readyHead = 0
    }
    return true
  }

  /** Learns the groups and begins to read them. Nothing was sent before. */
  async #open(): Promise<void> {
    const {
      signal,
      from = 'earliest',
      types,
      untilCaughtUp = false,
      onGap,
      afterTick,
      ticksEveryMs = 0,
    } = this.#options
    const atTick = typeof from === 'object' && 'timeTick' in from ? from.timeTick : 0n
    const fromTick = afterTick !== undefined && afterTick >= atTick ? afterTick + 1n : atTick
    if (this.#session.closed !== null) throw this.#session.closed
    if (signal !== undefined) this.#stopListening = onAbort(signal, () => this.#wakeUp())
    this.#onBegin()
    const groups = await this.#groups()
    if (this.#ended) return
    const parts: [number, readonly string[]][] = []
    for (const [group, names] of groups) {
      for (let at = 0; at < names.length; at += CONSUME_VCHANNELS_MAX) {
        parts.push([group, names.slice(at, at + CONSUME_VCHANNELS_MAX)])
      }
    }
    if (parts.length > groups.size) {
      throw refused(`more than ${CONSUME_VCHANNELS_MAX} vchannels of one group in a consumer`, 'LIMIT_EXCEEDED')
    }
    const windowBytes = Math.max(WINDOW_BYTES_MIN, Math.floor(this.#session.settings.consumeBytes / groups.size))
    for (const [group, vchannels] of parts) {
      const stream = new GroupStream({
        group,
        vchannels,
        from: typeof from === 'object' && 'timeTick' in from ? { timeTick: fromTick } : from,
        fromTick,
        ticksEveryMs,
        types,
        untilCaughtUp,
        windowBytes,
        session: this.#session,
        onFrame: (frame) => {
          this.#ready.push(frame)
          this.#wakeUp()
        },
        onGap: (gap) => onGap?.(gap),
        onProgress: () => {
          this.#raiseWatermark()
          this.#wakeUp()
        },
      })
      this.#streams.set(group, stream)
    }
    for (const stream of this.#streams.values()) void stream.start()
  }

  async #groups(): Promise<Map<number, string[]>> {
    const { signal, create = false } = this.#options
    const groups = new Map<number, string[]>()
    const names = this.#vchannels
    for (let at = 0; at < names.length; at += RESOLVES_AT_A_TIME) {
      const some = names.slice(at, at + RESOLVES_AT_A_TIME)
      const answers = await Promise.all(
        some.map((vchannel) => {
          const meta = encodeResolve({ vchannel, create })
          return this.#session.request(MessageType.resolve, MessageType.resolved, meta, { signal, repeat: true })
        }),
      )
      for (const [index, answer] of answers.entries()) {
        const { group } = decodeResolved(answer.meta)
        const known = groups.get(group)
        if (known === undefined) groups.set(group, [some[index]!])
        else known.push(some[index]!)
      }
    }
    return groups
  }

  #firstError(): TidelogError<string> | null {
    for (const stream of this.#streams.values()) if (stream.error !== null) return stream.error
    return null
  }

  #raiseWatermark(): void {
    let lowest: bigint | null = null
    for (const { watermark } of this.#streams.values()) {
      if (lowest === null || watermark < lowest) lowest = watermark
    }
    if (lowest === null || lowest <= this.#watermark) return
    this.#watermark = lowest
    for (const waiter of this.#tickWaiters) if (waiter.tick <= lowest) waiter.resolve()
    this.#tellTick(lowest)
  }

  #tellTick(timeTick: bigint): void {
    const { onTick, ticksEveryMs = 0 } = this.#options
    if (onTick === undefined || this.#ended) return
    const nowMs = this.#session.settings.clock.monotonicMs()
    if (nowMs < this.#nextTickMs) return
    this.#nextTickMs = nowMs + ticksEveryMs
    try {
      onTick(timeTick)
    } catch (error) {
      this.#tickError ??= { error }
      this.#wakeUp()
    }
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }

  #finish(): void {
    if (this.#ended) return
    this.#ended = true
    this.#stopListening?.()
    for (const stream of this.#streams.values()) stream.stop()
    this.#ready = []
    this.#readyHead = 0
    this.#current = null
    for (const waiter of this.#tickWaiters) waiter.reject(ended())
    this.#wakeUp()
    if (this.#opening !== null) this.#onEnd()
  }
}

function ended(): TidelogError<string> {
  return new TidelogError<string>('CLOSED', 'the consumer has ended')
}

function checkTypes(types: readonly number[]): void {
  if (!Array.isArray(types) || types.length > CONSUME_TYPES_MAX) throw refused(`at most ${CONSUME_TYPES_MAX} types`)
  for (const type of types) {
    if (!Number.isInteger(type) || type < 0 || type > 65_535) throw refused('a type is an integer from 0 to 65,535')
  }
}

function checkPosition(from: ConsumePosition | undefined): void {
  if (from === undefined || from === 'earliest' || from === 'latest') return
  if (typeof from === 'object' && from !== null) {
    if ('lsn' in from && isCount(from.lsn) && (from.skip === undefined || isCount(from.skip))) return
    if ('timeTick' in from && typeof from.timeTick === 'bigint' && from.timeTick >= 0n && from.timeTick < 2n ** 64n)
      return
  }
  throw refused('"from" is earliest, latest, { lsn, skip } or { timeTick }')
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
