/**
 * All appends of a client: which group each vchannel belongs to, how many bytes are on their way, and their deadlines.
 * Plain ones go to the queue of their group; those of a transaction or of a producer with an identity to its lane.
 */
import type { RecordInput } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { isExclusive } from '../message/message-type.ts'
import { decodeResolved, encodeResolve } from '../protocol/control-messages.ts'
import { RECORDS_MAX } from '../protocol/limits.ts'
import { MessageType } from '../protocol/message.ts'
import { AppendEntry, type EntryInput, type SubmitOrder } from './append-entry.ts'
import { checkName, checkRecord, RECORD_OVERHEAD_BYTES, recordBytes, refused } from './check-record.ts'
import type { FrameLane } from './frame-lane.ts'
import { GroupQueue } from './group-queue.ts'
import { pauseMsOf } from './retry-pause.ts'
import type { Session } from './session.ts'
import { abortedError } from './settings.ts'
import { Throttles } from './throttles.ts'
import type { AppendOptions, AppendRecord, BatchOptions } from './types.ts'

const SWEEP_MS = 250
const ROUTES_MAX = 65_536
/** Of the head of a body: its header, the name, the contexts; and of each record its row. */
const BODY_MARGIN_BYTES = 4096
const ROW_BYTES_ABOUT = 32
const TICK_MAX = 0xffff_ffff_ffff_ffffn

interface Route {
  group: number | null
  /** Until the group is known, in the order of the calls. */
  waiting: AppendEntry[]
  resolving: boolean
}

export class Appends {
  readonly #session: Session
  readonly #routes = new Map<string, Route>()
  readonly #queues = new Map<number, GroupQueue>()
  readonly #lanes = new Set<FrameLane>()
  readonly #throttles: Throttles
  readonly #onSettled = (entry: AppendEntry) => this.#settled(entry)
  #bytes = 0
  #unsettled = 0
  #roomWaiters: (() => void)[] = []
  #idleWaiters: (() => void)[] = []
  #sweepTimer: { cancel(): void } | null = null
  #closed: TidelogError<string> | null = null

  constructor(session: Session) {
    this.#session = session
    this.#throttles = new Throttles(session.settings.onThrottle)
    session.add({
      onConnected: () => {
        this.#forgetGroups()
        this.#throttles.forget()
      },
      onThrottle: (throttle) => this.#throttles.set(throttle),
    })
  }

  /** Bytes of records that are not settled. */
  get pendingBytes(): number {
    return this.#bytes
  }

