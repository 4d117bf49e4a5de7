import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type BodyHead,
  checkPadding,
  openBodyHead,
  peekHeadLength,
  verifySection,
} from '../../../native-free-storage/format/body-head.ts'
import {
  type BodyLimits,
  BodyPlanner,
  bodyLimits,
  planBody,
  type RecordInput,
} from '../../../native-free-storage/format/body-plan.ts'
import { writeBody } from '../../../native-free-storage/format/body-writer.ts'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { encodeContext } from '../../../native-free-storage/format/contexts.ts'
import { decodeProperties } from '../../../native-free-storage/format/properties.ts'
import { context, properties, u16, vchannel } from './arbitraries.ts'

beforeAll(loadChecksum)

interface Body {
  bytes: Buffer
  hash: bigint
  vchannels: readonly string[]
}

function encode(records: readonly RecordInput[], contexts: readonly Uint8Array[] = []): Body {
  const plan = planBody(records, bodyLimits, contexts)
  const target = Buffer.alloc(plan.bodyBytes + 24, 0xee)
  const hash = writeBody(plan, target, 16)
  expect(target.subarray(0, 16).every((byte) => byte === 0xee)).toBe(true)
  expect(target.subarray(16 + plan.bodyBytes).every((byte) => byte === 0xee)).toBe(true)
  return { bytes: target.subarray(16, 16 + plan.bodyBytes), hash, vchannels: plan.vchannels }
}

function open(body: Body, records: number): BodyHead {
  return openBodyHead(body.bytes, body.bytes.length, records, body.hash)
}

function section(head: BodyHead, bytes: Buffer, vchannel: number): Buffer {
  const offset = head.sectionOffset(vchannel)
  return bytes.subarray(offset, offset + head.sectionLength(vchannel))
}

/** Every record of a body, read back with the accessors. */
function readAll(head: BodyHead, bytes: Buffer): RecordInput[] {
  const offsets = head.rowOffsets()
  const records: RecordInput[] = []
  for (let row = 0; row < head.recordCount; row++) {
    const index = head.vchannelIndex(row)
    const at = head.sectionOffset(index) + offsets[row]!
    const payloadAt = at + head.propertiesLength(row)
    const payload = bytes.subarray(payloadAt, payloadAt + head.payloadLength(row))
    records.push({
      vchannel: head.vchannels[index]!,
      type: head.type(row),
      properties: { ...decodeProperties(bytes.subarray(at, payloadAt)) },
      payload: head.hasNullPayload(row) ? null : new Uint8Array(payload),
      contextIndex: head.contextIndex(row),
    })
  }
  return records
}

const payload = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(null, undefined))
const body = fc
  .record({
    names: fc.uniqueArray(vchannel, { minLength: 1, maxLength: 5 }),
    contexts: fc.array(context, { maxLength: 3 }),
  })
  .chain(({ names, contexts }) => {
    const record: fc.Arbitrary<RecordInput> = fc.record(
      {
        vchannel: fc.constantFrom(...names),
        type: fc.option(u16, { nil: undefined }),
        properties: fc.option(properties, { nil: undefined }),
        payload,
        contextIndex:
          contexts.length === 0 ? fc.constant(undefined) : fc.option(fc.nat(contexts.length - 1), { nil: undefined }),
      },
      { requiredKeys: ['vchannel'] },
    )
    return fc.record({ records: fc.array(record, { minLength: 1, maxLength: 20 }), contexts: fc.constant(contexts) })
  })

