/**
 * Our registry and our typed headers against vectors that Milvus's own code has written
 * (test/golden/milvus/golden.json; its `source` names the version).
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type FieldSchema, type HeaderSchema, headerSchemas } from '../../src/message/header-schema.ts'
import { decodeHeader, encodeHeader } from '../../src/message/message-header.ts'
import { messageTypeInfo, messageTypeName, messageTypes } from '../../src/message/message-type.ts'
import { upsert } from '../../src/message/upsert.ts'

interface Vector {
  name: string
  stage: string
  messageType: number
  messageTypeName: string
  messageVersion: number
  headerProtojson: Record<string, unknown>
  isPersisted: boolean
  isSystem: boolean
  isSelfControlled: boolean
  isExclusiveRequired: boolean
}

const golden: { messageTypes: Record<string, number>; vectors: Vector[] } = JSON.parse(
  readFileSync(new URL('../golden/milvus/golden.json', import.meta.url), 'utf8'),
)
/** Milvus's spelling of enum values, where a header has them; our own holds their numbers. */
const enums: Record<string, readonly string[]> = { level: ['Legacy', 'L0', 'L1', 'L2'] }

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

/** Of protojson: 64-bit numbers are text, names are camel case. A field without a place in the schema throws. */
function fieldsOf(json: Record<string, unknown>, schema: HeaderSchema): Record<string, unknown> {
  const fields: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(json)) {
    const known = schema[snake(name)]
    if (known === undefined) throw new Error(`no place for ${name}`)
    fields[snake(name)] = valueFrom(snake(name), value, known)
  }
  return fields
}

function valueFrom(name: string, value: unknown, { kind, repeated }: FieldSchema): unknown {
  if (repeated) return (value as unknown[]).map((item) => valueFrom(name, item, { kind }))
  if (typeof kind !== 'string') return fieldsOf(value as Record<string, unknown>, kind)
  if (typeof value === 'string' && enums[name] !== undefined) return enums[name].indexOf(value)
  return kind === 'int64' || kind === 'uint64' ? BigInt(value as string) : value
}

function jsonOf(fields: Record<string, unknown>, schema: HeaderSchema): Record<string, unknown> {
  const json = Object.entries(fields).map(([name, value]) => [camel(name), jsonOfValue(name, value, schema[name]!)])
  return Object.fromEntries(json)
}

function jsonOfValue(name: string, value: unknown, { kind, repeated }: FieldSchema): unknown {
  if (repeated) return (value as unknown[]).map((item) => jsonOfValue(name, item, { kind }))
  if (typeof kind !== 'string') return jsonOf(value as Record<string, unknown>, kind)
  if (enums[name] !== undefined) return enums[name][value as number]
  return kind === 'int64' || kind === 'uint64' ? String(value) : value
}

describe('the registry of types', () => {
  it('has every type of Milvus under its number and name', () => {
    const { Unknown: _, ...theirs } = golden.messageTypes
    const ours = Object.fromEntries(messageTypes.map(({ name, type }) => [name, type]))
    expect(ours).toMatchObject(theirs)
    expect(Object.keys(theirs).length).toBeGreaterThan(40)
    // Those that its release did not have yet, and our own.
    const more = Object.keys(ours).filter((name) => theirs[name] === undefined)
    expect(more.toSorted()).toEqual(['AlterWAL', 'FlushAll', 'ProducerEpoch', 'TruncateCollection'])
    expect(new Set(messageTypes.map(({ type }) => type)).size).toBe(messageTypes.length)
    expect(messageTypes.map(({ type }) => type)).toEqual(messageTypes.map(({ type }) => type).toSorted((a, b) => a - b))
  })

  it.each(golden.vectors)('has the flags and the version of $name, $stage', (vector) => {
    const info = messageTypeInfo(vector.messageType)!
    expect(info).toMatchObject({
      name: vector.messageTypeName,
      system: vector.isSystem,
      selfControlled: vector.isSelfControlled,
      exclusive: vector.isExclusiveRequired,
    })
    expect(messageTypeName(vector.messageType)).toBe(vector.messageTypeName)
    // Of the message, not of the type: a tick that is not stored, a message in the form of an old release.
    if (!vector.name.endsWith('/notPersisted')) expect(info.persisted).toBe(vector.isPersisted)
    if (!vector.name.endsWith('/oldVersion')) expect(info.version).toBe(vector.messageVersion)
    expect(info.cipherable).toBe(vector.messageTypeName === 'Insert' || vector.messageTypeName === 'Delete')
  })
})

describe('types without a vector', () => {
  it('have the flags of Milvus too', () => {
    const withFlag = (flag: 'exclusive' | 'system' | 'selfControlled') =>
      messageTypes.filter((info) => info[flag]).map(({ name }) => name)
    expect(withFlag('exclusive')).toEqual([
      ...['CreateCollection', 'DropCollection', 'CreatePartition', 'DropPartition', 'ManualFlush', 'SchemaChange'],
      ...['AlterCollection', 'FlushAll', 'AlterWAL', 'AlterReplicateConfig'],
    ])
    expect(withFlag('system')).toEqual(['TimeTick', 'BeginTxn', 'CommitTxn', 'RollbackTxn', 'Txn', 'ProducerEpoch'])
    expect(withFlag('selfControlled')).toEqual(['TimeTick', 'Flush', 'CreateSegment', 'ProducerEpoch'])
    const first = messageTypes.filter(({ version }) => version === 1).map(({ name }) => name)
    expect(first).toEqual([
      ...['TimeTick', 'Insert', 'Delete', 'CreateCollection', 'DropCollection', 'CreatePartition', 'DropPartition'],
      'Import',
    ])
  })

  it('pass through where nobody knows them', () => {
    expect(messageTypeInfo(4_711)).toBeUndefined()
    expect(messageTypeName(4_711)).toBe('type 4711')
  })
})

describe('an upsert', () => {
  it('is a delete and then an insert', () => {
    const gone = { header: { collection_id: 7, rows: 1 }, payload: Buffer.from('old') }
    const come = { header: { collection_id: 7, partitions: [{ rows: 1 }] }, payload: Buffer.from('new') }
    const messages = upsert(gone, come)
    expect(messages.map(({ type, payload }) => [messageTypeName(type), String(payload)])).toEqual([
      ['Delete', 'old'],
      ['Insert', 'new'],
    ])
    for (const { type, header } of messages)
      expect(decodeHeader(type, encodeHeader(type, { ...header }))).toEqual(header)
  })
})

describe('a typed header', () => {
  const known = golden.vectors.filter(({ messageType }) => headerSchemas.has(messageType))

  it.each(known)('holds that of $name, $stage, without loss', ({ messageType, headerProtojson }) => {
    const schema = headerSchemas.get(messageType)!
    const back = decodeHeader(messageType, encodeHeader(messageType, fieldsOf(headerProtojson, schema)))!
    expect(jsonOf(back, schema)).toEqual(headerProtojson)
  })

  it('is there for each of the types that have one', () => {
    const names = [...new Set(known.map(({ messageTypeName }) => messageTypeName))]
    expect(names.toSorted()).toEqual([
      'BeginTxn',
      'CommitTxn',
      'CreateCollection',
      'CreatePartition',
      'CreateSegment',
      'Delete',
      'DropPartition',
      'Flush',
      'Insert',
      'ManualFlush',
      'RollbackTxn',
      'SchemaChange',
      'TimeTick',
    ])
  })
})