  /** Throws INVALID_ARGUMENT, LIMIT_EXCEEDED, QUEUE_FULL, ABORTED, CLOSED: nothing of it is written. */
  append(vchannel: string, record: AppendRecord, options: AppendOptions, order: SubmitOrder | null): AppendEntry {
    checkName(vchannel)
    const { idempotencyKey: key, firstTriedAt = 0n } = options
    checkTick(firstTriedAt, 'firstTriedAt')
    const input = checkRecord(vchannel, record, { key })
    const entry = this.#enter(vchannel, input, this.#checkSize(input, -1), options, {
      order,
      isKeyed: key !== undefined,
      firstTriedAt,
      alone: isExclusive(input.type ?? 0),
    })
    this.#give(vchannel, entry)
    return entry
  }

  /** Throws as `append`, and LIMIT_EXCEEDED for what does not fit one frame. */
  appendBatch(
    vchannel: string,
    records: readonly AppendRecord[],
    options: BatchOptions,
    order: SubmitOrder | null,
  ): AppendEntry {
    const { inputs, bytes } = this.#checkBatch(vchannel, records)
    const entry = this.#enter(vchannel, inputs, bytes, options, { order })
    this.#give(vchannel, entry)
    return entry
  }

  /** A record of a transaction or of a producer. Throws as `append`. */
  appendTo(
    lane: FrameLane,
    vchannel: string,
    record: AppendRecord,
    options: BatchOptions & { sequence?: number | undefined },
    order: SubmitOrder,
  ): AppendEntry {
    const input = checkRecord(vchannel, record, { contextIndex: 0 })
    refuseExclusive(input)
    const entry = this.#enter(vchannel, input, this.#checkSize(input, -1), options, {
      order,
      sequence: options.sequence,
    })
    lane.push(entry)
    return entry
  }

  /** Throws as `appendBatch`. */
  appendBatchTo(
    lane: FrameLane,
    vchannel: string,
    records: readonly AppendRecord[],
    options: BatchOptions,
    order: SubmitOrder,
  ): AppendEntry {
    const { inputs, bytes } = this.#checkBatch(vchannel, records, 0)
    const entry = this.#enter(vchannel, inputs, bytes, options, { order })
    lane.push(entry)
    return entry
  }

  addLane(lane: FrameLane): void {
    this.#lanes.add(lane)
  }

  removeLane(lane: FrameLane): void {
    this.#lanes.delete(lane)
  }

  /** Whether the records go in one frame, as far as can be told before they are encoded. */
  fitsOneFrame(records: readonly AppendRecord[]): boolean {
    if (records.length > RECORDS_MAX) return false
    let bytes = BODY_MARGIN_BYTES
    const max = this.#session.limits.bodyBytesMax
    for (const record of records) {
      // What makes no sense is refused where it is checked.
      if (typeof record !== 'object' || record === null) return true
      bytes += ROW_BYTES_ABOUT + recordBytes({ vchannel: '', ...record })
      if (bytes > max) return false
    }
    return true
  }

  /** The vchannel is there, created if need be: learned from the node once a connection. */
  async ensure(vchannel: string, signal: AbortSignal | undefined): Promise<number> {
    checkName(vchannel)
    if (this.#closed !== null) throw this.#closed
    const route = this.#route(vchannel)
    if (route.group !== null) return route.group
    const meta = encodeResolve({ vchannel, create: true })
    const answer = await this.#session.request(MessageType.resolve, MessageType.resolved, meta, {
      signal,
      repeat: true,
    })
    const { group } = decodeResolved(answer.meta)
    // Those that wait for it are in order, and are given by who resolves for them.
    if (route.waiting.length === 0) route.group = group
    return group
  }

  /** Settles when less than `submitBytes` are on their way, and less of this producer while its group is throttled. */
  room(vchannel: string, order: SubmitOrder): Promise<void> | null {
    const { submitBytes } = this.#session.settings
    if (this.#bytes >= submitBytes) return new Promise((resolve) => this.#roomWaiters.push(resolve))
    const group = this.#routes.get(vchannel)?.group
    return group === undefined || group === null ? null : this.#throttles.room(group, order, submitBytes)
  }

  /** Settles when nothing is on its way. */
  idle(): Promise<void> {
    if (this.#unsettled === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  /** Nothing more is taken. */
  refuseNew(error: TidelogError<string>): void {
    this.#closed = error
  }

  /** Settles everything that is left: unknown where it was sent, else not written. */
  fail(error: TidelogError<string>): void {
    for (const queue of this.#queues.values()) queue.fail(error)
    for (const lane of [...this.#lanes]) lane.fail(error)
    for (const route of this.#routes.values()) failAll(route, error)
    this.#sweepTimer?.cancel()
  }

  #checkBatch(
    vchannel: string,
    records: readonly AppendRecord[],
    contextIndex?: number,
  ): { inputs: RecordInput[]; bytes: number } {
    checkName(vchannel)
    if (!Array.isArray(records) || records.length === 0) throw refused('a batch is an array of one record or more')
    if (records.length > RECORDS_MAX) {
      throw refused(
        `a batch of ${records.length} records passes the limit of ${RECORDS_MAX}: split it`,
        'LIMIT_EXCEEDED',
      )
    }
    let bytes = 0
    const inputs = records.map((record, index) => {
      const input = checkRecord(vchannel, record, { contextIndex })
      if (records.length > 1 || contextIndex !== undefined) refuseExclusive(input)
      bytes += this.#checkSize(input, index)
      return input
    })
    const max = this.#session.limits.bodyBytesMax
    if (bytes > max + RECORD_OVERHEAD_BYTES * inputs.length) {
      throw refused(`a batch of ${bytes} bytes passes the limit of ${max} bytes a frame: split it`, 'LIMIT_EXCEEDED')
    }
    return { inputs, bytes }
  }

  #checkSize(input: RecordInput, index: number): number {
    const bytes = recordBytes(input)
    const max = this.#session.limits.recordBytesMax
    if (bytes > max) {
      const which = index < 0 ? 'the record' : `record ${index} of the batch`
      throw refused(`${which} has ${bytes} bytes, more than the limit of ${max}`, 'LIMIT_EXCEEDED')
    }
    return bytes + RECORD_OVERHEAD_BYTES
  }

  #enter(
    vchannel: string,
    records: RecordInput | readonly RecordInput[],
    bytes: number,
    { signal, barrierTick = 0n }: BatchOptions,
    more: Pick<EntryInput, 'order' | 'isKeyed' | 'firstTriedAt' | 'alone' | 'sequence'>,
  ): AppendEntry {
    const { clock, appendTimeoutMs, queueBytes } = this.#session.settings
    if (this.#closed !== null) throw this.#closed
    if (signal?.aborted) {
      throw new TidelogError<string>('ABORTED', abortedError(signal).message, {
        cause: signal.reason,
        outcome: 'not-written',
      })
    }
    checkTick(barrierTick, 'a barrier tick')
    if (this.#bytes > 0 && this.#bytes + bytes > queueBytes) {
      throw new TidelogError<string>('QUEUE_FULL', `more than ${queueBytes} bytes of appends are on their way`, {
        outcome: 'not-written',
        retriable: true,
      })
    }
    const deadlineMs = clock.monotonicMs() + appendTimeoutMs
    const onSettled = this.#onSettled
    const entry = new AppendEntry({ vchannel, records, bytes, deadlineMs, barrierTick, signal, onSettled, ...more })
    this.#bytes += bytes
    this.#unsettled++
    this.#watch()
    return entry
  }

  #give(vchannel: string, entry: AppendEntry): void {
    const route = this.#route(vchannel)
    if (route.group !== null && route.waiting.length === 0) this.#queue(route.group).push(entry)
    else {
      route.waiting.push(entry)
      if (!route.resolving) void this.#resolve(vchannel, route)
    }
  }

  #settled(entry: AppendEntry): void {
    this.#bytes -= entry.bytes
    this.#unsettled--
    if (this.#roomWaiters.length > 0 && this.#bytes < this.#session.settings.submitBytes) {
      for (const resolve of this.#roomWaiters.splice(0)) resolve()
    }
    if (this.#unsettled === 0) for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #route(vchannel: string): Route {
    let route = this.#routes.get(vchannel)
    if (route === undefined) {
      if (this.#routes.size >= ROUTES_MAX) this.#trimRoutes()
      route = { group: null, waiting: [], resolving: false }
      this.#routes.set(vchannel, route)
    }
    return route
  }

  #trimRoutes(): void {
    for (const [name, { waiting, resolving }] of this.#routes) {
      if (waiting.length === 0 && !resolving) this.#routes.delete(name)
    }
  }

  /** Another node, or the same one with another directory, may answer now. */
  #forgetGroups(): void {
    for (const route of this.#routes.values()) route.group = null
  }

  #queue(group: number): GroupQueue {
    let queue = this.#queues.get(group)
    if (queue === undefined) {
      queue = new GroupQueue(group, this.#session)
      this.#queues.set(group, queue)
    }
    return queue
  }

  /** Until the group is known or nobody waits for it any more. */
  async #resolve(vchannel: string, route: Route): Promise<void> {
    const { clock, backoffMs } = this.#session.settings
    route.resolving = true
    let pauses = 0
    while (route.waiting.length > 0) {
      try {
        const meta = encodeResolve({ vchannel, create: true })
        const answer = await this.#session.request(MessageType.resolve, MessageType.resolved, meta, { repeat: true })
        route.group = decodeResolved(answer.meta).group
        const queue = this.#queue(route.group)
        for (const entry of route.waiting.splice(0)) queue.push(entry)
      } catch (error) {
        const known = error as TidelogError<string>
        const again = known.retriable && (known.outcome === 'not-written' || known.code === 'CONNECTION_LOST')
        if (!again) failAll(route, known)
        else {
          const pauseMs = pauseMsOf(backoffMs, pauses++)
          await new Promise<void>((resolve) => clock.after(pauseMs, resolve, true))
        }
      }
    }
    route.resolving = false
  }

  #watch(): void {
    if (this.#sweepTimer !== null) return
    const { clock, appendTimeoutMs } = this.#session.settings
    this.#sweepTimer = clock.after(Math.max(1, Math.min(SWEEP_MS, appendTimeoutMs / 2)), () => {
      this.#sweepTimer = null
      this.#sweep(clock.monotonicMs())
      if (this.#unsettled > 0) this.#watch()
    })
  }

  #sweep(nowMs: number): void {
    for (const queue of this.#queues.values()) queue.sweep(nowMs)
    for (const lane of [...this.#lanes]) lane.sweep(nowMs)
    for (const route of this.#routes.values()) {
      if (route.waiting.length === 0) continue
      for (const entry of route.waiting) {
        if (entry.doomed) entry.failBehind()
        else if (entry.deadlineMs <= nowMs) {
          const message = `the group of vchannel ${entry.vchannel} was not learned in time`
          entry.fail(new TidelogError<string>('TIMEOUT', message, { outcome: 'not-written', retriable: true }))
        }
      }
      route.waiting = route.waiting.filter((entry) => !entry.settled)
    }
  }
}

function failAll(route: Route, { code, message, retriable, cause }: TidelogError<string>): void {
  for (const entry of route.waiting.splice(0)) {
    entry.fail(new TidelogError<string>(code, message, { retriable, cause, outcome: 'not-written' }))
  }
}

function checkTick(tick: bigint, what: string): void {
  if (typeof tick !== 'bigint' || tick < 0n || tick > TICK_MAX) throw refused(`${what} is a bigint of 64 bits`)
}

function refuseExclusive({ type = 0 }: RecordInput): void {
  if (isExclusive(type)) throw refused(`records of type ${type} are exclusive: one goes alone, and in no transaction`)
}