describe('a body', () => {
  it('comes back as it was, record by record', () => {
    fc.assert(
      fc.property(body, ({ records, contexts }) => {
        const encodedContexts = contexts.map(encodeContext)
        const encoded = encode(records, encodedContexts)
        const head = open(encoded, records.length)
        expect(readAll(head, encoded.bytes)).toEqual(
          records.map((record) => ({
            vchannel: record.vchannel,
            type: record.type ?? 0,
            properties: record.properties ?? {},
            payload: record.payload === null ? null : (record.payload ?? new Uint8Array(0)),
            contextIndex: record.contextIndex ?? -1,
          })),
        )
        expect(head.vchannels).toEqual([...new Set(records.map((record) => record.vchannel))])
        expect(head.vchannels).toEqual(encoded.vchannels)
        for (const [index, name] of head.vchannels.entries()) {
          expect(verifySection(head, index, section(head, encoded.bytes, index))).toBe(true)
          expect(head.recordsOf(index)).toBe(records.filter((record) => record.vchannel === name).length)
        }
        expect(checkPadding(head, encoded.bytes)).toBe(true)
        expect(head.contextCount).toBe(contexts.length)
        for (const [index, bytes] of encodedContexts.entries()) {
          expect(Buffer.compare(head.context(index), bytes)).toBe(0)
        }
        expect(peekHeadLength(encoded.bytes.subarray(0, 32))).toBe(head.headLength)
      }),
      { numRuns: 300 },
    )
  })

  it('can be opened with its head alone', () => {
    const encoded = encode([{ vchannel: 'a', payload: Buffer.from('1234') }, { vchannel: 'b' }])
    const headLength = peekHeadLength(encoded.bytes.subarray(0, 32))
    const head = openBodyHead(encoded.bytes.subarray(0, headLength), encoded.bytes.length, 2, encoded.hash)
    expect([head.vchannels, head.sectionLength(0), head.recordsOf(1)]).toEqual([['a', 'b'], 4, 1])
    expect(() => openBodyHead(encoded.bytes.subarray(0, headLength - 1), encoded.bytes.length, 2, null)).toThrow(/head/)
  })

  it('is the same whether planned at once or record by record, and tells its length at any time', () => {
    fc.assert(
      fc.property(body, ({ records, contexts }) => {
        const encodedContexts = contexts.map(encodeContext)
        const planner = new BodyPlanner(bodyLimits, encodedContexts)
        for (const [index, record] of records.entries()) {
          planner.add(record)
          expect(planner.bytes).toBe(planBody(records.slice(0, index + 1), bodyLimits, encodedContexts).bodyBytes)
          expect(planner.recordCount).toBe(index + 1)
        }
        const plan = planner.finish()
        const target = Buffer.alloc(plan.bodyBytes, 0xcc)
        expect(writeBody(plan, target, 0)).toBe(encode(records, encodedContexts).hash)
      }),
      { numRuns: 50 },
    )
  })

  it('holds 65,536 records of 65,536 vchannels', () => {
    const records = Array.from({ length: 65_536 }, (_, index) => ({
      vchannel: `v${index}`,
      payload: Buffer.of(index & 255),
    }))
    const encoded = encode(records)
    const head = open(encoded, records.length)
    expect(head.vchannelCount).toBe(65_536)
    expect(head.vchannels[65_535]).toBe('v65535')
    expect(section(head, encoded.bytes, 65_535)).toEqual(Buffer.of(255))
  })
})

