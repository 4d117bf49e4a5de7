/**
 * The produce side of a connection: each producer's frames in a group go to the log in the order in which they came, are
 * answered in that order, and once one fails, what came behind it on its vchannels fails too (PROTOCOL 5).
 */
import { setMaxListeners } from 'node:events'
import type { BodyHead } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { encodeControl } from '../../protocol/control-codec.ts'
import { encodeMessage, MessageType } from '../../protocol/message.ts'
import { encodeProduced, type Produce } from '../../protocol/produce-messages.ts'
import { violation } from '../../protocol/violation.ts'
import { errorToWire } from '../../protocol/wire-error.ts'
import type { UnitResult } from '../../wal/pipeline/interceptor.ts'
import type { NodeService, PlacedAppend } from '../node-service.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { ConnectionMetrics } from './options.ts'
import { BodyRefused, type BodyRules, checkReceivedBody, openReceivedBody } from './received-body.ts'
import type { ReceivedIdentity } from './received-identity.ts'

export interface ProduceLanesOptions {
  service: NodeService
  metrics: ConnectionMetrics
  rules: BodyRules
  producersMax: number
  budget: ByteBudget
  send: (message: Buffer) => void
  /** After `pendingBytes` became less. */
  onSettled: () => void
  /** A body that no honest client sends: the connection ends, once the frames before it are answered. */
  onBroken: (error: BodyRefused) => void
}

interface Slot {
  requestId: number
  produce: Produce
  body: Buffer
  /** Null: it could not be opened. */
  head: BodyHead | null
  /** Why it is not given to the log: told in its turn. */
  refusal: TidelogError<string> | null
  identity: ReceivedIdentity | null
  result: UnitResult | TidelogError<string> | null
}

interface Lane {
  /** Of the newest frame that came, and of the newest one that had its turn. */
  generation: number
  turn: number
  /** Vchannels on which a frame has failed in or since this generation. */
  failed: Set<string>
  /** In the order in which they came; the first one is the oldest without an answer. */
  slots: Slot[]
  /** Index in `slots` of the first one that was not given to the log. */
  next: number
  scheduled: boolean
  /** Ends the waiting for room of those behind one that has failed of it. */
  abort: AbortController
}

/** Lanes at which quiet ones are looked for first. */
const SWEEP_AT_MIN = 1_024

/** A frame that failed while it waited for room: those behind it wait too, and are not let in. */
const waitingCodes: ReadonlySet<string> = new Set(['QUEUE_FULL', 'TIMEOUT'])

export class ProduceLanes {
  readonly #options: ProduceLanesOptions
  readonly #lanes = new Map<string, Lane>()
  readonly #idle: (() => void)[] = []
  /** Frames without an answer of each transaction, and who waits for them. */
  readonly #transactions = new Map<string, { frames: number; waiting: (() => void)[] }>()
  /** As many lanes as are looked through for quiet ones. */
  #sweepAt: number
  #pendingBytes = 0
  #pending = 0

  constructor(options: ProduceLanesOptions) {
    this.#options = options
    this.#sweepAt = Math.min(SWEEP_AT_MIN, options.producersMax)
  }

  /** Bytes of bodies without an answer. */
  get pendingBytes(): number {
    return this.#pendingBytes
  }

  /** Settles when every frame has its answer. */
  idle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** Settles when every frame of the transaction that came before has its answer; null: there is none. */
  transactionIdle(group: number, transaction: number): Promise<void> | null {
    const held = this.#transactions.get(`${transaction}/${group}`)
    return held === undefined ? null : new Promise((resolve) => held.waiting.push(resolve))
  }

