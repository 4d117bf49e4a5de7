/**
 * The frames of one transaction, or of one producer with an identity. A frame that was sent is kept until it is answered,
 * and sent again as it was, over lost connections and ambiguous answers: the node knows by its numbers what it has. All
 * frames of a lane have their records numbered without a gap, so the frames behind a refused one are refused too; they
 * go again, or are taken apart when the refusal is for good.
 */
import type { TidelogError } from '../errors.ts'
import { ControlFields } from '../protocol/control-codec.ts'
import { type Message, MessageType, messageTypeName } from '../protocol/message.ts'
import { decodeProduced, writeProduce } from '../protocol/produce-messages.ts'
import { violation } from '../protocol/violation.ts'
import { errorFromWire } from '../protocol/wire-error.ts'
import { type AppendEntry, givenUp, late, withOutcome } from './append-entry.ts'
import type { ClientConnection } from './connection.ts'
import { encodeFrame } from './encode-frame.ts'
import { endsProducer, isVerdict, type KeptFrame } from './kept-frame.ts'
import type { LaneNumber } from './lane-numbers.ts'
import type { LaneOwner } from './lane-owner.ts'
import { LaneQueue } from './lane-queue.ts'
import { RetryPause } from './retry-pause.ts'
import type { Session } from './session.ts'

/** Fewer than the node remembers of a producer or a transaction (256): each that is sent again is known there. */
const FRAMES_IN_FLIGHT = 4
const BYTES_IN_FLIGHT = 16 * 1024 * 1024

