/** One connection of the client: hello, requests matched with their answers, signs of life, and its end. */
import { connect as connectSocket, type Socket } from 'node:net'
import { TidelogError } from '../errors.ts'
import { type Address, formatAddress } from '../protocol/address.ts'
import type { ConnectionClock } from '../protocol/clock.ts'
import { decodeTick, type TickMessage } from '../protocol/consume-messages.ts'
import { ControlFields } from '../protocol/control-codec.ts'
import {
  decodeGoodbye,
  decodeWelcome,
  encodeGoodbye,
  encodeHello,
  type Goodbye,
  type Welcome,
} from '../protocol/control-messages.ts'
import { BODY_BYTES_MAX, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from '../protocol/limits.ts'
import { encodeMessage, type Message, MessageType, messageTypeName } from '../protocol/message.ts'
import { MessageParser } from '../protocol/message-parser.ts'
import { Outbox } from '../protocol/outbox.ts'
import { violation } from '../protocol/violation.ts'
import { decodeThrottle, type Throttle } from '../protocol/wal-messages.ts'
import { errorFromWire } from '../protocol/wire-error.ts'
import { LaneNumbers } from './lane-numbers.ts'

const WRITE_BUFFER_BYTES = 1024 * 1024
const REQUEST_ID_MAX = 0xffff_ffff
const PING_BYTES = 8
/** How long the other side may take to close after our goodbye. */
const LINGER_MS = 1_000

export interface ConnectionSettings {
  clock: ConnectionClock
  name: string
  connectTimeoutMs: number
  pingIntervalMs: number
}

/** What a connection tells of itself. */
export interface ConnectionEvents {
  onLost(error: TidelogError<string>): void
  onTick(tick: TickMessage): void
  onThrottle(throttle: Throttle): void
}

/** Who waits for messages with a request id. */
export interface Listener {
  /** Throws PROTOCOL_VIOLATION for what makes no sense; the connection then ends. */
  onMessage(message: Message): void
  /** `actedUpon` is false when the node said that it never looked at the request. */
  onLost(error: TidelogError<string>, actedUpon: boolean): void
}

interface Registered {
  listener: Listener
  /** How many messages had been sent with this one. */
  ordinal: number
}

export class ClientConnection {
  readonly welcome: Welcome
  /** The producer numbers of PRODUCE that transactions and producers take in turn. */
  readonly laneNumbers = new LaneNumbers()
  readonly #socket: Socket
  readonly #clock: ConnectionClock
  readonly #parser: MessageParser
  readonly #outbox: Outbox
  readonly #listeners = new Map<number, Registered>()
  readonly #events: ConnectionEvents
  readonly #pingMs: number
  #nextId = 1
  /** HELLO was the first. */
  #sent = 1
  #received = 1
  #sentSince = false
  #receivedMs: number
  #timer: { cancel(): void } | null = null
  #goodbye: Goodbye | null = null
  #lost = false

  private constructor(greeted: Greeted, settings: ConnectionSettings, events: ConnectionEvents) {
    this.welcome = greeted.welcome
    this.#socket = greeted.socket
    this.#clock = settings.clock
    this.#events = events
    this.#pingMs = Math.max(1, Math.min(settings.pingIntervalMs, Math.floor(greeted.welcome.idleTimeoutMs / 3)))
    this.#receivedMs = settings.clock.monotonicMs()
    this.#outbox = new Outbox(greeted.socket, {
      clock: settings.clock,
      highWaterBytes: WRITE_BUFFER_BYTES,
      onStalled: () => this.#lose(lost('the node does not read')),
    })
    this.#parser = greeted.parser
    this.#socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.#socket.on('error', (cause) => this.#lose(lost(cause.message, cause)))
    this.#socket.on('close', () => this.#lose(this.#endError()))
    this.#watch()
    greeted.take((message) => this.#take(message))
    if (this.#socket.destroyed) queueMicrotask(() => this.#lose(this.#endError()))
  }

  /** Connects and says hello. Throws SERVER_UNREACHABLE, TIMEOUT, PROTOCOL_VERSION, PROTOCOL_VIOLATION. */
  static async open(
    address: Address,
    settings: ConnectionSettings,
    events: ConnectionEvents,
  ): Promise<ClientConnection> {
    return new ClientConnection(await greet(address, settings), settings, events)
  }

  /** Bytes that wait to be written are below the bound. */
  get hasRoom(): boolean {
    return this.#outbox.hasRoom
  }

  room(): Promise<void> {
    return this.#outbox.room()
  }

  /** Takes an id for `listener`, which hears everything that comes with it until `forget`. */
  listen(listener: Listener): number {
    while (this.#listeners.has(this.#nextId)) this.#advanceId()
    const id = this.#nextId
    this.#advanceId()
    this.#listeners.set(id, { listener, ordinal: this.#sent + 1 })
    return id
  }

  forget(id: number): void {
    this.#listeners.delete(id)
  }

  /** One whole message. It must not change afterwards. */
  send(message: Buffer): void {
    this.#sent++
    this.#sentSince = true
    this.#outbox.send(message)
  }

  /** Sends a request; settles with its answer, which has one of the types `wanted`. Rejects with what ERROR says. */
  request(type: MessageType, wanted: MessageType, meta: Buffer): Promise<Message> {
    return new Promise((resolve, reject) => {
      const id = this.listen({
        onMessage: (message) => {
          this.forget(id)
          if (message.type === wanted) resolve(message)
          else if (message.type === MessageType.error)
            reject(errorFromWire(ControlFields.decode('ERROR', message.meta)))
          else throw violation(`a request was answered with ${messageTypeName(message.type)}`)
        },
        onLost: reject,
      })
      this.send(encodeMessage(type, id, meta))
    })
  }

  /** Says goodbye and closes. Everything that waits for an answer is lost. */
  async close(): Promise<void> {
    if (this.#lost) return
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    this.send(
      encodeMessage(MessageType.goodbye, 0, encodeGoodbye({ code: 'CLOSED', message: '', received: this.#received })),
    )
    this.#outbox.end()
    const timer = this.#clock.after(LINGER_MS, () => this.#socket.destroy(), true)
    await closed
    timer.cancel()
  }

  destroy(reason: TidelogError<string>): void {
    this.#lose(reason)
  }

  #advanceId(): void {
    this.#nextId = this.#nextId >= REQUEST_ID_MAX ? 1 : this.#nextId + 1
  }

  #onData(chunk: Buffer): void {
    this.#receivedMs = this.#clock.monotonicMs()
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.#lose(asTidelogError(error))
    }
  }

  #take(message: Message): boolean {
    this.#received++
    switch (message.type) {
      case MessageType.tick:
        this.#events.onTick(decodeTick(message.meta))
        break
      case MessageType.throttle:
        this.#events.onThrottle(decodeThrottle(message.meta))
        break
      case MessageType.pong:
        break
      case MessageType.ping:
        this.send(encodeMessage(MessageType.pong, 0, message.meta))
        break
      case MessageType.goodbye:
        this.#goodbye = decodeGoodbye(message.meta)
        this.#lose(this.#endError())
        break
      default:
        // An answer to what is no longer waited for is dropped.
        this.#listeners.get(message.requestId)?.listener.onMessage(message)
    }
    return !this.#lost
  }

  #endError(): TidelogError<string> {
    const goodbye = this.#goodbye
    if (goodbye === null) return lost('the connection was closed')
    const known = goodbye.code === 'DRAINING' || goodbye.code === 'CLOSED'
    const message = `the node ended the connection: ${goodbye.code} ${goodbye.message}`
    return new TidelogError<string>('CONNECTION_LOST', message, {
      retriable: true,
      cause: known ? undefined : new TidelogError<string>(goodbye.code, goodbye.message),
    })
  }

  #watch(): void {
    this.#timer = this.#clock.after(this.#pingMs, () => {
      const silentMs = this.#clock.monotonicMs() - this.#receivedMs
      if (silentMs > 2.5 * this.#pingMs) {
        this.#lose(lost(`nothing came from the node for ${Math.round(silentMs)} ms`))
        return
      }
      if (!this.#sentSince || silentMs >= this.#pingMs) {
        this.send(encodeMessage(MessageType.ping, 0, Buffer.alloc(PING_BYTES)))
      }
      this.#sentSince = false
      this.#watch()
    })
  }

  #lose(error: TidelogError<string>): void {
    if (this.#lost) return
    this.#lost = true
    this.#timer?.cancel()
    this.#parser.stop()
    this.#outbox.close()
    this.#socket.destroy()
    const listeners = [...this.#listeners.values()]
    this.#listeners.clear()
    this.#events.onLost(error)
    const actedUpon = this.#goodbye === null ? Number.POSITIVE_INFINITY : this.#goodbye.received
    for (const { listener, ordinal } of listeners) listener.onLost(error, ordinal <= actedUpon)
    this.laneNumbers.close()
  }
}

