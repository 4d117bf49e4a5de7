/** Transactions, producers and idempotency keys over real sockets: lost connections, nodes that die, fences. */
import { afterEach, describe, expect, it } from 'vitest'
import { encodeContext, loadChecksum, type RecordInput } from '../../../native-free-storage/index.ts'
import { MemoryLogs } from '../../../src/log-store/memory.ts'
import { KEY_PROPERTY } from '../../../src/message/property-names.ts'
import { encodeMessage, MessageType } from '../../../src/protocol/message.ts'
import { decodeProduced, type Produced } from '../../../src/protocol/produce-messages.ts'
import * as wal from '../../../src/protocol/wal-messages.ts'
import { type NodeOptions, StreamingNode } from '../../../src/streaming-node/node.ts'
import { type Served, serve, until } from './memory-node.ts'
import { produceMessage, RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

/** A node in memory that can die: the next one finds what was durable, and the one before is fenced. */
class Machine {
  readonly #logs = new MemoryLogs()
  readonly #options: Partial<NodeOptions>
  #term = 0
  node!: StreamingNode
  served!: Served<StreamingNode>

  constructor(options: Partial<NodeOptions> = {}) {
    this.#options = options
  }

  async start(): Promise<this> {
    await loadChecksum()
    const stores = this.#logs.opener()
    const options = { stores, pchannels: 1, ownerTerm: ++this.#term, timeTickIntervalMs: 1, ...this.#options }
    this.node = await StreamingNode.open(options)
    await this.node.resolve('a', true)
    this.served = await serve(this.node)
    open.push(this.node, this.served)
    return this
  }

  /** Without a word to anybody. */
  async dieAndStart(): Promise<void> {
    for (const connection of this.served.connections) connection.destroy()
    await this.start()
  }

  async connect(): Promise<RawClient> {
    const client = await RawClient.greeted(this.served.port)
    open.push(client)
    return client
  }
}

let lastId = 0

async function ask(client: RawClient, type: MessageType, wanted: MessageType, meta: Buffer): Promise<Buffer> {
  client.socket.write(encodeMessage(type, ++lastId, meta))
  const answer = await client.answer(lastId)
  if (answer.type !== wanted) throw new Error(`answered with ${answer.type}: ${answer.meta.toString('latin1')}`)
  return answer.meta
}

async function refusal(client: RawClient, message: Buffer): Promise<string> {
  client.socket.write(message)
  return (await client.error()).code
}

const begin = async (client: RawClient, keepaliveMs = 0) =>
  wal.decodeTxnBegun(
    await ask(client, MessageType.txnBegin, MessageType.txnBegun, wal.encodeTxnBegin({ vchannel: 'a', keepaliveMs })),
  )
const endMessage = (transaction: number, commit: boolean, bodies: number, id = ++lastId) =>
  encodeMessage(MessageType.txnEnd, id, wal.encodeTxnEnd({ group: 0, transaction, commit, bodies }))
const end = async (client: RawClient, transaction: number, commit: boolean, bodies: number) =>
  wal.decodeTxnEnded(
    await ask(
      client,
      MessageType.txnEnd,
      MessageType.txnEnded,
      wal.encodeTxnEnd({ group: 0, transaction, commit, bodies }),
    ),
  )
const openProducer = async (client: RawClient, epoch?: number) =>
  wal.decodeProducerOpened(
    await ask(
      client,
      MessageType.producerOpen,
      MessageType.producerOpened,
      wal.encodeProducerOpen({ vchannel: 'a', id: 'loader-7', epoch }),
    ),
  )

let generation = 0
function frame(records: number, contexts: Buffer[], transactionIndex = 0, id = ++lastId): Buffer {
  const record: RecordInput = contexts.length === 0 ? { vchannel: 'a' } : { vchannel: 'a', contextIndex: 0 }
  const all = Array.from({ length: records }, () => ({ ...record, payload: Buffer.from('x') }))
  return produceMessage(id, all, { contexts, transactionIndex, generation: ++generation })
}

async function produced(client: RawClient, message: Buffer): Promise<Produced> {
  client.socket.write(message)
  return decodeProduced((await client.next(MessageType.produced)).meta)
}

const inTransaction = (transaction: number, records: number, index: number) =>
  frame(records, [encodeContext({ transaction: BigInt(transaction) })], index)
const byProducer = (producer: number, epoch: number, firstSequence: number, records = 1) =>
  frame(records, [encodeContext({ producer: { id: BigInt(producer), epoch, firstSequence } })])

describe('a transaction', () => {
  it('goes on over a lost connection; what is sent again is answered as the first time', async () => {
    const machine = await new Machine().start()
    const before = await machine.connect()
    const { transaction, group, keepaliveMs } = await begin(before)
    expect([group, keepaliveMs]).toEqual([0, 10_000])
    const first = await produced(before, inTransaction(transaction, 2, 0))
    before.close()
    const after = await machine.connect()
    expect(await produced(after, inTransaction(transaction, 2, 0))).toEqual({ ...first, duplicate: true })
    await produced(after, inTransaction(transaction, 1, 2))
    const listed = await ask(after, MessageType.txnList, MessageType.txnListed, wal.encodeTxnList(0))
    expect(wal.decodeTxnListed(listed).transactions).toMatchObject([{ transaction, bodies: 3, state: 'open' }])
    const ended = await end(after, transaction, true, 3)
    expect(ended.lsn).toBe(4)
    // Its answer was lost; also a node that was started again knows it.
    expect(await end(await machine.connect(), transaction, true, 3)).toEqual(ended)
    await machine.dieAndStart()
    expect(await end(await machine.connect(), transaction, true, 3)).toEqual(ended)
  })

  it('is committed behind its frames, which came in the same moment', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const { transaction } = await begin(client)
    const frames = [0, 1, 2].map((index) => inTransaction(transaction, 1, index))
    client.socket.write(Buffer.concat([...frames, endMessage(transaction, true, 3)]))
    expect(wal.decodeTxnEnded((await client.next(MessageType.txnEnded)).meta).lsn).toBe(4)
    expect(client.messages.filter(({ type }) => type === MessageType.produced)).toHaveLength(3)
  })

  it('refuses a gap, and a commit with another number of records', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const { transaction } = await begin(client)
    expect(await refusal(client, inTransaction(transaction, 1, 5))).toBe('SEQUENCE_GAP')
    await produced(client, inTransaction(transaction, 1, 0))
    expect(await refusal(client, endMessage(transaction, true, 2))).toBe('TRANSACTION_STATE')
    await end(client, transaction, false, 1)
    expect(await refusal(client, inTransaction(transaction, 1, 1))).toBe('TRANSACTION_STATE')
  })

  it('ends when nothing comes for its keepalive, also without any connection', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const { transaction, keepaliveMs } = await begin(client, 20)
    expect(keepaliveMs).toBe(20)
    client.close()
    await until(() => machine.node.transactions().length === 0)
    const later = await machine.connect()
    expect(await refusal(later, inTransaction(transaction, 1, 0))).toBe('TRANSACTION_EXPIRED')
    expect(await refusal(later, endMessage(transaction, true, 0))).toBe('TRANSACTION_EXPIRED')
  })

  it('ends at an exclusive message and with the node that has it', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const one = await begin(client)
    await produced(client, inTransaction(one.transaction, 1, 0))
    await produced(client, produceMessage(++lastId, [{ vchannel: 'a', type: 9 }], { generation: ++generation }))
    expect(await refusal(client, endMessage(one.transaction, true, 1))).toBe('TRANSACTION_ABORTED')
    const two = await begin(client)
    await machine.dieAndStart()
    expect(machine.node.transactions()).toEqual([])
    const after = await machine.connect()
    expect(await refusal(after, endMessage(two.transaction, true, 0))).toBe('TRANSACTION_ABORTED')
  })

  it('can be committed while the node drains, and none begins; closing rolls back the rest', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const [one, two] = [await begin(client), await begin(client)]
    await machine.node.drain()
    const meta = wal.encodeTxnBegin({ vchannel: 'a', keepaliveMs: 0 })
    expect(await refusal(client, encodeMessage(MessageType.txnBegin, ++lastId, meta))).toBe('DRAINING')
    expect(await refusal(client, inTransaction(one.transaction, 1, 0))).toBe('DRAINING')
    await end(client, one.transaction, true, 0)
    await machine.node.close()
    await machine.dieAndStart()
    const after = await machine.connect()
    await end(after, one.transaction, true, 0)
    expect(await refusal(after, endMessage(two.transaction, true, 0))).toBe('TRANSACTION_ABORTED')
  })
})

