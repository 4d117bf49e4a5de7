/**
 * What a message must be before anything else is asked: names, types, sizes. Nothing that is refused here has taken a
 * tick. What only the encoder sees (UTF-8, the size of a record) it refuses itself, before a tick is taken too.
 */
import { vchannelNameFault } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import { isExclusive, messageTypeInfo, messageTypeName } from '../../message/message-type.ts'
import { isReservedName, KEY_BYTES_MAX } from '../../message/property-names.ts'
import type { MutableMessage } from '../types.ts'

const TYPE_MAX = 65_535
/** What UTF-8 has no bytes for. */
const HALF_CHARACTER = /[\ud800-\udfff]/u

/**
 * Bytes of the payload and (about, from below) of the properties. Throws INVALID_ARGUMENT, not written; `index` names
 * the message of a batch.
 */
export function checkMessage(message: MutableMessage, index: number): number {
  if (typeof message !== 'object' || message === null) throw refused(index, 'it is no object')
  const { vchannel, type, payload, properties } = message
  if (typeof vchannel !== 'string') throw refused(index, 'its vchannel is no string')
  if (type !== undefined && type !== 0) checkType(type, index)
  if (vchannel === '' && !isExclusive(type ?? 0)) {
    throw refused(
      index,
      'it names no vchannel; only exclusive messages (FlushAll, for example) are for the whole pchannel',
    )
  }
  if (payload != null && !(payload instanceof Uint8Array)) throw refused(index, 'its payload is no Uint8Array')
  let bytes = payload == null ? 0 : payload.length
  if (properties !== undefined) {
    for (const name in properties) {
      if (isReservedName(name)) {
        throw refused(index, `its property "${name}" begins with _: such names are the node's`)
      }
      const value = properties[name]
      if (typeof value !== 'string') throw refused(index, `its property "${name}" is not a string`)
      bytes += name.length + value.length
    }
  }
  return bytes
}

/** INVALID_ARGUMENT unless it can be the name of a vchannel. */
export function checkVchannel(vchannel: unknown): asserts vchannel is string {
  const fault =
    typeof vchannel !== 'string' ? 'it is no string' : vchannel === '' ? 'it is empty' : vchannelNameFault(vchannel)
  if (fault !== null) throw invalid(`the vchannel ${JSON.stringify(vchannel)} is refused: ${fault}`)
}

/** INVALID_ARGUMENT unless it is 1 to 256 bytes of UTF-8. */
export function checkKey(key: string): void {
  const isShort = typeof key === 'string' && key.length >= 1 && key.length <= KEY_BYTES_MAX
  if (!isShort || Buffer.byteLength(key) > KEY_BYTES_MAX || HALF_CHARACTER.test(key)) {
    throw invalid(`an idempotency key is 1 to ${KEY_BYTES_MAX} bytes of UTF-8`)
  }
}

/** INVALID_ARGUMENT unless it is a time tick; 0n stands for none. */
export function checkTick(name: string, tick: unknown): bigint {
  if (tick === undefined) return 0n
  if (typeof tick !== 'bigint' || tick < 0n || tick > 0xffff_ffff_ffff_ffffn) {
    throw invalid(`${name} is ${String(tick)}; a time tick is a bigint of 64 bits`)
  }
  return tick
}

function checkType(type: number, index: number): void {
  if (!Number.isInteger(type) || type < 0 || type > TYPE_MAX) {
    throw refused(index, `its type ${String(type)} is not an integer from 0 to ${TYPE_MAX}`)
  }
  const info = messageTypeInfo(type)
  if (info === undefined) return
  if (info.selfControlled || info.system || !info.persisted) {
    throw refused(index, `its type ${type} (${messageTypeName(type)}) is written by the node alone`)
  }
}

function refused(index: number, why: string): TidelogError {
  return invalid(`message ${index}: ${why}`)
}

export function invalid(message: string): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', message, { outcome: 'not-written' })
}
