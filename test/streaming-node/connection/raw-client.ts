/** A client without manners: writes any bytes, and reads messages. */
import { connect, type Socket } from 'node:net'
import { loadChecksum, planBody, type RecordInput, writeBody } from '../../../native-free-storage/index.ts'
import { ControlFields } from '../../../src/protocol/control-codec.ts'
import { decodeGoodbye, encodeHello, type Goodbye } from '../../../src/protocol/control-messages.ts'
import { encodeMessage, type Message, MessageType } from '../../../src/protocol/message.ts'
import { MessageParser } from '../../../src/protocol/message-parser.ts'
import { PRODUCE_BODY_AT, type Produce, writeProduce } from '../../../src/protocol/produce-messages.ts'

export class RawClient {
  readonly socket: Socket
  readonly messages: Message[] = []
  ended = false
  readonly #waiters: (() => void)[] = []

  private constructor(socket: Socket) {
    this.socket = socket
    const parser = new MessageParser(64 * 1024 * 1024, (message) => {
      this.messages.push(message)
      this.#wake()
      return true
    })
    socket.on('data', (chunk) => parser.push(chunk as Buffer))
    socket.on('error', () => {})
    socket.on('close', () => {
      this.ended = true
      this.#wake()
    })
  }

  static async connect(port: number): Promise<RawClient> {
    await loadChecksum()
    const socket = connect(port, '127.0.0.1')
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new RawClient(socket)
  }

  /** Connected and welcomed. */
  static async greeted(port: number, hello: Partial<Parameters<typeof encodeHello>[0]> = {}): Promise<RawClient> {
    const client = await RawClient.connect(port)
    client.socket.write(helloMessage(hello))
    await client.next(MessageType.welcome)
    return client
  }

  /** The next message of this type, taken out; throws when the connection ends before. */
  async next(type: MessageType): Promise<Message> {
    for (;;) {
      const index = this.messages.findIndex((message) => message.type === type)
      if (index >= 0) return this.messages.splice(index, 1)[0]!
      if (this.ended) throw new Error('the connection has ended')
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
  }

  /** What answers the request, taken out. */
  async answer(requestId: number): Promise<Message> {
    for (;;) {
      const index = this.messages.findIndex((message) => message.requestId === requestId)
      if (index >= 0) return this.messages.splice(index, 1)[0]!
      if (this.ended) throw new Error('the connection has ended')
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
  }

  async goodbye(): Promise<Goodbye> {
    return decodeGoodbye((await this.next(MessageType.goodbye)).meta)
  }

  async error(): Promise<{ requestId: number; code: string; outcome: string; retriable: boolean }> {
    const message = await this.next(MessageType.error)
    const fields = ControlFields.decode('ERROR', message.meta)
    return {
      requestId: message.requestId,
      code: fields.string('code', 64),
      outcome: fields.string('outcome', 16, ''),
      retriable: fields.boolean('retriable', false),
    }
  }

  async closed(): Promise<void> {
    while (!this.ended) await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }

  close(): void {
    this.socket.destroy()
  }

  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake()
  }
}

export function helloMessage(hello: Partial<Parameters<typeof encodeHello>[0]> = {}): Buffer {
  const meta = encodeHello({
    name: 'raw',
    versionMin: 2,
    versionMax: 2,
    features: 0,
    bodyBytesMax: 64 * 1024 * 1024,
    ...hello,
  })
  return encodeMessage(MessageType.hello, 0, meta)
}

/** A whole PRODUCE; `change` may spoil the body before it is sealed into the message. */
export function produceMessage(
  requestId: number,
  records: readonly RecordInput[],
  options: Partial<Produce> & { change?: (body: Buffer) => void; contexts?: readonly Uint8Array[] } = {},
): Buffer {
  const plan = planBody(records, undefined, options.contexts)
  const bytes = Buffer.alloc(PRODUCE_BODY_AT + plan.bodyBytes)
  const bodyHash = writeBody(plan, bytes, PRODUCE_BODY_AT)
  options.change?.(bytes.subarray(PRODUCE_BODY_AT))
  writeProduce(bytes, requestId, {
    group: options.group ?? 0,
    producer: options.producer ?? 1,
    generation: options.generation ?? 1,
    recordCount: options.recordCount ?? plan.recordCount,
    bodyHash: options.bodyHash ?? bodyHash,
    barrierTick: options.barrierTick ?? 0n,
    firstTriedAt: options.firstTriedAt ?? 0n,
    transactionIndex: options.transactionIndex ?? 0,
  })
  return bytes
}