describe('planning a body', () => {
  const limits: BodyLimits = { recordBytesMax: 100, recordsMax: 3, bodyBytesMax: 400, vchannelBytesMax: 10 }
  const good: RecordInput = { vchannel: 'a' }

  it.each<[string, unknown[], string, RegExp]>([
    ['a control character in a name', [good, { vchannel: 'a\nb' }], 'INVALID_ARGUMENT', /record 1.*control/],
    ['a lone surrogate in a name', [{ vchannel: '\ud800' }], 'INVALID_ARGUMENT', /record 0.*surrogate/],
    ['a name that is no string', [{ vchannel: 7 }], 'INVALID_ARGUMENT', /record 0.*string/],
    ['no name', [{}], 'INVALID_ARGUMENT', /record 0.*string/],
    ['a name beyond the limit', [{ vchannel: 'ä'.repeat(6) }], 'LIMIT_EXCEEDED', /record 0.*10 bytes/],
    ['a name of 256 bytes', [{ vchannel: 'x'.repeat(256) }], 'LIMIT_EXCEEDED', /record 0.*255 bytes/],
    ['a type below 0', [{ ...good, type: -1 }], 'INVALID_ARGUMENT', /record 0.*type -1/],
    ['a type above 65,535', [{ ...good, type: 65_536 }], 'INVALID_ARGUMENT', /type 65536/],
    ['a type that is no integer', [{ ...good, type: 1.5 }], 'INVALID_ARGUMENT', /type 1.5/],
    ['a type that is no number', [{ ...good, type: '1' }], 'INVALID_ARGUMENT', /type 1 /],
    ['a payload that is a string', [{ ...good, payload: 'x' }], 'INVALID_ARGUMENT', /payload/],
    ['a property that is no string', [{ ...good, properties: { a: 1 } }], 'INVALID_ARGUMENT', /record 0.*property "a"/],
    ['a lone surrogate in a value', [{ ...good, properties: { a: '\udc00' } }], 'INVALID_ARGUMENT', /surrogate/],
    ['a lone surrogate in a key', [{ ...good, properties: { '\udc00': '' } }], 'INVALID_ARGUMENT', /surrogate/],
    ['a context that is not there', [{ ...good, contextIndex: 0 }], 'INVALID_ARGUMENT', /context index 0/],
    ['no record', [], 'INVALID_ARGUMENT', /without records/],
    ['too many records', [good, good, good, good], 'LIMIT_EXCEEDED', /4 records.*3/],
    ['a payload beyond the limit', [{ ...good, payload: Buffer.alloc(101) }], 'LIMIT_EXCEEDED', /record 0.*101.*100/],
    [
      'payload and properties beyond the limit',
      [{ ...good, payload: Buffer.alloc(90), properties: { a: 'bb' } }],
      'LIMIT_EXCEEDED',
      /record 0.*101.*100/,
    ],
    ['a giant property', [{ ...good, properties: { a: 'b'.repeat(1000) } }], 'LIMIT_EXCEEDED', /record 0.*100 bytes/],
    [
      'a body beyond the limit',
      [0, 1, 2].map(() => ({ ...good, payload: Buffer.alloc(100) })),
      'LIMIT_EXCEEDED',
      /400 bytes a frame/,
    ],
  ])('refuses %s', (_name, records, code, message) => {
    const call = () => planBody(records as RecordInput[], limits)
    expect(call).toThrow(expect.objectContaining({ name: 'FormatError', code }))
    expect(call).toThrow(message)
  })

  it('adds nothing of a record that it refuses', () => {
    const planner = new BodyPlanner({ ...limits, recordsMax: 100 })
    planner.add({ vchannel: 'a', payload: Buffer.from('x'), properties: { k: 'v' } })
    const before = planner.bytes
    for (const record of [
      { vchannel: 'a\n' },
      { vchannel: 'b', payload: Buffer.alloc(101) },
      { vchannel: 'b', type: 70_000 },
      { vchannel: 'b', properties: { good: 'yes', bad: '\ud800' } },
      { vchannel: 'b', contextIndex: 3 },
    ]) {
      expect(() => planner.add(record)).toThrow()
      expect([planner.bytes, planner.recordCount]).toEqual([before, 1])
    }
    while (planner.recordCount < 3) planner.add({ vchannel: 'a', payload: Buffer.alloc(80) })
    const full = planner.bytes
    expect(() => planner.add({ vchannel: 'a', payload: Buffer.alloc(100) })).toThrow(/400 bytes/)
    expect(() => planner.add({ vchannel: 'b', payload: Buffer.alloc(100) })).toThrow(/400 bytes/)
    expect(planner.bytes).toBe(full)
    planner.add({ vchannel: 'c', properties: { later: 'x' } })
    const plan = planner.finish()
    const bytes = Buffer.alloc(plan.bodyBytes)
    const head = openBodyHead(bytes, bytes.length, 4, writeBody(plan, bytes, 0))
    expect(readAll(head, bytes).map(({ vchannel, properties }) => ({ vchannel, properties }))).toEqual([
      { vchannel: 'a', properties: { k: 'v' } },
      { vchannel: 'a', properties: {} },
      { vchannel: 'a', properties: {} },
      { vchannel: 'c', properties: { later: 'x' } },
    ])
  })

  it('keeps properties as they were when they were planned', () => {
    const changing = { a: '1' }
    const plan = planBody([{ vchannel: 'v', properties: changing }])
    changing.a = '22222'
    const bytes = Buffer.alloc(plan.bodyBytes)
    const head = openBodyHead(bytes, bytes.length, 1, writeBody(plan, bytes, 0))
    expect(readAll(head, bytes)[0]!.properties).toEqual({ a: '1' })
  })

  it('notices a payload that has been detached before it is written', () => {
    const payload = new Uint8Array(8)
    const plan = planBody([{ vchannel: 'v', payload }])
    structuredClone(payload.buffer, { transfer: [payload.buffer] })
    expect(() => writeBody(plan, Buffer.alloc(plan.bodyBytes), 0)).toThrow(RangeError)
  })

  it('plans two bodies of the same names side by side', () => {
    const [one, other] = [new BodyPlanner(bodyLimits), new BodyPlanner(bodyLimits)]
    for (const name of ['a', 'b', 'a', 'c', 'b']) {
      one.add({ vchannel: name })
      other.add({ vchannel: name })
      other.add({ vchannel: `${name}${name}` })
    }
    expect(one.finish().vchannels).toEqual(['a', 'b', 'c'])
    expect(other.finish().vchannels).toEqual(['a', 'aa', 'b', 'bb', 'c', 'cc'])
  })
})

