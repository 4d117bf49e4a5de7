/**
 * The appends of one group: gathered into frames while others are in flight, sent in order, settled in order. When a
 * frame fails, nothing more is sent until all that is in flight is answered; then what was not written goes again, with
 * a new generation (PROTOCOL 5).
 */
import { planBody, type RecordInput, writeBody } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { ControlFields } from '../protocol/control-codec.ts'
import { BODY_BYTES_MAX, RECORDS_MAX } from '../protocol/limits.ts'
import { type Message, MessageType, messageTypeName } from '../protocol/message.ts'
import { decodeProduced, PRODUCE_BODY_AT, writeProduce } from '../protocol/produce-messages.ts'
import { violation } from '../protocol/violation.ts'
import { errorFromWire, fromFormatError } from '../protocol/wire-error.ts'
import { type AppendEntry, failedBefore } from './append-entry.ts'
import type { ClientConnection } from './connection.ts'
import type { Session } from './session.ts'

/** Singles are gathered up to here: larger frames gain nothing more. */
const GATHER_BYTES = 1024 * 1024
const GATHER_RECORDS = 8192
const FRAMES_IN_FLIGHT = 4
/** Batches of some MiB fill the line with two in flight. */
const BYTES_IN_FLIGHT = 16 * 1024 * 1024
const PRODUCER = 1
/** Between two attempts at what the node refuses: at most 16 times the first pause, 0.8 to 1.6 s by default. */
const PAUSE_DOUBLINGS_MAX = 4

interface InFlight {
  entries: AppendEntry[]
  bytes: number
}

