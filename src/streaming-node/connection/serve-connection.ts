/**
 * The node's side of one connection: hello, dispatch of messages, back-pressure, and an end with a reason. Whatever the
 * other side sends, what is held for it is bounded.
 */
import type { Socket } from 'node:net'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { decodeCredit } from '../../protocol/consume-messages.ts'
import {
  type ConsumeRequest,
  decodeConsume,
  decodeGoodbye,
  decodeHello,
  encodeConsuming,
  encodeGoodbye,
  encodeWelcome,
} from '../../protocol/control-messages.ts'
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from '../../protocol/limits.ts'
import { encodeMessage, type Message, MessageType, messageTypeName } from '../../protocol/message.ts'
import { MessageParser } from '../../protocol/message-parser.ts'
import { Outbox } from '../../protocol/outbox.ts'
import { decodeProduce } from '../../protocol/produce-messages.ts'
import { violation } from '../../protocol/violation.ts'
import { shortened } from '../../protocol/wire-error.ts'
import type { NodeService } from '../node-service.ts'
import { ServerConsumer } from './consumer.ts'
import { Deadlines } from './deadlines.ts'
import { type ConnectionOptions, connectionDefaults } from './options.ts'
import { ProduceLanes } from './produce-lanes.ts'
import { RequestDesk } from './request-desk.ts'
import { checkVchannelName } from './requests.ts'
import { ThrottlePublisher } from './throttle-publisher.ts'
import { TickPublisher } from './tick-publisher.ts'

const PING_BYTES = 8
/** How long a connection that has said goodbye may stay to read it. */
const LINGER_MS = 2_000

export interface Connection {
  /** Settles when the socket is closed and nothing of it is left. Never rejects. */
  readonly closed: Promise<void>
  /**
   * Takes nothing more, answers what was taken, says goodbye and closes; `closed` tells when. `code`: `DRAINING` or
   * `CLOSED`.
   */
  end(code: string, message: string): void
  /** Closes at once. */
  destroy(): void
}

/** Serves a socket that was just accepted. Throws nothing: whatever happens ends this connection alone. */
export function serveConnection(
  socket: Socket,
  service: NodeService,
  options: Partial<ConnectionOptions> = {},
): Connection {
  return new ServedConnection(socket, service, { ...connectionDefaults, ...options })
}

class ServedConnection implements Connection {
  readonly closed: Promise<void>
  readonly #socket: Socket
  readonly #service: NodeService
  readonly #options: ConnectionOptions
  readonly #parser: MessageParser
  readonly #outbox: Outbox
  readonly #lanes: ProduceLanes
  readonly #ticks: TickPublisher
  readonly #deadlines: Deadlines
  readonly #consumers = new Map<number, ServerConsumer>()
  /** Ids of consumers that are being opened. */
  readonly #opening = new Set<number>()
  readonly #desk: RequestDesk
  readonly #throttle: ThrottlePublisher
  #clientBodyBytesMax = 0
  #greeted = false
  #received = 0
  #reading = true
  #waitsForRoom = false
  /** Nothing more is taken. */
  #ending = false
  #closeCode = 'CONNECTION_LOST'