describe('opening a body', () => {
  const trace = encodeContext({ trace: 'abc', transaction: 5n })
  const records: RecordInput[] = [
    { vchannel: 'a', payload: Buffer.from('12345'), contextIndex: 0 },
    { vchannel: 'bb', payload: null },
    { vchannel: 'a', payload: Buffer.from('678') },
    { vchannel: 'ccc' },
  ]
  // Directory at 32, names at 128, contexts at 144, table at 168, sections at 232.
  const names = 128
  const contexts = 144
  const table = 168

  function opened(change: (bytes: Buffer) => void, count = 4): BodyHead {
    const { bytes } = encode(records, [trace])
    change(bytes)
    return openBodyHead(bytes, bytes.length, count, null)
  }

  it('has the layout that these tests rely on', () => {
    const { bytes } = encode(records, [trace])
    expect([bytes.readUInt32LE(0), bytes[names], bytes.readUInt32LE(contexts), bytes.readUInt32LE(table)]).toEqual([
      232,
      1,
      trace.length,
      5,
    ])
    expect(opened(() => {}).vchannels).toEqual(['a', 'bb', 'ccc'])
  })

  it.each<[string, (bytes: Buffer) => void]>([
    ['another head length', (b) => b.writeUInt32LE(240, 0)],
    ['another record count', (b) => b.writeUInt32LE(3, 4)],
    ['no vchannel', (b) => b.writeUInt32LE(0, 8)],
    ['more vchannels than records', (b) => b.writeUInt32LE(5, 8)],
    ['a giant count of vchannels', (b) => b.writeUInt32LE(0xffff_ffff, 8)],
    ['names of no multiple of 8', (b) => b.writeUInt32LE(17, 12)],
    ['giant contexts', (b) => b.writeUInt32LE(0xffff_fff8, 16)],
    ['another count of contexts', (b) => b.writeUInt16LE(2, 20)],
    ['a short stride', (b) => b.writeUInt16LE(8, 22)],
    ['another length of the sections', (b) => b.writeUInt32LE(16, 24)],
    ['a section that begins elsewhere', (b) => b.writeUInt32LE(8, 32 + 8)],
    ['a longer section', (b) => b.writeUInt32LE(9, 32 + 12)],
    ['another raw length', (b) => b.writeUInt32LE(9, 32 + 16)],
    ['another count of records', (b) => b.writeUInt32LE(1, 32 + 20)],
    ['an empty section with a hash', (b) => b.writeUInt32LE(1, 64)],
    ['a name beyond the names', (b) => b.writeUInt8(20, names)],
    ['a name that stands twice', (b) => b.write('\u0002bb\u0002bb\u0002aa', names, 'latin1')],
    ['a name of wrong UTF-8', (b) => b.writeUInt8(0xff, names + 1)],
    ['a name with a control character', (b) => b.writeUInt8(0x0a, names + 1)],
    ['padding of the names', (b) => b.writeUInt8(1, names + 15)],
    ['a context beyond the contexts', (b) => b.writeUInt32LE(1000, contexts)],
    ['a context item beyond its context', (b) => b.writeUInt16LE(100, contexts + 6)],
    ['padding of the contexts', (b) => b.writeUInt8(1, table - 1)],
    ['a vchannel index beyond the vchannels', (b) => b.writeUInt16LE(3, table + 8)],
    ['a context index beyond the contexts', (b) => b.writeUInt16LE(2, table + 10)],
    ['a row of another vchannel', (b) => b.writeUInt16LE(1, table + 8)],
    ['a longer payload', (b) => b.writeUInt32LE(6, table)],
    ['a giant payload', (b) => b.writeUInt32LE(0xffff_ffff, table)],
    ['longer properties', (b) => b.writeUInt32LE(1, table + 4)],
    ['a null payload with bytes', (b) => b.writeUInt16LE(1, table + 14)],
  ])('takes %s for damage, even with a right hash', (_name, change) => {
    expect(() => opened(change)).toThrow(expect.objectContaining({ name: 'FormatError', code: 'DAMAGED' }))
  })

  it.each<[string, (bytes: Buffer) => void]>([
    ['a codec', (b) => b.writeUInt8(1, 32 + 24)],
    ['an encryption', (b) => b.writeUInt8(1, 32 + 25)],
    ['a flag of a section', (b) => b.writeUInt16LE(1, 32 + 26)],
    ['a key id', (b) => b.writeUInt32LE(1, 32 + 28)],
    ['a flag of a row', (b) => b.writeUInt16LE(2, table + 14)],
  ])('says what to do about %s of a later version', (_name, change) => {
    expect(() => opened(change)).toThrow(expect.objectContaining({ code: 'FORMAT_UNKNOWN' }))
  })

  it('does not believe a count that the bytes cannot hold', () => {
    const header = Buffer.alloc(32)
    header.writeUInt32LE(65_536, 4)
    header.writeUInt32LE(65_536, 8)
    header.writeUInt32LE(65_536, 12)
    header.writeUInt16LE(16, 22)
    header.writeUInt32LE(32 + 65_536 * 49, 0)
    expect(() => openBodyHead(header, 32 + 65_536 * 49, 65_536, null)).toThrow(/only 32 bytes/)
    expect(() => openBodyHead(header.subarray(0, 31), 31, 1, null)).toThrow(/no header/)
  })

  it('wants the record count and the length of the frame', () => {
    const { bytes, hash } = encode(records, [trace])
    expect(() => openBodyHead(bytes, bytes.length, 3, hash)).toThrow(/4 and its frame 3|4 records and its frame 3/)
    expect(() => openBodyHead(bytes, bytes.length + 8, 4, hash)).toThrow(/add up/)
    expect(() => openBodyHead(bytes, bytes.length, 4, hash + 1n)).toThrow(/hash/)
  })

  it('reads rows with columns of a later version', () => {
    const { bytes, hash } = encode([{ vchannel: 'a', payload: Buffer.from('1234') }])
    const wide = Buffer.concat([bytes.subarray(0, 72 + 16), Buffer.alloc(8, 7), bytes.subarray(72 + 16)])
    wide.writeUInt32LE(bytes.readUInt32LE(0) + 8, 0)
    wide.writeUInt16LE(20, 22)
    wide.fill(0, 72 + 20, 72 + 24)
    expect(() => openBodyHead(wide, wide.length, 1, hash)).toThrow(/hash/)
    const head = openBodyHead(wide, wide.length, 1, hash64(wide.subarray(0, wide.readUInt32LE(0))))
    expect([head.payloadLength(0), head.sectionOffset(0)]).toEqual([4, bytes.readUInt32LE(0) + 8])
  })
})