export class GroupQueue {
  readonly #group: number
  readonly #session: Session
  #waiting: AppendEntry[] = []
  /** Index in `waiting` of the first one that is there. */
  #head = 0
  readonly #inFlight = new Set<InFlight>()
  #bytesInFlight = 0
  #generation = 1
  /** Not written, in the order in which they were sent: they go again when nothing is in flight. */
  #again: AppendEntry[] = []
  #recovering = false
  /** Since something was written. */
  #pauses = 0
  #retryTimer: { cancel(): void } | null = null
  #scheduled = false
  #connecting = false
  #waitsForRoom = false
  readonly #pump = () => {
    this.#scheduled = false
    this.#send()
  }

  constructor(group: number, session: Session) {
    this.#group = group
    this.#session = session
  }

  get isEmpty(): boolean {
    return this.#head === this.#waiting.length && this.#inFlight.size === 0 && this.#again.length === 0
  }

  push(entry: AppendEntry): void {
    this.#waiting.push(entry)
    this.#schedule()
  }

  /** Fails those that are late, or behind one of their producer that failed; in order. */
  sweep(nowMs: number): void {
    for (const frame of this.#inFlight) {
      for (const entry of frame.entries) if (entry.deadlineMs <= nowMs) entry.fail(late('unknown'))
    }
    const keep = (entry: AppendEntry): boolean => {
      if (entry.settled) return false
      if (entry.doomed) entry.fail(failedBefore())
      else if (entry.deadlineMs <= nowMs) entry.fail(late('not-written', entry.refusal))
      return !entry.settled
    }
    // What is in flight stands before what waits: a doomed one is told when its turn comes.
    if (this.#inFlight.size > 0) {
      for (const entry of this.#again.concat(this.#waiting.slice(this.#head))) {
        if (entry.deadlineMs <= nowMs && !entry.settled) entry.fail(late('not-written', entry.refusal))
      }
      return
    }
    this.#again = this.#again.filter(keep)
    this.#waiting = this.#waiting.slice(this.#head).filter(keep)
    this.#head = 0
  }

  /** Nothing more is sent: everything is settled with `error`, or as unknown where it was sent. */
  fail(error: TidelogError<string>): void {
    this.#retryTimer?.cancel()
    for (const frame of this.#inFlight) for (const entry of frame.entries) entry.fail(withOutcome(error, 'unknown'))
    this.#inFlight.clear()
    for (const entry of this.#again) entry.fail(withOutcome(error, 'not-written'))
    for (const entry of this.#waiting.slice(this.#head)) entry.fail(withOutcome(error, 'not-written'))
    this.#again = []
    this.#waiting = []
    this.#head = 0
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(this.#pump)
  }

  #send(): void {
    const connection = this.#session.connection
    if (connection === null) {
      this.#connect()
      return
    }
    while (!this.#recovering && this.#mayGo(connection)) {
      const entries = this.#gather(connection)
      if (entries.length === 0) break
      this.#sendFrame(connection, entries)
    }
    if (this.#head > 4096 && this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
  }

  /** Somebody needs the connection: their deadlines end the waiting, not this one. */
  #connect(): void {
    if (this.#connecting || this.isEmpty) return
    this.#connecting = true
    this.#session.connected().then(
      () => {
        this.#connecting = false
        this.#schedule()
      },
      (error: TidelogError<string>) => {
        this.#connecting = false
        this.fail(error)
      },
    )
  }

  #mayGo(connection: ClientConnection): boolean {
    if (this.#inFlight.size === 0) return true
    const bytesMax = Math.min(BYTES_IN_FLIGHT, connection.welcome.produceBytesMax / 2)
    if (this.#inFlight.size >= FRAMES_IN_FLIGHT || this.#bytesInFlight >= bytesMax) return false
    if (connection.hasRoom) return true
    if (!this.#waitsForRoom) {
      this.#waitsForRoom = true
      void connection.room().then(() => {
        this.#waitsForRoom = false
        this.#schedule()
      })
    }
    return false
  }

  /** The next frame's entries: a batch, or singles up to a bound. */
  #gather(connection: ClientConnection): AppendEntry[] {
    const entries: AppendEntry[] = []
    const bytesMax = Math.min(GATHER_BYTES, connection.welcome.bodyBytesMax / 2)
    let bytes = 0
    while (this.#head < this.#waiting.length) {
      const entry = this.#waiting[this.#head]!
      if (entry.doomed && !entry.settled) entry.fail(failedBefore())
      if (entry.settled) {
        this.#head++
        continue
      }
      const single = entry.isBatch || entry.alone || entry.barrierTick > 0n
      if (entries.length > 0 && (single || bytes + entry.bytes > bytesMax || entries.length >= GATHER_RECORDS)) break
      entries.push(entry)
      bytes += entry.bytes
      this.#head++
      if (single) break
    }
    return entries
  }

  #sendFrame(connection: ClientConnection, entries: AppendEntry[]): void {
    const message = this.#encode(connection, entries)
    if (message === null) return
    const frame: InFlight = { entries, bytes: message.length }
    for (const entry of entries) entry.sent = true
    this.#inFlight.add(frame)
    this.#bytesInFlight += frame.bytes
    const id = connection.listen({
      onMessage: (answer) => {
        connection.forget(id)
        this.#leave(frame)
        this.#answered(frame, answer)
      },
      onLost: (error, actedUpon) => {
        this.#leave(frame)
        this.#failed(frame, withOutcome(error, actedUpon ? 'unknown' : 'not-written'))
      },
    })
    writeProduce(message.bytes, id, { ...message.produce, generation: this.#generation })
    connection.send(message.bytes)
  }

  /** Null when none of the entries can be encoded: then they have failed. */
  #encode(connection: ClientConnection, entries: AppendEntry[]): Encoded | null {
    const limits = {
      recordBytesMax: connection.welcome.recordBytesMax,
      recordsMax: RECORDS_MAX,
      bodyBytesMax: Math.min(connection.welcome.bodyBytesMax, BODY_BYTES_MAX),
      vchannelBytesMax: 255,
    }
    const first = entries[0]!
    try {
      const records = first.isBatch
        ? (first.records as readonly RecordInput[])
        : entries.map((entry) => entry.records as RecordInput)
      const plan = planBody(records, limits)
      const bytes = Buffer.allocUnsafe(PRODUCE_BODY_AT + plan.bodyBytes)
      const bodyHash = writeBody(plan, bytes, PRODUCE_BODY_AT)
      const produce = {
        group: this.#group,
        producer: PRODUCER,
        recordCount: plan.recordCount,
        bodyHash,
        barrierTick: first.barrierTick,
      }
      return { bytes, length: bytes.length, produce }
    } catch (error) {
      const known = asNotWritten(fromFormatError(error))
      // One of them is at fault: each goes alone, in its turn, and the one fails.
      if (entries.length > 1) {
        for (const entry of entries) entry.alone = true
        this.#waiting = entries.concat(this.#waiting.slice(this.#head))
        this.#head = 0
      } else first.fail(known)
      this.#schedule()
      return null
    }
  }

  #leave(frame: InFlight): void {
    if (this.#inFlight.delete(frame)) this.#bytesInFlight -= frame.bytes
  }

  #answered(frame: InFlight, answer: Message): void {
    if (answer.type === MessageType.error) {
      this.#failed(frame, asAnswer(errorFromWire(ControlFields.decode('ERROR', answer.meta))))
      return
    }
    if (answer.type !== MessageType.produced)
      throw violation(`PRODUCE was answered with ${messageTypeName(answer.type)}`)
    const { firstLsn, lastLsn, firstTimeTick } = decodeProduced(answer.meta)
    this.#pauses = 0
    let count = 0
    for (const entry of frame.entries) count += entry.count
    if (lastLsn - firstLsn + 1 !== count) {
      this.#failed(frame, withOutcome(violation('PRODUCED names another number of records'), 'unknown'))
      throw violation('PRODUCED names another number of records')
    }
    let at = 0
    for (const entry of frame.entries) {
      entry.succeed(firstLsn + at, firstTimeTick + BigInt(at))
      at += entry.count
    }
    this.#goOn()
  }

  #failed(frame: InFlight, error: TidelogError<string>): void {
    this.#recovering = true
    const notWritten = error.outcome === 'not-written'
    const others = frame.entries.length > 1
    for (const entry of frame.entries) {
      if (entry.settled) continue
      if (notWritten && entry.doomed) {
        entry.fail(failedBefore())
      } else if (notWritten && (error.retriable || others)) {
        // Refused for good, but in a frame with others: each is tried alone, so that one does not fail the rest.
        if (!error.retriable) entry.alone = true
        entry.sent = false
        entry.refusal = error
        this.#again.push(entry)
      } else entry.fail(error)
    }
    if (notWritten && error.retriable && error.code !== 'FAILED_BEFORE') this.#pause()
    else this.#goOn()
  }

  /** Not at once: what refused it needs time, and more of it the longer it refuses. */
  #pause(): void {
    const { clock, backoffMs, random } = this.#session.settings
    if (this.#retryTimer !== null) return
    const pauseMs = backoffMs * 2 ** Math.min(this.#pauses++, PAUSE_DOUBLINGS_MAX)
    this.#retryTimer = clock.after(
      pauseMs * (1 + random()),
      () => {
        this.#retryTimer = null
        this.#goOn()
      },
      true,
    )
  }

  /** Once everything in flight is answered, what was not written goes again, before what waits. */
  #goOn(): void {
    if (this.#recovering) {
      if (this.#inFlight.size > 0 || this.#retryTimer !== null) return
      this.#recovering = false
      this.#generation++
      this.#waiting = this.#again.concat(this.#waiting.slice(this.#head))
      this.#head = 0
      this.#again = []
    }
    if (this.#head < this.#waiting.length) this.#schedule()
  }
}

interface Encoded {
  bytes: Buffer
  length: number
  produce: { group: number; producer: number; recordCount: number; bodyHash: bigint; barrierTick: bigint }
}

function late(outcome: 'unknown' | 'not-written', refusal: TidelogError<string> | null = null): TidelogError<string> {
  const what = outcome === 'unknown' ? 'not acknowledged' : refusal === null ? 'not sent' : 'refused and not taken'
  const why = refusal === null ? '' : `; the last refusal: ${refusal.code}: ${refusal.message}`
  return new TidelogError<string>('TIMEOUT', `the record was ${what} in time${why}`, {
    outcome,
    retriable: outcome === 'not-written',
    cause: refusal ?? undefined,
  })
}

function withOutcome(error: TidelogError<string>, outcome: 'unknown' | 'not-written'): TidelogError<string> {
  return new TidelogError<string>(error.code, error.message, {
    outcome,
    retriable: error.retriable,
    cause: error.cause,
  })
}

/** An answer without an outcome says nothing of what was written. */
function asAnswer(error: TidelogError<string>): TidelogError<string> {
  return error.outcome === undefined ? withOutcome(error, 'unknown') : error
}

function asNotWritten(error: unknown): TidelogError<string> {
  if (error instanceof TidelogError) return withOutcome(error as TidelogError<string>, 'not-written')
  return new TidelogError<string>('INVALID_ARGUMENT', (error as Error).message, {
    outcome: 'not-written',
    cause: error,
  })
}
