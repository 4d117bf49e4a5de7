/** The msgpack metas of PROTOCOL 2, 3, 6 and 8: what each holds, encoded and decoded side by side. */
import { ControlFields, type ControlMap, encodeControl, integerOf, tickOf } from './control-codec.ts'
import {
  CONSUME_TYPES_MAX,
  CONSUME_VCHANNELS_MAX,
  LIST_LIMIT_MAX,
  META_BYTES_MAX,
  NAME_BYTES_MAX,
  RECORDS_MAX,
} from './limits.ts'
import { violation } from './violation.ts'
import { type ThrottleState, throttleStateOf } from './wal-messages.ts'

const U32_MAX = 0xffff_ffff
const LSN_MAX = Number.MAX_SAFE_INTEGER
const DAY_MS = 86_400_000

export interface Hello {
  name: string
  versionMin: number
  versionMax: number
  features: number
  bodyBytesMax: number
}

export function encodeHello(hello: Hello): Buffer {
  return encodeControl({ ...hello })
}

export function decodeHello(bytes: Buffer): Hello {
  const fields = ControlFields.decode('HELLO', bytes)
  return {
    name: fields.string('name', NAME_BYTES_MAX, ''),
    versionMin: fields.integer('versionMin', 1, U32_MAX),
    versionMax: fields.integer('versionMax', 1, U32_MAX),
    features: fields.integer('features', 0, LSN_MAX, 0),
    bodyBytesMax: fields.integer('bodyBytesMax', 1, U32_MAX),
  }
}

export interface Welcome {
  name: string
  version: number
  features: number
  bodyBytesMax: number
  recordBytesMax: number
  produceBytesMax: number
  consumersMax: number
  tickIntervalMs: number
  idleTimeoutMs: number
}

export function encodeWelcome(welcome: Welcome): Buffer {
  return encodeControl({ ...welcome })
}

export function decodeWelcome(bytes: Buffer): Welcome {
  const fields = ControlFields.decode('WELCOME', bytes)
  return {
    name: fields.string('name', NAME_BYTES_MAX, ''),
    version: fields.integer('version', 1, U32_MAX),
    features: fields.integer('features', 0, LSN_MAX, 0),
    bodyBytesMax: fields.integer('bodyBytesMax', 64, U32_MAX),
    recordBytesMax: fields.integer('recordBytesMax', 1, U32_MAX),
    produceBytesMax: fields.integer('produceBytesMax', 1, LSN_MAX),
    consumersMax: fields.integer('consumersMax', 0, U32_MAX),
    tickIntervalMs: fields.integer('tickIntervalMs', 1, DAY_MS),
    idleTimeoutMs: fields.integer('idleTimeoutMs', 1, DAY_MS),
  }
}

export interface Goodbye {
  code: string
  message: string
  /** Messages of the other side that were acted upon. */
  received: number
}

export function encodeGoodbye(goodbye: Goodbye): Buffer {
  return encodeControl({ ...goodbye })
}

export function decodeGoodbye(bytes: Buffer): Goodbye {
  const fields = ControlFields.decode('GOODBYE', bytes)
  return {
    code: fields.string('code', 64),
    message: fields.string('message', META_BYTES_MAX, ''),
    received: fields.integer('received', 0, LSN_MAX, 0),
  }
}

export interface ResolveRequest {
  vchannel: string
  create: boolean
}