export class FrameLane {
  readonly #session: Session
  readonly #owner: LaneOwner
  /** The number of the next record. */
  #next: number
  readonly #waiting = new LaneQueue()
  /** Without an answer that settles them, in the order of their numbers. */
  #frames: KeptFrame[] = []
  /** So many of them were sent on this connection in this generation. */
  #sent = 0
  #inFlight = 0
  #bytesInFlight = 0
  #number: LaneNumber | null = null
  #connection: ClientConnection | null = null
  /** One of the frames in flight was refused: nothing more is sent until all are answered. */
  #recovering = false
  /** The first one that was refused for good. */
  #refused: KeptFrame | null = null
  #ended: TidelogError<string> | null = null
  readonly #pause: RetryPause
  #scheduled = false
  /** A connection, its greeting, a number or room is waited for. */
  #waits = false
  readonly #pump = () => {
    this.#scheduled = false
    this.#send()
  }

  constructor(session: Session, owner: LaneOwner, first: number) {
    this.#session = session
    this.#pause = new RetryPause(session.settings, () => this.#goOn())
    this.#owner = owner
    this.#next = first
  }

  /** Why nothing is taken any more; null while it is. */
  get ended(): TidelogError<string> | null {
    return this.#ended
  }

  /** The connection on which the owner was greeted just now: frames go on it at once. */
  greeted(connection: ClientConnection): void {
    this.#connection = connection
  }

  push(entry: AppendEntry): void {
    if (this.#ended !== null) {
      entry.fail(withOutcome(this.#ended, 'not-written'))
      return
    }
    this.#waiting.push(entry)
    this.#schedule()
  }

  /** Ends the lane when one that may be written is late; those that were never sent are late for themselves. */
  sweep(nowMs: number): void {
    const first = this.#frames[0]
    if (first?.entries.some((entry) => entry.deadlineMs <= nowMs && !entry.settled)) {
      if (first.mayBeWritten || first.inFlight || this.#owner.failsWhole) {
        this.#end(late('unknown', first.refusal), first.entries)
        return
      }
      if (this.#inFlight === 0) this.#waiting.putBack(this.#takeApart(0))
    }
    for (const entry of this.#waiting.late(nowMs)) {
      entry.fail(late('not-written', entry.refusal))
      if (this.#owner.failsWhole) {
        this.#end(late('not-written', entry.refusal), [])
        return
      }
    }
  }

  /** Nothing more is sent; what waits fails with `error`, what was sent is unknown. */
  fail(error: TidelogError<string>): void {
    this.#end(error, null)
  }

  #schedule(): void {
    if (this.#scheduled || this.#ended !== null) return
    this.#scheduled = true
    queueMicrotask(this.#pump)
  }

  get #isEmpty(): boolean {
    return this.#frames.length === 0 && this.#waiting.isEmpty
  }

  #send(): void {
    if (this.#ended !== null || this.#recovering || this.#waits || this.#isEmpty) return
    if (this.#pause.isOn) return
    const connection = this.#ready()
    if (connection === null) return
    while (this.#mayGo(connection)) {
      if (this.#sent === this.#frames.length) {
        const frame = this.#nextFrame(connection)
        if (frame === null) break
        this.#frames.push(frame)
      }
      this.#sendFrame(connection, this.#frames[this.#sent]!)
      this.#sent++
    }
    this.#waiting.trim()
  }

  /** The connection, when it knows the owner and there is a number to send with; else waits for what is missing. */
  #ready(): ClientConnection | null {
    const { connection } = this.#session
    if (connection === null) {
      this.#waitFor(this.#session.connected())
      return null
    }
    if (connection !== this.#connection) {
      const greeting = this.#owner.greet(connection)
      if (greeting !== null) {
        this.#waitFor(
          greeting.then(() => {
            this.#connection = connection
          }),
        )
        return null
      }
      this.#connection = connection
    }
    this.#number ??= connection.laneNumbers.take(this.#owner.group, () => this.#schedule())
    return this.#number === null ? null : connection
  }

  #waitFor(promise: Promise<unknown>): void {
    this.#waits = true
    promise.then(
      () => {
        this.#waits = false
        this.#schedule()
      },
      (error: TidelogError<string>) => {
        this.#waits = false
        if (this.#ended !== null) return
        if (error.retriable && error.code !== 'SERVER_UNREACHABLE') {
          // A connection that is lost while it greets; or a node that refuses for now.
          if (error.code === 'CONNECTION_LOST') this.#schedule()
          else this.#pause.begin()
        } else this.#end(error, null)
      },
    )
  }

  #mayGo(connection: ClientConnection): boolean {
    if (this.#inFlight === 0) return true
    const bytesMax = Math.min(BYTES_IN_FLIGHT, connection.welcome.produceBytesMax / 2)
    if (this.#inFlight >= FRAMES_IN_FLIGHT || this.#bytesInFlight >= bytesMax) return false
    if (connection.hasRoom) return true
    this.#waitFor(connection.room())
    return false
  }

  /** The next entries as a frame. Null: there are none. */
  #nextFrame(connection: ClientConnection): KeptFrame | null {
    for (;;) {
      const entries = this.#waiting.gather(this.#next, connection.welcome.bodyBytesMax)
      const head = entries[0]
      if (head === undefined) return null
      const first = head.sequence > 0 ? head.sequence : this.#next
      try {
        const { message, recordCount, bodyHash } = encodeFrame(connection, entries, [this.#owner.context(first)])
        const isRepeat = first < this.#next
        if (!isRepeat) this.#giveNumbers(entries)
        return {
          entries,
          first,
          count: recordCount,
          isRepeat,
          message,
          bodyHash,
          barrierTick: head.barrierTick,
          inFlight: false,
          mayBeWritten: false,
          refusal: null,
        }
      } catch (error) {
        this.#refuse(entries, error as TidelogError<string>)
        if (this.#ended !== null) return null
      }
    }
  }

  #giveNumbers(entries: readonly AppendEntry[]): void {
    for (const entry of entries) {
      if (!this.#owner.failsWhole) entry.sequence = this.#next
      this.#next += entry.count
    }
  }

  #sendFrame(connection: ClientConnection, frame: KeptFrame): void {
    frame.inFlight = true
    for (const entry of frame.entries) entry.sent = true
    this.#inFlight++
    this.#bytesInFlight += frame.message.length
    const id = connection.listen({
      onMessage: (answer) => {
        connection.forget(id)
        this.#left(frame)
        this.#answered(frame, answer)
      },
      onLost: (error, actedUpon) => {
        this.#left(frame)
        this.#unanswered(frame, withOutcome(error, actedUpon ? 'unknown' : 'not-written'))
      },
    })
    const { group } = this.#owner
    writeProduce(frame.message, id, {
      group,
      producer: this.#number!.number,
      generation: this.#number!.generation,
      recordCount: frame.count,
      bodyHash: frame.bodyHash,
      barrierTick: frame.barrierTick,
      transactionIndex: this.#owner.transactionIndex(frame.first),
    })
    connection.send(frame.message)
  }

  #left(frame: KeptFrame): void {
    frame.inFlight = false
    this.#inFlight--
    this.#bytesInFlight -= frame.message.length
  }

  #answered(frame: KeptFrame, answer: Message): void {
    if (this.#ended !== null) {
      this.#giveNumber()
      return
    }
    if (answer.type === MessageType.error) {
      const error = errorFromWire(ControlFields.decode('ERROR', answer.meta))
      this.#unanswered(frame, error.outcome === undefined ? withOutcome(error, 'unknown') : error)
      return
    }
    if (answer.type !== MessageType.produced) {
      throw violation(`PRODUCE was answered with ${messageTypeName(answer.type)}`)
    }
    const { firstLsn, lastLsn, firstTimeTick, lastTimeTick } = decodeProduced(answer.meta)
    if (lastLsn - firstLsn + 1 !== frame.count) {
      this.#end(violation('PRODUCED names another number of records'), frame.entries)
      throw violation('PRODUCED names another number of records')
    }
    this.#session.ticks.raise(this.#owner.group, lastTimeTick)
    this.#pause.reset()
    const index = this.#frames.indexOf(frame)
    this.#frames.splice(index, 1)
    this.#sent--
    let at = 0
    for (const entry of frame.entries) {
      entry.succeed(firstLsn + at, firstTimeTick + BigInt(at), frame.isRepeat)
      at += entry.count
    }
    if (!frame.isRepeat) this.#owner.onAcknowledged(frame.first + frame.count)
    this.#goOn()
  }

  /** Refused, or its answer was lost. */
  #unanswered(frame: KeptFrame, error: TidelogError<string>): void {
    if (this.#ended !== null) {
      this.#giveNumber()
      return
    }
    if (error.outcome !== 'not-written') frame.mayBeWritten = true
    frame.refusal = error
    this.#recovering = true
    const forGood = isVerdict(frame, error)
    if (forGood) this.#refused ??= frame
    if (!forGood && error.code !== 'FAILED_BEFORE' && error.code !== 'CONNECTION_LOST') this.#pause.begin()
    else this.#goOn()
  }

  /** Once everything in flight is answered, what has no answer goes again, before what waits. */
  #goOn(): void {
    if (this.#ended !== null) return
    if (this.#recovering) {
      if (this.#inFlight > 0 || (this.#pause.isOn && this.#refused === null)) return
      this.#recovering = false
      this.#sent = 0
      if (this.#number !== null) this.#number.generation++
      const refused = this.#refused
      this.#refused = null
      if (refused !== null && !this.#settleRefused(refused)) return
    }
    if (this.#inFlight === 0) this.#giveNumber()
    this.#schedule()
  }

  #giveNumber(): void {
    if (this.#number === null || this.#inFlight > 0) return
    this.#connection?.laneNumbers.give(this.#owner.group, this.#number)
    this.#number = null
  }

  /** Returns false when it has ended the lane. */
  #settleRefused(frame: KeptFrame): boolean {
    const error = frame.refusal!
    if (frame.isRepeat) {
      for (const entry of frame.entries) entry.fail(error)
      this.#frames.splice(this.#frames.indexOf(frame), 1)
      return true
    }
    if (frame.mayBeWritten || this.#owner.failsWhole || endsProducer.has(error.code)) {
      this.#end(error, frame.entries)
      return false
    }
    const entries = this.#takeApart(this.#frames.indexOf(frame))
    this.#waiting.putBack(entries.slice(frame.entries.length))
    this.#refuse(frame.entries, error)
    return true
  }

  /** Frames from `index` on, none of which is written, become entries again, in order, which get other numbers. */
  #takeApart(index: number): AppendEntry[] {
    const frames = this.#frames.splice(index)
    const entries: AppendEntry[] = []
    for (const frame of frames) {
      if (!frame.isRepeat && frame.first < this.#next) this.#next = frame.first
      for (const entry of frame.entries) {
        entry.sent = false
        entry.refusal = frame.refusal
        if (!frame.isRepeat && !entry.explicitSequence) entry.sequence = 0
        entries.push(entry)
      }
    }
    this.#sent = Math.min(this.#sent, this.#frames.length)
    return entries
  }

  /** Not written for good: each goes alone, in its turn, so that one does not fail the rest; the one at fault fails. */
  #refuse(entries: readonly AppendEntry[], error: TidelogError<string>): void {
    if (entries.length > 1) {
      for (const entry of entries) entry.alone = true
      this.#waiting.putBack(entries)
    } else {
      entries[0]!.fail(withOutcome(error, 'not-written'))
      if (this.#owner.failsWhole) this.#end(error, [])
    }
  }

  /** `guilty`: whose failure it is; null: nobody's. The others may be told something else. */
  #end(error: TidelogError<string>, guilty: readonly AppendEntry[] | null): void {
    if (this.#ended !== null) return
    this.#ended = error
    this.#pause.cancel()
    const others = guilty === null ? error : this.#owner.othersError(error)
    const undone = this.#owner.isUndone(error)
    const frames = this.#frames
    this.#frames = []
    for (const frame of frames) {
      const outcome = !undone && (frame.mayBeWritten || frame.inFlight) ? 'unknown' : 'not-written'
      const told = withOutcome(frame.entries === guilty ? error : others, outcome)
      for (const entry of frame.entries) entry.fail(told)
    }
    for (const entry of this.#waiting.drain()) entry.fail(givenUp(entry, others))
    this.#giveNumber()
    this.#owner.onEnded(error)
  }
}