  /** Takes a PRODUCE. Throws PROTOCOL_VIOLATION. */
  receive(requestId: number, produce: Produce, body: Buffer): void {
    const lane = this.#lane(produce)
    if (produce.generation < lane.generation) throw violation('the generation of a producer went back')
    lane.generation = produce.generation
    const slot: Slot = { requestId, produce, body, head: null, refusal: null, identity: null, result: null }
    this.#pending++
    this.#pendingBytes += body.length
    this.#options.budget.take(body.length)
    lane.slots.push(slot)
    try {
      slot.head = openReceivedBody(body, produce)
      slot.identity = checkReceivedBody(slot.head, body, produce.transactionIndex, this.#options.rules)
      this.#countTransaction(slot)
    } catch (error) {
      slot.refusal = error as TidelogError<string>
      if (error instanceof BodyRefused && error.broken) this.#options.onBroken(error)
    }
    if (!lane.scheduled) this.#dispatch(lane)
  }

  #lane(produce: Produce): Lane {
    const key = `${produce.producer}/${produce.group}`
    let lane = this.#lanes.get(key)
    if (lane === undefined) {
      if (this.#lanes.size >= this.#sweepAt) this.#sweep()
      lane = {
        generation: produce.generation,
        turn: produce.generation,
        failed: new Set(),
        slots: [],
        next: 0,
        scheduled: false,
        abort: createAbort(),
      }
      this.#lanes.set(key, lane)
    }
    return lane
  }

  /** One that holds nothing and in which nothing has failed is as good as a new one. */
  #sweep(): void {
    for (const [key, lane] of this.#lanes) {
      if (lane.slots.length === 0 && lane.failed.size === 0 && !lane.scheduled) this.#lanes.delete(key)
    }
    const { producersMax } = this.#options
    if (this.#lanes.size >= producersMax) throw violation(`more than ${producersMax} producers on a connection`)
    this.#sweepAt = Math.min(producersMax, Math.max(SWEEP_AT_MIN, 2 * this.#lanes.size))
  }

  #countTransaction(slot: Slot): void {
    const transaction = slot.identity?.transaction ?? null
    if (transaction === null) return
    const key = `${transaction}/${slot.produce.group}`
    const held = this.#transactions.get(key)
    if (held === undefined) this.#transactions.set(key, { frames: 1, waiting: [] })
    else held.frames++
  }