export function encodeResolve(request: ResolveRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeResolve(bytes: Buffer): ResolveRequest {
  const fields = ControlFields.decode('RESOLVE', bytes)
  return { vchannel: fields.string('vchannel', META_BYTES_MAX), create: fields.boolean('create', false) }
}

export interface WireVchannel {
  name: string
  group: number
  createdMs: number
}

export function encodeResolved(info: WireVchannel): Buffer {
  return encodeControl(vchannelToWire(info))
}

export function decodeResolved(bytes: Buffer): WireVchannel {
  return vchannelFromWire(ControlFields.decode('RESOLVED', bytes))
}

function vchannelToWire({ name, group, createdMs }: WireVchannel): ControlMap {
  return { name, group, createdMs }
}

function vchannelFromWire(fields: ControlFields): WireVchannel {
  return {
    name: fields.string('name', NAME_BYTES_MAX),
    group: fields.integer('group', 0, U32_MAX),
    createdMs: fields.integer('createdMs', 0, LSN_MAX, 0),
  }
}

export interface ListRequest {
  after: string
  limit: number
}

export function encodeList(request: ListRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeList(bytes: Buffer): ListRequest {
  const fields = ControlFields.decode('LIST', bytes)
  return { after: fields.string('after', NAME_BYTES_MAX, ''), limit: fields.integer('limit', 1, LIST_LIMIT_MAX) }
}

export interface Listed {
  vchannels: WireVchannel[]
  more: boolean
}

export function encodeListed({ vchannels, more }: Listed): Buffer {
  return encodeControl({ vchannels: vchannels.map(vchannelToWire), more })
}

export function decodeListed(bytes: Buffer): Listed {
  const fields = ControlFields.decode('LISTED', bytes)
  return { vchannels: fields.maps('vchannels', LIST_LIMIT_MAX).map(vchannelFromWire), more: fields.boolean('more') }
}

export interface TruncateRequest {
  vchannel: string
  lsn: number
}

export function encodeTruncate(request: TruncateRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeTruncate(bytes: Buffer): TruncateRequest {
  const fields = ControlFields.decode('TRUNCATE', bytes)
  return { vchannel: fields.string('vchannel', META_BYTES_MAX), lsn: fields.integer('lsn', 0, LSN_MAX) }
}

export function encodeTruncated(firstLsn: number): Buffer {
  return encodeControl({ firstLsn })
}

export function decodeTruncated(bytes: Buffer): number {
  return ControlFields.decode('TRUNCATED', bytes).integer('firstLsn', 0, LSN_MAX)
}

/** What STATUS_IS says of a group. */
export interface WireGroupStatus {
  group: number
  name: string
  state: 'healthy' | 'stalled' | 'failed' | 'idle'
  message: string
  ownerTerm: number
  firstLsn: number
  nextLsn: number
  watermark: bigint
  bytes: number
  segments: number
  vchannels: number
  /** Open ones. */
  transactions: number
  throttle: ThrottleState
}

/** What STATUS_IS says of the room where the logs are kept. */
export interface WireSpaceStatus {
  state: 'unknown' | 'ok' | 'warning' | 'refusing'
  message: string
  /** Null: not known yet. */
  usedBytes: number | null
  freeBytes: number | null
  refusals: number
}

export interface StatusIs {
  groups: WireGroupStatus[]
  more: boolean
  /** Null: nobody watches it. */
  space: WireSpaceStatus | null
}

export function encodeStatus(offset: number): Buffer {
  return encodeControl({ offset })
}

export function decodeStatus(bytes: Buffer): number {
  return ControlFields.decode('STATUS', bytes).integer('offset', 0, U32_MAX, 0)
}

export function encodeStatusIs({ groups, more, space }: StatusIs): Buffer {
  const shown = space === null ? undefined : { ...space }
  return encodeControl({ groups: groups.map((group) => ({ ...group })), more, space: shown })
}

export function decodeStatusIs(bytes: Buffer): StatusIs {
  const fields = ControlFields.decode('STATUS_IS', bytes)
  const groups = fields.maps('groups', RECORDS_MAX).map((group): WireGroupStatus => {
    const state = group.string('state', 16)
    if (state !== 'healthy' && state !== 'stalled' && state !== 'failed' && state !== 'idle') {
      throw violation(`STATUS_IS: "${state}" is no state`)
    }
    return {
      group: group.integer('group', 0, U32_MAX),
      name: group.string('name', NAME_BYTES_MAX, ''),
      state,
      message: group.string('message', META_BYTES_MAX, ''),
      ownerTerm: group.integer('ownerTerm', 0, U32_MAX, 0),
      firstLsn: group.integer('firstLsn', 0, LSN_MAX),
      nextLsn: group.integer('nextLsn', 0, LSN_MAX),
      watermark: group.tick('watermark'),
      bytes: group.integer('bytes', 0, LSN_MAX, 0),
      segments: group.integer('segments', 0, LSN_MAX, 0),
      vchannels: group.integer('vchannels', 0, LSN_MAX, 0),
      transactions: group.integer('transactions', 0, LSN_MAX, 0),
      throttle: throttleStateOf(group.string('throttle', 16, 'ok')),
    }
  })
  return { groups, more: fields.boolean('more'), space: spaceFromWire(fields.map('space')) }
}

function spaceFromWire(fields: ControlFields | null): WireSpaceStatus | null {
  if (fields === null) return null
  const state = fields.string('state', 16)
  return {
    // What a later node says is nothing that this client knows.
    state: state === 'ok' || state === 'warning' || state === 'refusing' ? state : 'unknown',
    message: fields.string('message', META_BYTES_MAX, ''),
    usedBytes: fields.has('usedBytes') ? fields.integer('usedBytes', 0, LSN_MAX) : null,
    freeBytes: fields.has('freeBytes') ? fields.integer('freeBytes', 0, LSN_MAX) : null,
    refusals: fields.integer('refusals', 0, LSN_MAX, 0),
  }
}

export type WirePosition = 'earliest' | 'latest' | { lsn: number } | { timeTick: bigint }

export interface ConsumeRequest {
  group: number
  vchannels: string[]
  from: WirePosition
  types?: number[] | undefined
  /** `end`: what is durable when the node reads the request; a number: what is below that LSN; left out: it follows. */
  until?: 'end' | number | undefined
  bytes: number
  frames: number
  /** A TICK need not come more often; left out or 0: as often as the node has it. */
  ticksEveryMs?: number | undefined
}

export function encodeConsume(request: ConsumeRequest): Buffer {
  const { group, vchannels, from, types, until, bytes, frames, ticksEveryMs } = request
  return encodeControl({
    group,
    vchannels,
    from: typeof from === 'string' ? from : { ...from },
    types,
    until,
    bytes,
    frames,
    ticksEveryMs,
  })
}

export function decodeConsume(meta: Buffer): ConsumeRequest {
  const fields = ControlFields.decode('CONSUME', meta)
  const vchannels = fields.array('vchannels', 1, CONSUME_VCHANNELS_MAX).map((name) => {
    if (typeof name !== 'string') throw violation('CONSUME: a vchannel is not a string')
    return name
  })
  const request: ConsumeRequest = {
    group: fields.integer('group', 0, U32_MAX),
    vchannels,
    from: positionOf(fields),
    bytes: fields.integer('bytes', 0, LSN_MAX),
    frames: fields.integer('frames', 0, U32_MAX),
  }
  if (fields.has('types')) {
    request.types = fields.array('types', 0, CONSUME_TYPES_MAX).map((type) => {
      const number = integerOf(type, 0, 65_535)
      if (number === null) throw violation('CONSUME: a type is not an integer from 0 to 65,535')
      return number
    })
  }
  if (fields.has('until')) {
    request.until = fields.raw('until') === 'end' ? 'end' : fields.integer('until', 0, LSN_MAX)
  }
  if (fields.has('ticksEveryMs')) request.ticksEveryMs = fields.integer('ticksEveryMs', 0, DAY_MS)
  return request
}

function positionOf(fields: ControlFields): WirePosition {
  const from = fields.raw('from')
  if (from === 'earliest' || from === 'latest') return from
  if (typeof from === 'object' && from !== null && !Array.isArray(from) && !(from instanceof Uint8Array)) {
    const lsn = integerOf(from.lsn, 0, LSN_MAX)
    if (lsn !== null) return { lsn }
    const timeTick = tickOf(from.timeTick)
    if (timeTick !== null) return { timeTick }
  }
  throw violation('CONSUME: "from" is not a position')
}

export interface Consuming {
  firstLsn: number
  nextLsn: number
  from?: number | undefined
  until?: number | undefined
}

export function encodeConsuming(consuming: Consuming): Buffer {
  return encodeControl({ ...consuming })
}

export function decodeConsuming(bytes: Buffer): Consuming {
  const fields = ControlFields.decode('CONSUMING', bytes)
  const consuming: Consuming = {
    firstLsn: fields.integer('firstLsn', 0, LSN_MAX),
    nextLsn: fields.integer('nextLsn', 0, LSN_MAX),
  }
  if (fields.has('from')) consuming.from = fields.integer('from', 0, LSN_MAX)
  if (fields.has('until')) consuming.until = fields.integer('until', 0, LSN_MAX)
  return consuming
}
