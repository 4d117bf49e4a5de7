/** The msgpack metas of PROTOCOL 7: watermark on demand, transactions, producers, throttling. */
import { ControlFields, type ControlMap, encodeControl } from './control-codec.ts'
import { CONFIRM_WAIT_MS_MAX, KEEPALIVE_MS_MAX, META_BYTES_MAX, NAME_BYTES_MAX, RECORDS_MAX } from './limits.ts'
import { violation } from './violation.ts'

const U32_MAX = 0xffff_ffff
const LSN_MAX = Number.MAX_SAFE_INTEGER

export interface ConfirmRequest {
  group: number
  /** Answered once the watermark is at or above it; 0n: at once. */
  atLeast: bigint
  /** TIMEOUT when it has not got there by then. */
  waitMs: number
}

export function encodeConfirm(request: ConfirmRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeConfirm(bytes: Buffer): ConfirmRequest {
  const fields = ControlFields.decode('CONFIRM', bytes)
  return {
    group: fields.integer('group', 0, U32_MAX),
    atLeast: fields.has('atLeast') ? fields.tick('atLeast') : 0n,
    waitMs: fields.integer('waitMs', 0, CONFIRM_WAIT_MS_MAX, CONFIRM_WAIT_MS_MAX),
  }
}

export function encodeConfirmed(timeTick: bigint): Buffer {
  return encodeControl({ timeTick })
}

export function decodeConfirmed(bytes: Buffer): bigint {
  return ControlFields.decode('CONFIRMED', bytes).tick('timeTick')
}

export interface TxnBeginRequest {
  vchannel: string
  /** 0: the node's own. */
  keepaliveMs: number
}

export function encodeTxnBegin(request: TxnBeginRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeTxnBegin(bytes: Buffer): TxnBeginRequest {
  const fields = ControlFields.decode('TXN_BEGIN', bytes)
  return {
    vchannel: fields.string('vchannel', META_BYTES_MAX),
    keepaliveMs: fields.integer('keepaliveMs', 0, KEEPALIVE_MS_MAX, 0),
  }
}

export interface TxnBegun {
  /** LSN of its begin. */
  transaction: number
  group: number
  keepaliveMs: number
  /** Of its begin. */
  timeTick: bigint
}

export function encodeTxnBegun(begun: TxnBegun): Buffer {
  return encodeControl({ ...begun })
}

export function decodeTxnBegun(bytes: Buffer): TxnBegun {
  const fields = ControlFields.decode('TXN_BEGUN', bytes)
  return {
    transaction: fields.integer('transaction', 0, LSN_MAX),
    group: fields.integer('group', 0, U32_MAX),
    keepaliveMs: fields.integer('keepaliveMs', 1, KEEPALIVE_MS_MAX),
    timeTick: fields.tick('timeTick'),
  }
}

export interface TxnEndRequest {
  group: number
  transaction: number
  commit: boolean
  /** Records that the client has sent in it; the commit is refused when the node has another number. */
  bodies: number
}

export function encodeTxnEnd(request: TxnEndRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeTxnEnd(bytes: Buffer): TxnEndRequest {
  const fields = ControlFields.decode('TXN_END', bytes)
  return {
    group: fields.integer('group', 0, U32_MAX),
    transaction: fields.integer('transaction', 0, LSN_MAX),
    commit: fields.boolean('commit'),
    bodies: fields.integer('bodies', 0, LSN_MAX, 0),
  }
}

export interface TxnEnded {
  /** Of the commit or the rollback. */
  lsn: number
  timeTick: bigint
}

export function encodeTxnEnded(ended: TxnEnded): Buffer {
  return encodeControl({ ...ended })
}

export function decodeTxnEnded(bytes: Buffer): TxnEnded {
  const fields = ControlFields.decode('TXN_ENDED', bytes)
  return { lsn: fields.integer('lsn', 0, LSN_MAX), timeTick: fields.tick('timeTick') }
}

const transactionStates = ['open', 'committing', 'rolling-back'] as const

/** An open transaction. Durations in milliseconds. */
export interface WireTransaction {
  transaction: number
  group: number
  vchannel: string
  state: (typeof transactionStates)[number]
  bodies: number
  bytes: number
  ageMs: number
  /** Until it expires. */
  leftMs: number
  keepaliveMs: number
}

export interface TxnListed {
  transactions: WireTransaction[]
  more: boolean
}

export function encodeTxnList(offset: number): Buffer {
  return encodeControl({ offset })
}

export function decodeTxnList(bytes: Buffer): number {
  return ControlFields.decode('TXN_LIST', bytes).integer('offset', 0, U32_MAX, 0)
}

export function encodeTxnListed({ transactions, more }: TxnListed): Buffer {
  return encodeControl({ transactions: transactions.map((transaction): ControlMap => ({ ...transaction })), more })
}

export function decodeTxnListed(bytes: Buffer): TxnListed {
  const fields = ControlFields.decode('TXN_LISTED', bytes)
  const transactions = fields.maps('transactions', RECORDS_MAX).map((item): WireTransaction => {
    const text = item.string('state', 16)
    const state = transactionStates.find((known) => known === text)
    if (state === undefined) throw violation(`TXN_LISTED: "${text}" is no state`)
    return {
      transaction: item.integer('transaction', 0, LSN_MAX),
      group: item.integer('group', 0, U32_MAX),
      vchannel: item.string('vchannel', NAME_BYTES_MAX),
      state,
      bodies: item.integer('bodies', 0, LSN_MAX, 0),
      bytes: item.integer('bytes', 0, LSN_MAX, 0),
      ageMs: item.integer('ageMs', 0, LSN_MAX, 0),
      leftMs: item.integer('leftMs', 0, LSN_MAX, 0),
      keepaliveMs: item.integer('keepaliveMs', 0, LSN_MAX, 0),
    }
  })
  return { transactions, more: fields.boolean('more') }
}

export interface ProducerOpenRequest {
  vchannel: string
  /** 1 to 255 bytes. With the vchannel it is the producer's identity. */
  id: string
  /** To go on in: no new epoch begins, and PRODUCER_FENCED says that a newer one has. */
  epoch?: number | undefined
}

export function encodeProducerOpen(request: ProducerOpenRequest): Buffer {
  return encodeControl({ ...request })
}

export function decodeProducerOpen(bytes: Buffer): ProducerOpenRequest {
  const fields = ControlFields.decode('PRODUCER_OPEN', bytes)
  const request: ProducerOpenRequest = {
    vchannel: fields.string('vchannel', META_BYTES_MAX),
    id: fields.string('id', META_BYTES_MAX),
  }
  if (fields.has('epoch')) request.epoch = fields.integer('epoch', 1, U32_MAX)
  return request
}

export interface ProducerOpened {
  /** LSN of its first epoch: what context 1 names it by. */
  producer: number
  group: number
  epoch: number
  /** Of the last record that is in the log; 0: none. */
  lastSequence: number
  /** The node has lost what it knew of producers: this one may have been there before. */
  windowLost: boolean
}

export function encodeProducerOpened(opened: ProducerOpened): Buffer {
  return encodeControl({ ...opened })
}

export function decodeProducerOpened(bytes: Buffer): ProducerOpened {
  const fields = ControlFields.decode('PRODUCER_OPENED', bytes)
  return {
    producer: fields.integer('producer', 0, LSN_MAX),
    group: fields.integer('group', 0, U32_MAX),
    epoch: fields.integer('epoch', 1, U32_MAX),
    lastSequence: fields.integer('lastSequence', 0, LSN_MAX),
    windowLost: fields.boolean('windowLost', false),
  }
}

export interface WireProducer {
  id: string
  vchannel: string
  group: number
  producer: number
  epoch: number
  lastSequence: number
  lastLsn: number
  lastTimeTick: bigint
}

export interface ProducerListed {
  producers: WireProducer[]
  more: boolean
}

export function encodeProducerList(offset: number): Buffer {
  return encodeControl({ offset })
}

export function decodeProducerList(bytes: Buffer): number {
  return ControlFields.decode('PRODUCER_LIST', bytes).integer('offset', 0, U32_MAX, 0)
}

export function encodeProducerListed({ producers, more }: ProducerListed): Buffer {
  return encodeControl({ producers: producers.map((producer): ControlMap => ({ ...producer })), more })
}

export function decodeProducerListed(bytes: Buffer): ProducerListed {
  const fields = ControlFields.decode('PRODUCER_LISTED', bytes)
  const producers = fields.maps('producers', RECORDS_MAX).map(
    (item): WireProducer => ({
      id: item.string('id', NAME_BYTES_MAX),
      vchannel: item.string('vchannel', NAME_BYTES_MAX),
      group: item.integer('group', 0, U32_MAX),
      producer: item.integer('producer', 0, LSN_MAX),
      epoch: item.integer('epoch', 1, U32_MAX),
      lastSequence: item.integer('lastSequence', 0, LSN_MAX, 0),
      lastLsn: item.integer('lastLsn', 0, LSN_MAX, 0),
      lastTimeTick: item.has('lastTimeTick') ? item.tick('lastTimeTick') : 0n,
    }),
  )
  return { producers, more: fields.boolean('more') }
}

const throttleStates = ['ok', 'slow', 'refusing'] as const
export type ThrottleState = (typeof throttleStates)[number]

/** What a group takes at present. */
export interface Throttle {
  group: number
  state: ThrottleState
  /** 0: not limited. */
  bytesPerSecond: number
}

export function encodeThrottle(throttle: Throttle): Buffer {
  return encodeControl({ ...throttle })
}

/** A state that this side does not know is `slow`. */
export function throttleStateOf(text: string): ThrottleState {
  return throttleStates.find((known) => known === text) ?? 'slow'
}

export function decodeThrottle(bytes: Buffer): Throttle {
  const fields = ControlFields.decode('THROTTLE', bytes)
  return {
    group: fields.integer('group', 0, U32_MAX),
    state: throttleStateOf(fields.string('state', 16)),
    bytesPerSecond: fields.integer('bytesPerSecond', 0, LSN_MAX, 0),
  }
}
