/**
 * The part of a consumer that reads one group: asks for frames with credit, verifies what comes, and asks again from
 * where it was when the connection is lost, so that nothing is missing and nothing comes twice.
 */
import type { TidelogError } from '../errors.ts'
import {
  decodeCaughtUp,
  decodeFrame,
  encodeCredit,
  type TickMessage,
  type TransactionPart,
  type WireFrame,
} from '../protocol/consume-messages.ts'
import { ControlFields } from '../protocol/control-codec.ts'
import { decodeConsuming, encodeConsume } from '../protocol/control-messages.ts'
import { encodeMessage, MESSAGE_HEADER_BYTES, type Message, MessageType, messageTypeName } from '../protocol/message.ts'
import { violation } from '../protocol/violation.ts'
import { errorFromWire } from '../protocol/wire-error.ts'
import type { ClientConnection } from './connection.ts'
import { ReceivedFrame, type RecordFilter } from './received-frame.ts'
import type { Session } from './session.ts'
import type { ConsumedGap, ConsumePosition } from './types.ts'

const FRAMES_MAX = 1024
const LSN_MAX = Number.MAX_SAFE_INTEGER

export interface GroupStreamOptions {
  group: number
  vchannels: readonly string[]
  from: ConsumePosition
  /** Only what has this tick or a greater one; of a transaction the commit's counts. */
  fromTick: bigint
  /** 0: as often as the node has them. */
  ticksEveryMs: number
  types: readonly number[] | undefined
  untilCaughtUp: boolean
  /** Bytes of frames that are held at most, plus one frame. */
  windowBytes: number
  session: Session
  onFrame(frame: ReceivedFrame): void
  onGap(gap: ConsumedGap): void
  /** The watermark or the end has changed. */
  onProgress(): void
}

export class GroupStream {
  readonly group: number
  readonly #options: GroupStreamOptions
  readonly #names: ReadonlySet<string>
  readonly #types: ReadonlySet<number> | null
  #connection: ClientConnection | null = null
  #id = 0
  /** The next LSN that is wanted; null while only a tick or a name of a position is known. */
  #position: number | null
  /** So many records of the transaction that was committed at `position` were taken before. */
  #taken = 0
  /** So many of them have come on this connection. */
  #seen = 0
  /** What the node had as its first record: a frame may hold older ones, which were truncated away. */
  #firstLsn = 0
  #until: number | null = null
  #covered = false
  /** Frames given to `onFrame` and not consumed. */
  #heldBytes = 0
  #heldFrames = 0
  /** The last of them: a watermark that comes now stands behind it. */
  #lastHeld: ReceivedFrame | null = null
  #owedBytes = 0
  #owedFrames = 0
  #watermark = 0n
  #error: TidelogError<string> | null = null
  #done = false
  #stopped = false

  constructor(options: GroupStreamOptions) {
    const { from } = options
    this.#options = options
    this.group = options.group
    this.#names = new Set(options.vchannels)
    this.#types = options.types === undefined ? null : new Set(options.types)
    const isPlace = typeof from === 'object' && 'lsn' in from
    this.#position = isPlace ? from.lsn : null
    this.#taken = isPlace ? (from.skip ?? 0) : 0
  }

  /** Everything that was asked for has come, and what is held is the rest of it. */
  get done(): boolean {
    return this.#done
  }

  get error(): TidelogError<string> | null {
    return this.#error
  }

  /** Every record with a tick at or below it was consumed. */
  get watermark(): bigint {
    return this.#watermark
  }

  /** Opens it on a connection, and on the next one when that is lost; never rejects. */
  async start(): Promise<void> {
    while (!this.#stopped && !this.#done && this.#error === null) {
      try {
        const connection = await this.#options.session.connected()
        if (this.#stopped) return
        await this.#run(connection)
      } catch (error) {
        this.#end(error as TidelogError<string>)
      }
    }
  }

  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#connection?.send(encodeMessage(MessageType.consumeStop, this.#id))
    this.#connection?.forget(this.#id)
    this.#connection = null
  }

