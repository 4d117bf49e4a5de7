/** Units of the append pipeline (pipeline/interceptor.ts), made from messages of this process or from a received body. */
import { encodeContext, type ProducerContext, type RecordInput } from '../../native-free-storage/index.ts'
import type { EncodedBody } from '../log-store/log-store.ts'
import { encodeHeader } from '../message/message-header.ts'
import { HEADER_PROPERTY, KEY_PROPERTY } from '../message/property-names.ts'
import type { Effect } from './effect.ts'
import { effectsOfBody, effectsOfRecords, NO_EFFECTS } from './effects-of.ts'
import type { AppendUnit, DuplicateRow, UnitResult } from './pipeline/interceptor.ts'
import { invalid } from './pipeline/limits.ts'
import type { MutableMessage } from './types.ts'

/** What all records of a frame of this process share. */
export interface SharedContext {
  /** Id of the transaction that they are bodies of. */
  readonly transaction?: number | undefined
  readonly producer?: ProducerContext | undefined
}

export interface UnitOptions {
  readonly barrierTick: bigint
  readonly firstTriedAt: bigint
  readonly signal: AbortSignal | undefined
}

export const NO_OPTIONS: UnitOptions = { barrierTick: 0n, firstTriedAt: 0n, signal: undefined }

class Unit implements AppendUnit {
  readonly messages: MutableMessage[] | null
  readonly records: RecordInput[] | null
  readonly contexts: Uint8Array[] | null
  readonly body: EncodedBody | null
  readonly recordCount: number
  readonly bytes: number
  readonly vchannels: readonly string[]
  readonly barrierTick: bigint
  readonly firstTriedAt: bigint
  readonly signal: AbortSignal | undefined
  readonly exclusive: { readonly vchannel: string; readonly type: number } | null
  readonly effects: readonly Effect[]
  readonly transactionIndex: number | null
  readonly internal: boolean
  voids: number[] = []
  duplicates: DuplicateRow[] = []
  answer: UnitResult | null = null

  constructor(parts: Omit<AppendUnit, 'voids' | 'duplicates' | 'answer' | 'exclusive'>) {
    this.messages = parts.messages
    this.records = parts.records
    this.contexts = parts.contexts
    this.body = parts.body
    this.recordCount = parts.recordCount
    this.bytes = parts.bytes
    this.vchannels = parts.vchannels
    this.barrierTick = parts.barrierTick
    this.firstTriedAt = parts.firstTriedAt
    this.signal = parts.signal
    this.effects = parts.effects
    this.transactionIndex = parts.transactionIndex
    this.internal = parts.internal
    this.exclusive = exclusiveOf(parts.effects, parts.recordCount)
  }
}

/** Messages that were checked (limits.ts). `key`: idempotency key of the one message. */
export function unitOfMessages(
  messages: MutableMessage[],
  bytes: number,
  key: string | undefined,
  shared: SharedContext | null,
  options: UnitOptions,
): AppendUnit {
  const contexts = contextsOf(shared)
  const records = messages.map((message, index) => recordOf(message, index, key, contexts === null ? undefined : 0))
  return new Unit({
    messages,
    records,
    contexts,
    body: null,
    recordCount: records.length,
    bytes,
    vchannels: distinctVchannels(records),
    effects: effectsOfRecords(records, contexts ?? []),
    transactionIndex: null,
    internal: false,
    ...options,
  })
}

/** Records of the node's own: begins, commits, rollbacks, epochs. */
export function unitOfRecords(records: RecordInput[], barrierTick: bigint): AppendUnit {
  return new Unit({
    messages: null,
    records,
    contexts: null,
    body: null,
    recordCount: records.length,
    bytes: 0,
    vchannels: distinctVchannels(records),
    barrierTick,
    firstTriedAt: 0n,
    signal: undefined,
    effects: effectsOfRecords(records, []),
    transactionIndex: null,
    internal: true,
  })
}

/** A body that a client encoded and that was checked when it was received. */
export function unitOfBody(body: EncodedBody, transactionIndex: number | null, options: UnitOptions): AppendUnit {
  return new Unit({
    messages: null,
    records: null,
    contexts: null,
    body,
    recordCount: body.head.recordCount,
    bytes: body.bytes.length,
    vchannels: body.head.vchannels,
    effects: effectsOfBody(body),
    transactionIndex,
    internal: false,
    ...options,
  })
}

function recordOf(
  message: MutableMessage,
  index: number,
  key: string | undefined,
  contextIndex: number | undefined,
): RecordInput {
  const { vchannel, type = 0, header, payload } = message
  let { properties } = message
  if (header !== undefined) {
    if (type === 0) throw invalid(`message ${index}: an application's record (type 0) has no header`)
    properties = { ...properties, [HEADER_PROPERTY]: encodeHeader(type, header) }
  }
  if (key !== undefined) properties = { ...properties, [KEY_PROPERTY]: key }
  return { vchannel, type, properties, payload, contextIndex }
}

function contextsOf(shared: SharedContext | null): Uint8Array[] | null {
  if (shared === null || (shared.transaction === undefined && shared.producer === undefined)) return null
  const transaction = shared.transaction === undefined ? undefined : BigInt(shared.transaction)
  return [encodeContext({ transaction, producer: shared.producer })]
}

function distinctVchannels(records: readonly RecordInput[]): readonly string[] {
  const first = records[0]!.vchannel
  if (records.every(({ vchannel }) => vchannel === first)) return [first]
  return [...new Set(records.map(({ vchannel }) => vchannel))]
}

/** INVALID_ARGUMENT: an exclusive message stands alone in its frame. */
function exclusiveOf(effects: readonly Effect[], recordCount: number): AppendUnit['exclusive'] {
  if (effects === NO_EFFECTS) return null
  for (const effect of effects) {
    if (effect.kind !== 'exclusive') continue
    if (recordCount > 1) throw invalid('an exclusive message is alone in its append: it shares it with others here')
    if (effects.some(({ kind }) => kind === 'body')) {
      throw invalid('an exclusive message ends the transactions on its vchannel, and is in none')
    }
    return { vchannel: effect.vchannel, type: effect.type }
  }
  return null
}