describe('a producer', () => {
  it('writes each record once, over lost connections and nodes that die', async () => {
    const machine = await new Machine().start()
    const before = await machine.connect()
    const { producer, epoch } = await openProducer(before)
    expect(epoch).toBe(1)
    const first = await produced(before, byProducer(producer, 1, 1, 3))
    before.close()
    const after = await machine.connect()
    // It is opened on each connection, in the epoch that it has.
    expect(await refusal(after, byProducer(producer, 1, 4))).toBe('INVALID_BODY')
    expect(await openProducer(after, 1)).toMatchObject({ producer, epoch: 1, lastSequence: 3, windowLost: false })
    expect(await produced(after, byProducer(producer, 1, 1, 3))).toEqual({ ...first, duplicate: true })
    expect((await produced(after, byProducer(producer, 1, 4))).duplicate).toBe(false)
    expect(await refusal(after, byProducer(producer, 1, 9))).toBe('SEQUENCE_GAP')
    await machine.dieAndStart()
    const last = await machine.connect()
    expect(await openProducer(last, 1)).toMatchObject({ producer, epoch: 1, lastSequence: 4 })
    expect(await produced(last, byProducer(producer, 1, 1, 3))).toEqual({ ...first, duplicate: true })
    expect((await produced(last, byProducer(producer, 1, 5))).duplicate).toBe(false)
    const listed = await ask(last, MessageType.producerList, MessageType.producerListed, wal.encodeProducerList(0))
    expect(wal.decodeProducerListed(listed)).toMatchObject({
      producers: [{ id: 'loader-7', vchannel: 'a', group: 0, producer, epoch: 1, lastSequence: 5 }],
      more: false,
    })
  })

  it('is fenced by a newer epoch, on whatever connection', async () => {
    const machine = await new Machine().start()
    const [older, newer] = [await machine.connect(), await machine.connect()]
    const { producer } = await openProducer(older)
    await produced(older, byProducer(producer, 1, 1))
    expect(await openProducer(newer)).toMatchObject({ producer, epoch: 2, lastSequence: 1 })
    expect(await refusal(older, byProducer(producer, 1, 2))).toBe('PRODUCER_FENCED')
    const resume = wal.encodeProducerOpen({ vchannel: 'a', id: 'loader-7', epoch: 1 })
    expect(await refusal(older, encodeMessage(MessageType.producerOpen, ++lastId, resume))).toBe('PRODUCER_FENCED')
    expect((await produced(newer, byProducer(producer, 2, 2))).duplicate).toBe(false)
    const unknown = wal.encodeProducerOpen({ vchannel: 'a', id: 'nobody', epoch: 1 })
    expect(await refusal(newer, encodeMessage(MessageType.producerOpen, ++lastId, unknown))).toBe('PRODUCER_UNKNOWN')
  })
})

describe('an idempotency key', () => {
  it('names the records of a frame that were there before, each with its place', async () => {
    const machine = await new Machine().start()
    const client = await machine.connect()
    const keyed = (...keys: string[]) =>
      produceMessage(
        ++lastId,
        keys.map((key) => ({ vchannel: 'a', properties: { [KEY_PROPERTY]: key } })),
        { generation: ++generation },
      )
    const first = await produced(client, keyed('one', 'two'))
    expect(first.duplicates).toEqual([])
    client.close()
    const after = await machine.connect()
    const mixed = await produced(after, keyed('three', 'two', 'four'))
    expect(mixed.duplicate).toBe(false)
    expect(mixed.duplicates).toEqual([{ row: 1, lsn: 1, timeTick: first.lastTimeTick }])
    await machine.dieAndStart()
    const last = await machine.connect()
    const again = await produced(last, keyed('two'))
    expect([again.duplicate, again.firstLsn, again.firstTimeTick]).toEqual([true, 1, first.lastTimeTick])
  })
})