  onTick(tick: TickMessage): void {
    if (this.#connection === null) return
    if (tick.leftOut.includes(this.#id)) this.#covered = false
    if (!this.#covered) return
    const own = tick.groups.find(({ group }) => group === this.group)
    this.#reach(own === undefined ? tick.others : own.timeTick)
  }

  /** All records of the frame have been delivered: its credit goes back. */
  consumed(frame: ReceivedFrame): void {
    this.#heldBytes -= frame.messageBytes
    this.#heldFrames--
    this.#owedBytes += frame.messageBytes
    this.#owedFrames++
    if (this.#lastHeld === frame) this.#lastHeld = null
    for (const tick of [frame.lastTimeTick, frame.tickAfter]) if (tick > this.#watermark) this.#watermark = tick
    const { windowBytes } = this.#options
    if (this.#heldFrames > 0 && this.#owedBytes < windowBytes / 4 && this.#owedFrames < FRAMES_MAX / 4) return
    if (this.#connection === null) return
    this.#connection.send(encodeCredit(this.#id, { bytes: this.#owedBytes, frames: this.#owedFrames }))
    this.#owedBytes = 0
    this.#owedFrames = 0
  }

  /** Settles when the connection is lost or the consumer has ended; rejects with what ended it for good. */
  #run(connection: ClientConnection): Promise<void> {
    const { vchannels, types, untilCaughtUp, windowBytes, ticksEveryMs } = this.#options
    return new Promise((resolve, reject) => {
      const id = connection.listen({
        onMessage: (message) => {
          // What came before a stop is not delivered.
          if (this.#stopped) return
          try {
            if (this.#take(message)) {
              connection.forget(id)
              this.#connection = null
              resolve()
            }
          } catch (error) {
            connection.forget(id)
            this.#connection = null
            reject(error)
            if (message.type !== MessageType.error && message.type !== MessageType.consumeEnd) {
              connection.send(encodeMessage(MessageType.consumeStop, id))
            }
          }
        },
        onLost: () => {
          this.#connection = null
          resolve()
        },
      })
      this.#id = id
      this.#connection = connection
      this.#covered = false
      this.#seen = 0
      this.#owedBytes = 0
      this.#owedFrames = 0
      connection.send(
        encodeMessage(
          MessageType.consume,
          id,
          encodeConsume({
            group: this.group,
            vchannels: [...vchannels],
            from: this.#from(),
            types: types === undefined ? undefined : [...types],
            until: untilCaughtUp ? (this.#until ?? 'end') : undefined,
            bytes: Math.max(0, windowBytes - this.#heldBytes),
            frames: Math.max(0, FRAMES_MAX - this.#heldFrames),
            ticksEveryMs: ticksEveryMs > 0 ? Math.ceil(ticksEveryMs) : undefined,
          }),
        ),
      )
    })
  }

  #from(): 'earliest' | 'latest' | { lsn: number } | { timeTick: bigint } {
    const { from, fromTick } = this.#options
    if (this.#position !== null) return { lsn: this.#position }
    // Where nothing else is said, the node leaves out what is too old.
    if (from === 'earliest' && fromTick > 0n) return { timeTick: fromTick }
    return from
  }

  #advance(position: number): void {
    if (this.#position !== null && position <= this.#position) return
    this.#position = position
    this.#taken = 0
    this.#seen = 0
  }

  /** Returns true when nothing more comes on this connection. */
  #take(message: Message): boolean {
    const { meta, type } = message
    switch (type) {
      case MessageType.consuming: {
        const consuming = decodeConsuming(meta)
        this.#firstLsn = Math.max(this.#firstLsn, consuming.firstLsn)
        if (consuming.until !== undefined) this.#until ??= consuming.until
        // What is "latest" is told once: what comes from now on is wanted, over a lost connection too.
        if (this.#options.from === 'latest') this.#position ??= consuming.from ?? null
        return false
      }
      case MessageType.frame:
        this.#takeFrame(message)
        return false
      case MessageType.caughtUp: {
        const { lsn, timeTick } = decodeCaughtUp(meta)
        this.#advance(lsn)
        this.#covered = true
        this.#reach(timeTick)
        return false
      }
      case MessageType.consumeEnd:
        return this.#takeEnd(meta)
      case MessageType.error: {
        const error = errorFromWire(ControlFields.decode('ERROR', meta))
        // The node is going, as in CONSUME_END.
        if (error.code === 'CLOSED') return false
        throw error
      }
      default:
        throw violation(`a consumer got ${messageTypeName(type)}`)
    }
  }

  #takeFrame({ meta, body }: Message): void {
    const wire = decodeFrame(meta, body.length)
    const messageBytes = MESSAGE_HEADER_BYTES + meta.length + body.length
    const filter = {
      names: this.#names,
      types: this.#types,
      fromLsn: Math.max(this.#position ?? 0, this.#firstLsn),
      fromTick: this.#options.fromTick,
      untilLsn: this.#until ?? LSN_MAX,
    }
    if (wire.part !== null) {
      this.#takePart(wire, wire.part, body, messageBytes, filter)
      return
    }
    const after = wire.baseLsn + (wire.gap === null ? wire.recordCount : wire.gap.count)
    // A gap is told at once and takes no room here; what was delivered before a lost connection comes from nowhere.
    if (wire.gap !== null || after <= filter.fromLsn) {
      if (wire.gap !== null && after > filter.fromLsn) {
        const { count, reason } = wire.gap
        this.#options.onGap({ group: this.group, firstLsn: wire.baseLsn, count, reason })
      }
      this.#giveBack(messageBytes)
    } else this.#hold(ReceivedFrame.open(this.group, wire, body, messageBytes, filter))
    this.#advance(after)
  }

  /** What was taken of the transaction before the connection was lost comes again, and is left out. */
  #takePart(
    wire: WireFrame,
    { commitLsn, last }: TransactionPart,
    body: Buffer,
    messageBytes: number,
    filter: RecordFilter,
  ): void {
    if (this.#position !== null && commitLsn < this.#position) {
      this.#giveBack(messageBytes)
      return
    }
    this.#advance(commitLsn)
    const skip = Math.max(0, this.#taken - this.#seen)
    const frame = ReceivedFrame.open(this.group, wire, body, messageBytes, filter, { before: this.#seen, skip })
    this.#seen += frame.partRecords
    if (frame.partRecords <= skip) this.#giveBack(messageBytes)
    else {
      this.#taken = this.#seen
      this.#hold(frame)
    }
    if (last) this.#advance(commitLsn + 1)
  }

  #hold(frame: ReceivedFrame): void {
    this.#heldBytes += frame.messageBytes
    this.#heldFrames++
    this.#lastHeld = frame
    this.#options.onFrame(frame)
  }

  #giveBack(messageBytes: number): void {
    this.#connection?.send(encodeCredit(this.#id, { bytes: messageBytes, frames: 1 }))
  }

  #takeEnd(meta: Buffer): boolean {
    const fields = ControlFields.decode('CONSUME_END', meta)
    const code = fields.string('code', 64)
    if (code === 'OK') {
      this.#done = true
      this.#options.onProgress()
      return true
    }
    // The node is going: what follows is asked for on the next connection, once this one is lost.
    if (code === 'CLOSED' || code === 'DRAINING') return false
    throw errorFromWire(fields)
  }

  #reach(timeTick: bigint): void {
    if (this.#lastHeld !== null) {
      if (timeTick > this.#lastHeld.tickAfter) this.#lastHeld.tickAfter = timeTick
      return
    }
    if (timeTick <= this.#watermark) return
    this.#watermark = timeTick
    this.#options.onProgress()
  }

  #end(error: TidelogError<string>): void {
    if (this.#stopped) return
    if (error.code === 'CLOSED' && this.#options.session.closed !== null) this.#done = true
    else this.#error = error
    this.#options.onProgress()
  }
}
