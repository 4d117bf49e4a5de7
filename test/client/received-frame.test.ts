import { beforeAll, describe, expect, it } from 'vitest'
import {
  bodyLimits,
  encodeContext,
  hash64,
  loadChecksum,
  openBodyHead,
  planBody,
  type RecordInput,
  writeBody,
} from '../../native-free-storage/index.ts'
import { ReceivedFrame, type RecordFilter } from '../../src/client/received-frame.ts'
import type { ConsumedRecord } from '../../src/client/types.ts'
import type { WireFrame } from '../../src/protocol/consume-messages.ts'

beforeAll(loadChecksum)

const records: RecordInput[] = [
  { vchannel: 'a', payload: Buffer.from('one'), properties: { k: 'v' } },
  { vchannel: 'b', payload: Buffer.from('two'), type: 2 },
  { vchannel: 'a', payload: null },
  { vchannel: '', payload: Buffer.from('all') },
  { vchannel: 'b', payload: Buffer.from('five') },
]

const everything: RecordFilter = {
  names: new Set(['a', 'b']),
  types: null,
  fromLsn: 0,
  fromTick: 0n,
  untilLsn: Number.MAX_SAFE_INTEGER,
}

/** The frame as a node sends it: head, node section, and the sections of `names`. */
function sent(
  names: readonly string[],
  nodeSection = Buffer.alloc(0),
  of: readonly RecordInput[] = records,
  contexts: readonly Uint8Array[] = [],
): { wire: WireFrame; body: Buffer } {
  const plan = planBody(of, bodyLimits, contexts)
  const whole = Buffer.alloc(plan.bodyBytes)
  const bodyHash = writeBody(plan, whole, 0)
  const head = openBodyHead(whole, whole.length, plan.recordCount, bodyHash)
  const sections = head.vchannels.flatMap((name, index) => (name === '' || names.includes(name) ? [index] : []))
  const pieces = sections.map((index) => {
    const start = head.sectionOffset(index)
    return whole.subarray(start, Math.ceil((start + head.sectionLength(index)) / 8) * 8)
  })
  return {
    wire: {
      kind: 'records',
      baseLsn: 100,
      baseTimeTick: 5000n,
      bodyHash,
      nodeHash: nodeSection.length === 0 ? 0n : hash64(nodeSection),
      recordCount: plan.recordCount,
      headLength: head.headLength,
      nodeLength: nodeSection.length,
      bodyLength: whole.length,
      gap: null,
      part: null,
      sections,
    },
    body: Buffer.concat([head.bytes, nodeSection, ...pieces]),
  }
}

function read({ wire, body }: { wire: WireFrame; body: Buffer }, filter: Partial<RecordFilter> = {}): ConsumedRecord[] {
  const frame = ReceivedFrame.open(0, wire, body, body.length, { ...everything, ...filter })
  const all: ConsumedRecord[] = []
  for (let record = frame.next(); record !== null; record = frame.next()) all.push(record)
  return all
}

const lsns = (all: readonly ConsumedRecord[]) => all.map((record) => record.lsn)

describe('a received frame', () => {
  it('gives its records with LSN and tick, those of every vchannel too', () => {
    const all = read(sent(['a', 'b']))
    expect(lsns(all)).toEqual([100, 101, 102, 103, 104])
    expect(all.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['one', 'two', '', 'all', 'five'])
    expect(all[1]).toMatchObject({ vchannel: 'b', type: 2, timeTick: 5001n })
    expect({ ...all[0]!.properties }).toEqual({ k: 'v' })
    expect(all[2]!.isNull).toBe(true)
  })

  it('leaves out what was not asked for', () => {
    expect(lsns(read(sent(['b']), { names: new Set(['b']) }))).toEqual([101, 103, 104])
    expect(lsns(read(sent(['a', 'b']), { types: new Set([2]) }))).toEqual([101])
    expect(lsns(read(sent(['a', 'b']), { fromLsn: 102, untilLsn: 104 }))).toEqual([102, 103])
    expect(lsns(read(sent(['a', 'b']), { fromTick: 5003n }))).toEqual([103, 104])
  })

  it('leaves out void records', () => {
    const voids = Buffer.alloc(16)
    voids.writeUInt32LE(1, 4)
    voids[8] = 0b01010
    expect(lsns(read(sent(['a', 'b'], voids)))).toEqual([100, 102, 104])
  })

  it('gives of a part what stands in the sections that came: others are of no vchannel of its transaction', () => {
    const inTransaction = records.map((record) => ({ ...record, contextIndex: 0 }))
    const { wire, body } = sent(['b'], Buffer.alloc(0), inTransaction, [encodeContext({ transaction: 90n })])
    const part = { transaction: 90, commitLsn: 200, commitTick: 6000n, last: true }
    const all = read({ wire: { ...wire, kind: 'part', part }, body })
    expect(lsns(all)).toEqual([101, 103, 104])
    expect(all.map(({ position }) => position)).toEqual([{ lsn: 200, skip: 1 }, { lsn: 200, skip: 2 }, { lsn: 201 }])
    const none = {
      wire: { ...wire, kind: 'part' as const, part, sections: [] },
      body: body.subarray(0, wire.headLength),
    }
    expect(() => read(none)).toThrow(expect.objectContaining({ code: 'FRAME_DAMAGED' }))
  })

  it('notices every flipped bit of its body, and every section that is missing or too many', () => {
    const voids = Buffer.alloc(16)
    voids.writeUInt32LE(1, 4)
    const frame = sent(['a', 'b'], voids)
    for (let bit = 0; bit < frame.body.length * 8; bit++) {
      const body = Buffer.from(frame.body)
      body[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => read({ wire: frame.wire, body })).toThrow(
        expect.objectContaining({ code: 'FRAME_DAMAGED', lsn: 100 }),
      )
    }
    const less = sent(['a'])
    expect(() => read(less)).toThrow(expect.objectContaining({ code: 'FRAME_DAMAGED' }))
    const cut = { wire: frame.wire, body: frame.body.subarray(0, frame.body.length - 8) }
    expect(() => read(cut)).toThrow(expect.objectContaining({ code: 'FRAME_DAMAGED' }))
    const more = { wire: frame.wire, body: Buffer.concat([frame.body, Buffer.alloc(8)]) }
    expect(() => read(more)).toThrow(expect.objectContaining({ code: 'FRAME_DAMAGED' }))
  })
})
