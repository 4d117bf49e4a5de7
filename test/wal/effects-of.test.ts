import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeContext, type RecordInput } from '../../native-free-storage/index.ts'
import { MemoryLogs } from '../../src/log-store/memory.ts'
import { encodeHeader } from '../../src/message/message-header.ts'
import { MessageType } from '../../src/message/message-type.ts'
import type { Effect } from '../../src/wal/effect.ts'
import { effectsOfBody, effectsOfFrame, effectsOfRecords, withoutVoids } from '../../src/wal/effects-of.ts'
import { budget } from '../budget.ts'
import { encodeBody } from '../log-store/encode-body.ts'

const payload = Buffer.from('abc')
const header = (type: number, fields: object) => ({ type, properties: { _h: encodeHeader(type, fields as never) } })

async function frameOf(records: RecordInput[], contexts: Uint8Array[], voids: number[] = []) {
  const store = await new MemoryLogs().opener().open('0', 1)
  if (voids.length === 0) await store.appendRecords(records, { contexts })
  else await store.append(await encodeBody(records, contexts), { voids })
  for await (const frame of store.read({ from: 'earliest' })) return frame
  return expect.fail('there is no frame')
}

describe('the effects of records', () => {
  test('nearly all have none, and then the same empty list is given', async () => {
    const records = [
      { vchannel: 'a', payload },
      { vchannel: 'b', type: 2, properties: { k: 'a _ik b' } },
    ]
    const none = effectsOfRecords([], [])
    expect(effectsOfRecords(records, [])).toBe(none)
    expect(effectsOfBody(await encodeBody(records))).toBe(none)
    expect(effectsOfFrame(await frameOf(records, []))).toBe(none)
  })

  test('those that the node writes', async () => {
    const records: RecordInput[] = [
      { vchannel: 'a', ...header(MessageType.beginTxn, { keepalive_milliseconds: 500 }) },
      { vchannel: 'a', ...header(MessageType.commitTxn, { begin: 7, bodies: 3, hash: 2n ** 63n + 5n }) },
      { vchannel: 'b', ...header(MessageType.rollbackTxn, { begin: 9 }) },
      { vchannel: '', ...header(MessageType.rollbackTxn, { all: true }) },
      { vchannel: 'c', ...header(MessageType.producerEpoch, { name: 'p', epoch: 4 }) },
      { vchannel: 'c', ...header(MessageType.producerEpoch, { name: 'p', epoch: 5, producer: 11 }) },
      { vchannel: 'd', type: MessageType.dropCollection },
      { vchannel: 'd', type: MessageType.flushAll },
      { vchannel: 'd', properties: { _ik: 'key', other: 'x' } },
    ]
    const expected: Effect[] = [
      { kind: 'begin', row: 0, vchannel: 'a', keepaliveMs: 500 },
      { kind: 'commit', row: 1, vchannel: 'a', transaction: 7, bodies: 3, hash: 2n ** 63n + 5n },
      { kind: 'rollback', row: 2, vchannel: 'b', transaction: 9, expired: false },
      { kind: 'rollback', row: 3, vchannel: '', transaction: null, expired: false },
      { kind: 'epoch', row: 4, vchannel: 'c', name: 'p', producer: null, epoch: 4 },
      { kind: 'epoch', row: 5, vchannel: 'c', name: 'p', producer: 11, epoch: 5 },
      { kind: 'exclusive', row: 6, vchannel: 'd', type: MessageType.dropCollection },
      // It takes the whole pchannel, on whichever vchannel it stands.
      { kind: 'exclusive', row: 7, vchannel: '', type: MessageType.flushAll },
      { kind: 'key', row: 8, vchannel: 'd', key: 'key' },
    ]
    expect(effectsOfRecords(records, [])).toEqual(expected)
    expect(effectsOfBody(await encodeBody(records))).toEqual(expected)
    expect(effectsOfFrame(await frameOf(records, []))).toEqual(expected)
  })

  test('runs of a transaction and of a producer; a sequence counts the rows of its context', async () => {
    const contexts = [
      encodeContext({ transaction: 3n }),
      encodeContext({ producer: { id: 8n, epoch: 2, firstSequence: 100 } }),
    ]
    const records: RecordInput[] = [
      { vchannel: 'a', payload, contextIndex: 0 },
      { vchannel: 'a', payload, properties: { k: 'v' }, contextIndex: 0 },
      { vchannel: 'a', payload, contextIndex: 1 },
      { vchannel: 'a', payload },
      { vchannel: 'a', payload, contextIndex: 1 },
      { vchannel: 'a', payload, contextIndex: 1 },
      { vchannel: 'a', payload, contextIndex: 0 },
    ]
    const sequence = { kind: 'sequence', vchannel: 'a', producer: 8, epoch: 2 } as const
    const body = { kind: 'body', vchannel: 'a', transaction: 3 } as const
    const expected: Effect[] = [
      { ...body, row: 0, count: 2, bytes: 3 + 3 + 10 },
      { ...sequence, row: 2, count: 1, firstSequence: 100 },
      { ...sequence, row: 4, count: 2, firstSequence: 101 },
      { ...body, row: 6, count: 1, bytes: 3 },
    ]
    expect(effectsOfRecords(records, contexts)).toEqual(expected)
    expect(effectsOfFrame(await frameOf(records, contexts))).toEqual(expected)
  })

  test('void rows have none', async () => {
    const records = ['x', 'y', 'z'].map((key) => ({ vchannel: 'a', properties: { _ik: key } }))
    const frame = await frameOf(records, [], [0, 2])
    const left: Effect[] = [{ kind: 'key', row: 1, vchannel: 'a', key: 'y' }]
    expect(effectsOfFrame(frame)).toEqual(left)
    expect(withoutVoids(effectsOfRecords(records, []), [0, 2])).toEqual(left)
  })

  test('a record of the node that no node has written is refused, with its place', async () => {
    const wrong: RecordInput[] = [
      { vchannel: 'a', type: MessageType.commitTxn },
      { vchannel: 'a', type: MessageType.commitTxn, properties: { _h: 'no header' } },
      { vchannel: 'a', type: MessageType.producerEpoch, properties: { k: 'v' } },
    ]
    for (const record of wrong) {
      const frame = await frameOf([{ vchannel: 'a' }, record], [])
      expect(() => effectsOfFrame(frame)).toThrow(expect.objectContaining({ code: 'FRAME_INVALID', lsn: 1 }))
      const body = await encodeBody([record])
      expect(() => effectsOfBody(body)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', outcome: 'not-written' }),
      )
    }
  })

  test('what is applied at an append is what a replay applies, whatever the records', async () => {
    const contexts = [
      encodeContext({ transaction: 3n }),
      encodeContext({ producer: { id: 8n, epoch: 2, firstSequence: 100 } }),
      encodeContext({ trace: 'x' }),
    ]
    const record: fc.Arbitrary<RecordInput> = fc.record({
      vchannel: fc.constantFrom('a', 'b'),
      type: fc.constantFrom(0, 2, MessageType.dropCollection, MessageType.flushAll, 40_000),
      payload: fc.constantFrom(null, Buffer.alloc(0), payload),
      properties: fc.constantFrom(undefined, {}, { k: 'ä€' }, { _ik: 'key' }, { k: '_ik', _ik: 'ключ' }),
      contextIndex: fc.constantFrom(undefined, 0, 1, 2),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 12 }), async (records) => {
        const effects = effectsOfRecords(records, contexts)
        expect(effectsOfBody(await encodeBody(records, contexts))).toEqual(effects)
        expect(effectsOfFrame(await frameOf(records, contexts))).toEqual(effects)
      }),
      { numRuns: budget({ small: 100, ci: 1_000 }) },
    )
  })
})