  #answeredTransaction(slot: Slot): void {
    const transaction = slot.identity?.transaction ?? null
    if (transaction === null) return
    const key = `${transaction}/${slot.produce.group}`
    const held = this.#transactions.get(key)!
    held.frames--
    if (held.frames > 0) return
    this.#transactions.delete(key)
    for (const wake of held.waiting) wake()
  }

  /** Gives the next frame to the log, and comes back for the one behind it when it is known not to be refused at once. */
  #dispatch(lane: Lane): void {
    lane.scheduled = false
    while (lane.next < lane.slots.length) {
      const slot = lane.slots[lane.next]!
      // A barrier can be refused alone: it goes when nothing is before it, and nothing goes while it is under way.
      const oldest = lane.slots[0]!
      const waits = lane.next > 0 && oldest.result === null
      if (waits && (oldest.produce.barrierTick > 0n || slot.produce.barrierTick > 0n)) return
      lane.next++
      if (slot.produce.generation > lane.turn) {
        lane.turn = slot.produce.generation
        lane.failed.clear()
        lane.abort = createAbort()
      }
      if (this.#mayGo(lane, slot)) {
        const entered = this.#append(lane, slot)
        lane.scheduled = true
        const goOn = () => this.#dispatch(lane)
        // Behind every microtask that a refusal may take.
        const refused = () => queueMicrotask(() => process.nextTick(goOn))
        if (entered === null) refused()
        else entered.then(refused, refused)
        return
      }
    }
    this.#settle(lane)
  }

  #mayGo(lane: Lane, slot: Slot): boolean {
    const { service } = this.#options
    if (slot.refusal !== null) {
      this.#fail(lane, slot, slot.refusal)
    } else if (lane.failed.size > 0 && slot.head!.vchannels.some((name) => lane.failed.has(name))) {
      this.#fail(lane, slot, failedBefore())
    } else if (!service.accepting) {
      const message = 'the node is going down and takes no new records; another one, or the next start, will'
      this.#fail(lane, slot, new TidelogError('DRAINING', message, { retriable: true, outcome: 'not-written' }))
    } else return true
    return false
  }

  /** Gives when the frame has entered the queue of the log, and so the next one may go; null: it has. */
  #append(lane: Lane, slot: Slot): Promise<void> | null {
    const { service } = this.#options
    const { produce, body, identity } = slot
    const { barrierTick, firstTriedAt } = produce
    const { signal } = lane.abort
    const transactionIndex = identity?.transaction == null ? null : produce.transactionIndex
    let placed: PlacedAppend
    try {
      const encoded = { bytes: body, hash: produce.bodyHash, head: slot.head! }
      placed = service.append(produce.group, encoded, { barrierTick, firstTriedAt, transactionIndex, signal })
    } catch (error) {
      this.#fail(lane, slot, error)
      return null
    }
    placed.settled.then(
      (result) => {
        slot.result = result
        this.#settle(lane)
      },
      (error: unknown) => {
        const notWritten = error instanceof TidelogError && error.outcome === 'not-written'
        if (signal.aborted && notWritten && error.code === 'ABORTED') this.#fail(lane, slot, failedBefore())
        else this.#fail(lane, slot, error)
        if (notWritten && waitingCodes.has(error.code)) {
          const { abort } = lane
          lane.abort = createAbort()
          abort.abort()
        }
        this.#settle(lane)
      },
    )
    return placed.entered
  }

  #fail(lane: Lane, slot: Slot, error: unknown): void {
    slot.result = withOutcome(error)
    if (slot.head !== null) for (const name of slot.head.vchannels) lane.failed.add(name)
  }

  /** Answers what is settled, from the oldest on. */
  #settle(lane: Lane): void {
    const { metrics, send, onSettled } = this.#options
    let answered = 0
    for (const slot of lane.slots) {
      const { result, produce, requestId, body } = slot
      if (result === null) break
      answered++
      this.#pending--
      this.#pendingBytes -= body.length
      this.#options.budget.give(body.length)
      if (result instanceof TidelogError) {
        metrics.produceFailed(produce.group, result.code)
        send(encodeMessage(MessageType.error, requestId, encodeControl(errorToWire(result))))
      } else {
        metrics.produced(produce.group, produce.recordCount, body.length)
        const { range, duplicate, duplicates } = result
        send(encodeProduced(requestId, { ...range, duplicate, duplicates }))
      }
      this.#answeredTransaction(slot)
    }
    if (answered === 0) return
    lane.slots.splice(0, answered)
    lane.next = Math.max(0, lane.next - answered)
    onSettled()
    if (this.#pending === 0) for (const resolve of this.#idle.splice(0)) resolve()
    // One that waited for a barrier before it.
    if (!lane.scheduled && lane.next < lane.slots.length) this.#dispatch(lane)
  }
}

/** Every frame that waits listens to it: as many as a connection may have in flight. */
function createAbort(): AbortController {
  const abort = new AbortController()
  setMaxListeners(0, abort.signal)
  return abort
}

function failedBefore(): TidelogError<string> {
  const message = 'a frame before it on the same vchannel has failed; nothing of this one was written'
  return new TidelogError<string>('FAILED_BEFORE', message, { retriable: true, outcome: 'not-written' })
}

/** A failure that does not say what became of the frame leaves it unknown. */
function withOutcome(error: unknown): TidelogError<string> {
  if (error instanceof TidelogError) {
    const known: TidelogError<string> = error
    if (known.outcome !== undefined) return known
    const { retriable, lsn, lsnFrom, lsnTo } = known
    return new TidelogError<string>(known.code, known.message, {
      outcome: 'unknown',
      retriable,
      lsn,
      lsnFrom,
      lsnTo,
      cause: known,
    })
  }
  return new TidelogError<string>('IO_FAILED', 'the node failed inside; its log says more', {
    outcome: 'unknown',
    cause: error,
  })
}