  constructor(socket: Socket, service: NodeService, options: ConnectionOptions) {
    const { clock, metrics } = options
    this.#socket = socket
    this.#service = service
    this.#options = options
    this.#parser = new MessageParser(options.bodyBytesMax, (message) => this.#take(message))
    this.#outbox = new Outbox(socket, {
      clock,
      highWaterBytes: options.writeBufferBytes,
      stallTimeoutMs: options.writeStallTimeoutMs,
      onStalled: () => this.#giveUp('SLOW_CONNECTION', 'what was written is not read'),
      onSent: (bytes) => metrics.bytesSent(bytes),
    })
    this.#lanes = new ProduceLanes({
      service,
      metrics,
      rules: {
        recordBytesMax: options.recordBytesMax,
        hasOpened: (producer, epoch) => this.#desk.hasOpened(producer, epoch),
      },
      producersMax: options.producersMax,
      budget: options.produceBudget,
      send: (message) => this.#outbox.send(message),
      onSettled: () => this.#balance(),
      onBroken: (error) => this.#refuse(error),
    })
    this.#ticks = new TickPublisher({ service, clock, outbox: this.#outbox })
    this.#desk = new RequestDesk({
      service,
      options,
      send: (message) => this.#outbox.send(message),
      onAnswered: () => this.#balance(),
      onBroken: () => this.#socket.destroy(),
      transactionIdle: (group, transaction) => this.#lanes.transactionIdle(group, transaction),
    })
    this.#throttle = new ThrottlePublisher({ service, outbox: this.#outbox })
    this.#deadlines = new Deadlines({
      clock,
      helloTimeoutMs: options.helloTimeoutMs,
      messageTimeoutMs: options.messageTimeoutMs,
      idleTimeoutMs: options.idleTimeoutMs,
      expectedBytes: () => this.#parser.expectedBytes,
      onLate: (message) => this.#refuse(new TidelogError('SLOW_CONNECTION', message)),
    })
    metrics.connectionOpened()
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#cleanUp()
        metrics.connectionClosed(this.#closeCode)
        resolve()
      })
    })
    socket.on('error', () => socket.destroy())
    socket.setNoDelay(true)
    if (socket.destroyed) {
      socket.emit('close', false)
      return
    }
    socket.pause()
    loadChecksum().then(
      () => {
        socket.on('data', (chunk: Buffer) => this.#onData(chunk))
        // A client that goes without a word: nothing is left to be answered to anybody.
        socket.on('end', () => this.#cleanUp())
        socket.resume()
      },
      () => socket.destroy(),
    )
  }

  end(code: string, message: string): void {
    void this.#finish(code, message)
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #onData(chunk: Buffer): void {
    if (this.#ending) return
    this.#options.metrics.bytesReceived(chunk.length)
    const before = this.#received
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.#refuse(error)
      return
    }
    if (this.#ending) return
    this.#deadlines.received(this.#received - before)
    this.#balance()
  }

  /** Returns false when nothing more is to be looked at. */
  #take(message: Message): boolean {
    try {
      if (this.#greeted) this.#handle(message)
      else this.#greet(message)
    } catch (error) {
      this.#refuse(error)
    }
    if (!this.#ending) this.#received++
    return !this.#ending
  }

  #greet(message: Message): void {
    if (message.type !== MessageType.hello) throw violation(`the first message is ${messageTypeName(message.type)}`)
    const hello = decodeHello(message.meta)
    const version = Math.min(hello.versionMax, PROTOCOL_VERSION_MAX)
    if (version < hello.versionMin || version < PROTOCOL_VERSION_MIN) {
      throw new TidelogError(
        'PROTOCOL_VERSION',
        `this node speaks protocol versions ${PROTOCOL_VERSION_MIN} to ${PROTOCOL_VERSION_MAX}, the client ${hello.versionMin} to ${hello.versionMax}`,
      )
    }
    this.#greeted = true
    this.#deadlines.greeted()
    this.#clientBodyBytesMax = hello.bodyBytesMax
    const { serverName, bodyBytesMax, recordBytesMax, produceBytesMax, consumersMax, idleTimeoutMs } = this.#options
    const welcome = encodeWelcome({
      name: serverName,
      version,
      features: 0,
      bodyBytesMax,
      recordBytesMax,
      produceBytesMax,
      consumersMax,
      tickIntervalMs: this.#service.timeTickIntervalMs,
      idleTimeoutMs,
    })
    this.#outbox.send(encodeMessage(MessageType.welcome, 0, welcome))
  }

  #handle(message: Message): void {
    const { type, requestId, meta, body } = message
    switch (type) {
      case MessageType.produce: {
        const produce = decodeProduce(meta)
        this.#lanes.receive(asked(requestId), produce, body)
        this.#throttle.wrote(produce.group)
        return
      }
      case MessageType.credit: {
        // A consumer that has just ended may still be given credit.
        const { bytes, frames } = decodeCredit(meta)
        this.#consumers.get(requestId)?.credit(bytes, frames)
        return
      }
      case MessageType.consume:
        this.#open(asked(requestId), decodeConsume(meta))
        return
      case MessageType.consumeStop:
        this.#consumers.get(requestId)?.stop()
        this.#opening.delete(requestId)
        return
      case MessageType.ping:
        if (meta.length !== PING_BYTES) throw violation('a PING of another length')
        this.#outbox.send(encodeMessage(MessageType.pong, 0, meta))
        return
      case MessageType.pong:
        return
      case MessageType.goodbye:
        decodeGoodbye(meta)
        void this.#finish('CLOSED', 'goodbye')
        return
      default: {
        this.#desk.take(message)
      }
    }
  }

  #open(id: number, request: ConsumeRequest): void {
    if (this.#consumers.has(id) || this.#opening.has(id)) throw violation(`consumer ${id} is there already`)
    if (this.#consumers.size + this.#opening.size >= this.#options.consumersMax) {
      const message = `more than ${this.#options.consumersMax} consumers on a connection`
      this.#desk.answer(id, Promise.reject(new TidelogError('LIMIT_EXCEEDED', message)))
      return
    }
    this.#opening.add(id)
    this.#desk.answer(id, this.#openConsumer(id, request))
  }

  async #openConsumer(id: number, request: ConsumeRequest): Promise<Buffer> {
    const service = this.#service
    try {
      for (const name of request.vchannels) {
        checkVchannelName(name)
        const { group } = await service.resolve(name, false)
        if (group !== request.group) {
          throw new TidelogError('INVALID_ARGUMENT', `vchannel ${name} is of group ${group}, not ${request.group}`)
        }
      }
      if (!this.#opening.has(id) || this.#ending) throw new TidelogError('CLOSED', 'the consumer was stopped')
    } finally {
      this.#opening.delete(id)
    }
    const consumer: ServerConsumer = new ServerConsumer({
      id,
      request,
      service,
      outbox: this.#outbox,
      metrics: this.#options.metrics,
      bodyBytesMax: this.#clientBodyBytesMax,
      transactionBudget: this.#options.transactionBudget,
      onEnd: () => {
        this.#consumers.delete(id)
        this.#ticks.remove(consumer)
      },
    })
    const consuming = encodeConsuming({
      firstLsn: service.firstLsn(request.group),
      nextLsn: service.nextLsn(request.group),
      from: consumer.position ?? undefined,
      until: consumer.until ?? undefined,
    })
    this.#consumers.set(id, consumer)
    this.#ticks.add(consumer)
    // Behind the answer, which leaves in the microtasks that follow.
    setImmediate(() => void consumer.run())
    return encodeMessage(MessageType.consuming, id, consuming)
  }

  readonly #onRoom = (): void => this.#balance()

  /** Reads as long as what is held for this client is within its bounds. */
  #balance(): void {
    if (this.#ending) return
    const { produceBytesMax, produceBudget, writeBufferBytes } = this.#options
    // Who holds nothing may send one frame all the same: nobody is starved by the others.
    const crowded = produceBudget.isFull && this.#lanes.pendingBytes > 0
    if (crowded) produceBudget.whenRoom(this.#onRoom)
    const full =
      crowded ||
      this.#lanes.pendingBytes > produceBytesMax ||
      this.#desk.isFull ||
      this.#outbox.bufferedBytes > 2 * writeBufferBytes
    if (full && this.#reading) {
      this.#reading = false
      this.#deadlines.pause()
      this.#socket.pause()
    } else if (!full && !this.#reading) {
      this.#reading = true
      this.#deadlines.resume()
      this.#socket.resume()
    }
    if (full && !this.#outbox.hasRoom && !this.#waitsForRoom) {
      this.#waitsForRoom = true
      void this.#outbox.room().then(() => {
        this.#waitsForRoom = false
        this.#balance()
      })
    }
  }

  /** Ends the connection for what the other side did: what was taken before is still answered. */
  #refuse(error: unknown): void {
    const known = error instanceof TidelogError ? (error as TidelogError<string>) : null
    const code = known?.code ?? 'IO_FAILED'
    const message = known?.message ?? 'the node failed inside; its log says more'
    this.#options.onNote(`connection refused with ${code}: ${known?.message ?? String(error)}`)
    void this.#finish(code, message)
  }

  /** Ends it without a word: nothing would be read. */
  #giveUp(code: string, message: string): void {
    this.#options.onNote(`connection given up with ${code}: ${message}`)
    this.#closeCode = code
    this.#socket.destroy()
  }

  async #finish(code: string, message: string): Promise<void> {
    if (this.#ending) return
    this.#ending = true
    this.#closeCode = code
    this.#parser.stop()
    this.#deadlines.stop()
    this.#ticks.stop()
    // Drains what still comes, so that the goodbye is not lost to a reset, but keeps nothing of it.
    this.#socket.resume()
    this.#throttle.stop()
    for (const consumer of this.#consumers.values()) consumer.stop()
    this.#desk.end()
    await Promise.all([this.#lanes.idle(), this.#desk.idle()])
    if (this.#socket.destroyed) return
    const goodbye = encodeGoodbye({ code, message: shortened(message), received: this.#received })
    this.#outbox.send(encodeMessage(MessageType.goodbye, 0, goodbye))
    this.#outbox.end()
    this.#options.clock.after(LINGER_MS, () => this.#socket.destroy())
  }

  #cleanUp(): void {
    if (!this.#ending) this.#ending = true
    this.#parser.stop()
    this.#deadlines.stop()
    this.#ticks.stop()
    for (const consumer of this.#consumers.values()) consumer.stop()
    this.#opening.clear()
    this.#desk.end()
    this.#throttle.stop()
    this.#options.produceBudget.forget(this.#onRoom)
    this.#outbox.close()
  }
}

function asked(requestId: number): number {
  if (requestId === 0) throw violation('a request has the id 0')
  return requestId
}