interface Greeted {
  socket: Socket
  parser: MessageParser
  welcome: Welcome
  /** Gives everything behind WELCOME to `handler`; the socket's events are the taker's from here on. */
  take(handler: (message: Message) => boolean): void
}

function greet(address: Address, settings: ConnectionSettings): Promise<Greeted> {
  return new Promise((resolve, reject) => {
    const where = formatAddress(address)
    const socket =
      address.kind === 'unix'
        ? connectSocket({ path: address.path })
        : connectSocket({ host: address.host, port: address.port })
    let taker: ((message: Message) => boolean) | null = null
    let welcomed = false
    const early: Message[] = []
    const fail = (error: TidelogError<string>) => {
      timer.cancel()
      socket.destroy()
      reject(error)
    }
    const unreachable = (why: string, cause?: unknown) =>
      fail(
        new TidelogError<string>('SERVER_UNREACHABLE', `no Tidelog node at ${where}: ${why}`, {
          retriable: true,
          cause,
        }),
      )
    const timer = settings.clock.after(
      settings.connectTimeoutMs,
      () => unreachable(`no answer within ${settings.connectTimeoutMs} ms`),
      true,
    )
    const parser = new MessageParser(BODY_BYTES_MAX, (message) => {
      if (taker !== null) return taker(message)
      if (welcomed) return early.push(message) > 0
      if (message.type === MessageType.goodbye) {
        const { code, message: why } = decodeGoodbye(message.meta)
        if (code === 'DRAINING' || code === 'CLOSED') unreachable(why)
        else fail(new TidelogError<string>(code, `${where}: ${why}`))
        return false
      }
      if (message.type !== MessageType.welcome)
        throw violation(`HELLO was answered with ${messageTypeName(message.type)}`)
      const welcome = decodeWelcome(message.meta)
      if (welcome.version < PROTOCOL_VERSION_MIN || welcome.version > PROTOCOL_VERSION_MAX) {
        throw new TidelogError('PROTOCOL_VERSION', `${where} speaks protocol version ${welcome.version}`)
      }
      timer.cancel()
      welcomed = true
      const take = (handler: (message: Message) => boolean) => {
        socket.off('data', onData).off('error', onError).off('close', onClose)
        taker = handler
        for (const waiting of early) if (!handler(waiting)) break
      }
      resolve({ socket, parser, welcome, take })
      return true
    })
    socket.setNoDelay(true)
    socket.once('connect', () => {
      const hello = encodeHello({
        name: settings.name,
        versionMin: PROTOCOL_VERSION_MIN,
        versionMax: PROTOCOL_VERSION_MAX,
        features: 0,
        bodyBytesMax: BODY_BYTES_MAX,
      })
      socket.write(encodeMessage(MessageType.hello, 0, hello))
    })
    const onData = (chunk: Buffer) => {
      try {
        parser.push(chunk)
      } catch (error) {
        fail(asTidelogError(error))
      }
    }
    const onError = (cause: Error) => unreachable(cause.message, cause)
    const onClose = () => unreachable('the connection was closed')
    socket.on('data', onData).on('error', onError).on('close', onClose)
  })
}

function lost(why: string, cause?: unknown): TidelogError<string> {
  return new TidelogError<string>('CONNECTION_LOST', `the connection was lost: ${why}`, { retriable: true, cause })
}

function asTidelogError(error: unknown): TidelogError<string> {
  return error instanceof TidelogError ? error : violation('a message could not be handled', error)
}
