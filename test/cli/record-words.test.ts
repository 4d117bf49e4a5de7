import { expect, it } from 'vitest'
import {
  type AppendRecordsOptions,
  dump,
  encodeContext,
  loadChecksum,
  openLog,
  type RecordInput,
} from '../../native-free-storage/index.ts'
import { frameText, recordJson, recordText } from '../../src/cli/dump-lines.ts'
import { FrameWords } from '../../src/cli/record-words.ts'
import { encodeHeader } from '../../src/message/message-header.ts'
import { MessageType } from '../../src/message/message-type.ts'
import { newDisk } from '../simulation/crash-runner.ts'
import { logDirectory, Session, ways } from '../simulation/log-session.ts'

const vchannel = 'orders'
const payload = Buffer.from('x')

function typed(type: number, fields: Record<string, unknown>, on = vchannel): RecordInput {
  return { vchannel: on, type, properties: { _h: encodeHeader(type, fields) }, payload: null }
}

/** Every frame of a log that was written so, as people and as programs get it. */
async function dumped(frames: readonly [RecordInput[], AppendRecordsOptions?][]) {
  await loadChecksum()
  const { environment, ...options } = new Session(newDisk({ names: 'strict', seed: 1 }), ways[0]!).options()
  const log = await openLog(logDirectory, { environment, ...options })
  for (const [records, options] of frames) await log.append(records, options)
  await log.close()
  const text: string[] = []
  const json: Record<string, unknown>[] = []
  for await (const frame of dump(environment!, logDirectory)) {
    if (frame.records === null) continue
    const words = new FrameWords(frame.records)
    text.push(frameText(frame, words.voidCount))
    for (const record of frame.records) {
      const meaning = words.of(record)
      text.push(recordText(record, false, meaning))
      json.push(JSON.parse(recordJson('log', frame, record, meaning)))
    }
  }
  return { text: text.filter((line) => line.startsWith('  LSN')), json }
}

it('a dump tells transactions, producers and keys in words', async () => {
  const own = { ownFrame: true }
  const inTransaction = encodeContext({ transaction: 0n })
  const ofProducer = encodeContext({ producer: { id: 4n, epoch: 2, firstSequence: 7 } })
  const { text, json } = await dumped([
    [[typed(MessageType.beginTxn, { keepalive_milliseconds: 10_000 })], own],
    [
      [
        { ...typed(MessageType.insert, { collection_id: 2n ** 60n }), payload, contextIndex: 0 },
        { vchannel, type: MessageType.delete, payload, contextIndex: 0 },
      ],
      { contexts: [inTransaction] },
    ],
    [[typed(MessageType.commitTxn, { begin: 0, bodies: 2, hash: 2n ** 63n })], own],
    [[typed(MessageType.producerEpoch, { name: 'loader-7', epoch: 1 })], own],
    [[typed(MessageType.producerEpoch, { name: 'loader-7', epoch: 2, producer: 4 })], own],
    [
      [
        { vchannel, payload, contextIndex: 0 },
        { vchannel, payload },
        { vchannel, payload, contextIndex: 0, properties: { _ik: 'k\u001b1', a: 'b' } },
      ],
      { contexts: [ofProducer] },
    ],
    [[typed(MessageType.rollbackTxn, { begin: 3 })], own],
    [[typed(MessageType.rollbackTxn, { all: true }, '')], own],
    [[{ vchannel, type: MessageType.dropCollection, payload }], own],
    [[{ vchannel: '', type: MessageType.flushAll, payload }], own],
    [[{ vchannel, type: MessageType.delete, properties: { _h: 'no header' }, payload }]],
    [[{ vchannel, type: 40_000, properties: { _h: 'untouched' }, payload }]],
  ])
  const said = text.map((line) => line.replace(/^ {2}LSN \d+ {2}tick \d+ {2}(orders|\(all\)) {2}/, '').trimEnd())
  expect(said).toEqual([
    'BeginTxn (900)  transaction 0 begins, 10000 ms without an append end it  {"keepalive_milliseconds":10000}  null',
    'Insert (2)  in transaction 0  {"collection_id":"1152921504606846976"}  1 bytes  "x"',
    'Delete (3)  in transaction 0  1 bytes  "x"',
    'CommitTxn (901)  transaction 0 is committed: 2 records  {"begin":0,"bodies":2,"hash":"9223372036854775808"}  null',
    'ProducerEpoch (16384)  epoch 1 of producer "loader-7", number 4  {"name":"loader-7","epoch":1}  null',
    'ProducerEpoch (16384)  epoch 2 of producer "loader-7", number 4  {"name":"loader-7","epoch":2,"producer":4}  null',
    'type 0  producer 4, epoch 2, sequence 7  1 bytes  "x"',
    'type 0  1 bytes  "x"',
    'type 0  producer 4, epoch 2, sequence 8, key "k\\\\u{1b}1"  {a="b"}  1 bytes  "x"',
    'RollbackTxn (902)  transaction 3 is rolled back  {"begin":3}  null',
    'RollbackTxn (902)  every open transaction is rolled back  {"all":true}  null',
    'DropCollection (6)  ends the transactions that are open on its vchannel  1 bytes  "x"',
    'FlushAll (37)  ends the transactions that are open on the pchannel  1 bytes  "x"',
    expect.stringMatching(/^Delete \(3\) {2}DAMAGED header: .*base64.* {2}\{_h="no header"\} {2}1 bytes {2}"x"$/),
    'type 40000  {_h="untouched"}  1 bytes  "x"',
  ])
  expect(json[1]).toMatchObject({
    typeName: 'Insert',
    transaction: 0,
    header: { collection_id: '1152921504606846976' },
    payload: 'x',
  })
  expect(json[0]).toMatchObject({ typeName: 'BeginTxn', transaction: 0 })
  expect(json[3]).toMatchObject({ transaction: 0, header: { bodies: 2, hash: '9223372036854775808' } })
  expect(json[5]).toMatchObject({ producer: { id: 4, epoch: 2, sequence: null } })
  expect(json[7]).not.toHaveProperty('producer')
  expect(json[8]).toMatchObject({ producer: { id: 4, epoch: 2, sequence: 8 }, key: 'k\u001b1' })
})
