/**
 * The plain appends of one group: gathered into frames while others are in flight, sent in order, settled in order. When
 * a frame fails, nothing more is sent until all that is in flight is answered; then what was not written goes again, with
 * a new generation (PROTOCOL 5), and so does what has an idempotency key and may be written: the node knows it then.
 */
import type { TidelogError } from '../errors.ts'
import { ControlFields } from '../protocol/control-codec.ts'
import { KEYED_RECORDS_MAX } from '../protocol/limits.ts'
import { type Message, MessageType, messageTypeName } from '../protocol/message.ts'
import { decodeProduced, writeProduce } from '../protocol/produce-messages.ts'
import { violation } from '../protocol/violation.ts'
import { errorFromWire } from '../protocol/wire-error.ts'
import { type AppendEntry, givenUp, late, withOutcome } from './append-entry.ts'
import type { ClientConnection } from './connection.ts'
import { type EncodedFrame, encodeFrame } from './encode-frame.ts'
import { learnTick } from './learn-tick.ts'
import { PLAIN_PRODUCER } from './plain-producer.ts'
import { RetryPause } from './retry-pause.ts'
import type { Session } from './session.ts'

/** Singles are gathered up to here: larger frames gain nothing more. */
const GATHER_BYTES = 1024 * 1024
const GATHER_RECORDS = 8192
const FRAMES_IN_FLIGHT = 4
/** Batches of some MiB fill the line with two in flight. */
const BYTES_IN_FLIGHT = 16 * 1024 * 1024

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
  readonly #pause: RetryPause
  #scheduled = false
  #connecting = false
  #waitsForRoom = false
  /** A keyed record waits for a tick of this group: none is known. Asked once. */
  #tick: 'unknown' | 'asked' | 'answered' = 'unknown'
  readonly #pump = () => {
    this.#scheduled = false
    this.#send()
  }

  constructor(group: number, session: Session) {
    this.#group = group
    this.#session = session
    this.#pause = new RetryPause(session.settings, () => this.#goOn())
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
      if (entry.doomed) entry.failBehind()
      else if (entry.deadlineMs <= nowMs) failLate(entry)
      return !entry.settled
    }
    // What is in flight stands before what waits: a doomed one is told when its turn comes.
    if (this.#inFlight.size > 0) {
      for (const entry of this.#again.concat(this.#waiting.slice(this.#head))) {
        if (entry.deadlineMs <= nowMs && !entry.settled) failLate(entry)
      }
      return
    }
    this.#again = this.#again.filter(keep)
    this.#waiting = this.#waiting.slice(this.#head).filter(keep)
    this.#head = 0
  }

  /** Nothing more is sent: everything is settled with `error`, or as unknown where it was sent. */
  fail(error: TidelogError<string>): void {
    this.#pause.cancel()
    for (const frame of this.#inFlight) for (const entry of frame.entries) entry.fail(withOutcome(error, 'unknown'))
    this.#inFlight.clear()
    for (const entry of this.#again) entry.fail(givenUp(entry, error))
    for (const entry of this.#waiting.slice(this.#head)) entry.fail(givenUp(entry, error))
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
    let keyed = 0
    let firstTriedAt = 0n
    while (this.#head < this.#waiting.length) {
      const entry = this.#waiting[this.#head]!
      if (entry.doomed && !entry.settled) entry.failBehind()
      if (entry.settled) {
        this.#head++
        continue
      }
      const single = entry.isBatch || entry.alone || entry.barrierTick > 0n
      if (entries.length > 0 && (single || bytes + entry.bytes > bytesMax || entries.length >= GATHER_RECORDS)) break
      if (entry.isKeyed) {
        if (!this.#knowsTick()) break
        // The frame says one tick for all of its keys.
        if (keyed > 0 && (keyed === KEYED_RECORDS_MAX || entry.firstTriedAt !== firstTriedAt)) break
        firstTriedAt = entry.firstTriedAt
        keyed++
      }
      entries.push(entry)
      bytes += entry.bytes
      this.#head++
      if (single) break
    }
    return entries
  }

  /** Whether a tick of the group is known, or nobody can say one; asks for it. */
  #knowsTick(): boolean {
    if (this.#tick === 'answered' || this.#session.ticks.of(this.#group) > 0n) return true
    if (this.#tick === 'unknown') {
      this.#tick = 'asked'
      void learnTick(this.#session, this.#group).then(() => {
        this.#tick = 'answered'
        this.#schedule()
      })
    }
    return false
  }

  #sendFrame(connection: ClientConnection, entries: AppendEntry[]): void {
    const encoded = this.#encode(connection, entries)
    if (encoded === null) return
    const { message, recordCount, bodyHash } = encoded
    const frame: InFlight = { entries, bytes: message.length }
    const nowTick = this.#session.ticks.of(this.#group)
    let firstTriedAt = 0n
    for (const entry of entries) {
      entry.sent = true
      if (!entry.isKeyed) continue
      if (entry.sentAtTick === 0n) entry.sentAtTick = nowTick
      firstTriedAt = entry.firstTriedAt
    }
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
    writeProduce(message, id, {
      group: this.#group,
      producer: PLAIN_PRODUCER,
      generation: this.#generation,
      recordCount,
      bodyHash,
      barrierTick: entries[0]!.barrierTick,
      firstTriedAt,
    })
    connection.send(message)
  }

  /** Null when none of the entries can be encoded: then they have failed. */
  #encode(connection: ClientConnection, entries: AppendEntry[]): EncodedFrame | null {
    try {
      return encodeFrame(connection, entries, [])
    } catch (error) {
      const known = error as TidelogError<string>
      // One of them is at fault: each goes alone, in its turn, and the one fails.
      if (entries.length > 1) {
        for (const entry of entries) entry.alone = true
        this.#waiting = entries.concat(this.#waiting.slice(this.#head))
        this.#head = 0
      } else entries[0]!.fail(givenUp(entries[0]!, known))
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
    const { firstLsn, lastLsn, firstTimeTick, lastTimeTick, duplicate, duplicates } = decodeProduced(answer.meta)
    this.#session.ticks.raise(this.#group, lastTimeTick)
    this.#pause.reset()
    let count = 0
    for (const entry of frame.entries) count += entry.count
    if (duplicates.length < count && lastLsn - firstLsn + 1 !== count) {
      this.#failed(frame, withOutcome(violation('PRODUCED names another number of records'), 'unknown'))
      throw violation('PRODUCED names another number of records')
    }
    let at = 0
    let next = 0
    for (const entry of frame.entries) {
      const known = duplicates[next]
      if (known !== undefined && known.row === at) {
        next++
        entry.succeed(known.lsn, known.timeTick, true)
      } else entry.succeed(firstLsn + at, firstTimeTick + BigInt(at), duplicate)
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
      if (!notWritten && mayGoAgain(entry, error)) {
        entry.mayBeWritten = true
        if (entry.firstTriedAt === 0n) entry.firstTriedAt = entry.sentAtTick
        entry.refusal = error
        this.#again.push(entry)
      } else if (notWritten && entry.doomed) {
        entry.failBehind()
      } else if (notWritten && (error.retriable || others)) {
        // Refused for good, but in a frame with others: each is tried alone, so that one does not fail the rest.
        if (!error.retriable) entry.alone = true
        entry.sent = false
        entry.refusal = error
        this.#again.push(entry)
      } else entry.fail(notWritten ? givenUp(entry, error) : error)
    }
    if (error.retriable && error.code !== 'FAILED_BEFORE' && error.code !== 'CONNECTION_LOST') this.#pause.begin()
    else this.#goOn()
  }

  /** Once everything in flight is answered, what was not written goes again, before what waits. */
  #goOn(): void {
    if (this.#recovering) {
      if (this.#inFlight.size > 0 || this.#pause.isOn) return
      this.#recovering = false
      this.#generation++
      this.#waiting = this.#again.concat(this.#waiting.slice(this.#head))
      this.#head = 0
      this.#again = []
    }
    if (this.#head < this.#waiting.length) this.#schedule()
  }
}

function failLate(entry: AppendEntry): void {
  entry.fail(late(entry.mayBeWritten ? 'unknown' : 'not-written', entry.refusal))
}

/**
 * The node knows the key if it was written, and is told since when it may have been: the same record can be sent again.
 */
function mayGoAgain(entry: AppendEntry, error: TidelogError<string>): boolean {
  if (!entry.isKeyed || (entry.firstTriedAt === 0n && entry.sentAtTick === 0n)) return false
  return error.retriable || error.code === 'TIMEOUT' || error.code === 'CONNECTION_LOST'
}

/** An answer without an outcome says nothing of what was written. */
function asAnswer(error: TidelogError<string>): TidelogError<string> {
  return error.outcome === undefined ? withOutcome(error, 'unknown') : error
}
