/** What a client may say in a body, and what not (PROTOCOL 5), over a real socket. */
import { afterEach, describe, expect, it } from 'vitest'
import { encodeContext, loadChecksum, type RecordInput } from '../../../native-free-storage/index.ts'
import { encodeHeader } from '../../../src/message/message-header.ts'
import { MessageType as T } from '../../../src/message/message-type.ts'
import { HEADER_PROPERTY, KEY_PROPERTY } from '../../../src/message/property-names.ts'
import { KEYED_RECORDS_MAX } from '../../../src/protocol/limits.ts'
import { MessageType } from '../../../src/protocol/message.ts'
import { MemoryNode, serve } from './memory-node.ts'
import { produceMessage, RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(): Promise<{ node: MemoryNode; client: RawClient }> {
  await loadChecksum()
  const node = await MemoryNode.open(1)
  await node.resolve('a', true)
  await node.resolve('b', true)
  const served = await serve(node)
  open.push(served)
  const client = await RawClient.greeted(served.port)
  open.push(client)
  return { node, client }
}

const producerContext = (id: bigint, epoch = 1) => encodeContext({ producer: { id, epoch, firstSequence: 1 } })
const transactionContext = (transaction: bigint) => encodeContext({ transaction })
const inContext = (vchannel: string, more: Partial<RecordInput> = {}): RecordInput => ({
  vchannel,
  contextIndex: 0,
  ...more,
})
const manualFlush = encodeHeader(T.manualFlush, { collection_id: 7n })

describe('a body of a client', () => {
  it.each<[string, RecordInput[], Buffer[], number?]>([
    ['a property of the node', [{ vchannel: 'a', properties: { _x: '1' } }], []],
    ['an empty key', [{ vchannel: 'a', properties: { [KEY_PROPERTY]: '' } }], []],
    ['a key of 257 bytes', [{ vchannel: 'a', properties: { [KEY_PROPERTY]: 'k'.repeat(257) } }], []],
    [
      'more keys than an answer can name',
      Array.from({ length: KEYED_RECORDS_MAX + 1 }, (_, index) => ({
        vchannel: 'a',
        properties: { [KEY_PROPERTY]: String(index) },
      })),
      [],
    ],
    ['a header of an application record', [{ vchannel: 'a', properties: { [HEADER_PROPERTY]: manualFlush } }], []],
    ['a header that is none', [{ vchannel: 'a', type: T.insert, properties: { [HEADER_PROPERTY]: '?' } }], []],
    ['a type that the node writes', [{ vchannel: 'a', type: T.producerEpoch }], []],
    ['an exclusive message beside others', [{ vchannel: 'a' }, { vchannel: 'a', type: T.manualFlush }], []],
    ['an exclusive message of a transaction', [inContext('a', { type: T.manualFlush })], [transactionContext(1n)]],
    ['a producer that was not opened here', [inContext('a')], [producerContext(0n)]],
    ['a record beside those of a transaction', [inContext('a'), { vchannel: 'a' }], [transactionContext(1n)]],
    ['a transaction on two vchannels', [inContext('a'), inContext('b')], [transactionContext(1n)]],
    ['a second context', [inContext('a')], [transactionContext(1n), transactionContext(2n)]],
    [
      'a producer in a transaction',
      [inContext('a')],
      [encodeContext({ producer: { id: 1n, epoch: 1, firstSequence: 1 }, transaction: 1n })],
    ],
    ['a key in a transaction', [inContext('a', { properties: { [KEY_PROPERTY]: 'k' } })], [transactionContext(1n)]],
    ['an index without a transaction', [{ vchannel: 'a' }], [], 3],
    ['a context of a tenant', [inContext('a')], [Buffer.from([4, 0, 1, 0, 9])]],
  ])('is refused with %s, and the connection goes on', async (_, records, contexts, transactionIndex = 0) => {
    const { node, client } = await start()
    client.socket.write(produceMessage(1, records, { contexts, transactionIndex }))
    expect(await client.error()).toMatchObject({ code: 'INVALID_BODY', outcome: 'not-written', requestId: 1 })
    client.socket.write(produceMessage(2, [{ vchannel: 'a' }], { generation: 2 }))
    await client.next(MessageType.produced)
    expect(node.nextLsn(0)).toBe(1)
  })

  it('may have a key, a header of its type, a trace, and an exclusive message alone', async () => {
    const { node, client } = await start()
    const trace = encodeContext({ trace: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' })
    const frames: [RecordInput[], Buffer[]][] = [
      [[{ vchannel: 'a', properties: { [KEY_PROPERTY]: 'k1', mine: 'x' } }], []],
      [[{ vchannel: 'a', type: T.manualFlush, properties: { [HEADER_PROPERTY]: manualFlush } }], []],
      [[inContext('a'), { vchannel: 'a' }], [trace]],
    ]
    for (const [index, [records, contexts]] of frames.entries()) {
      client.socket.write(produceMessage(index + 1, records, { contexts }))
      expect((await client.next(MessageType.produced)).requestId).toBe(index + 1)
    }
    expect(node.nextLsn(0)).toBe(4)
  })
})
