/** Errors as they cross a connection (PROTOCOL 4), and what the format's own errors are called above it. */
import { FormatError } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { ControlFields, ControlMap } from './control-codec.ts'

const MESSAGE_BYTES_MAX = 4096
const CODE = /^[A-Z][A-Z_]{1,63}$/

/** For `encodeControl`. Anything but a TidelogError is told without its inner detail. */
export function errorToWire(error: unknown): ControlMap {
  if (!(error instanceof TidelogError)) {
    return { code: 'IO_FAILED', message: 'the node failed inside; its log says more', retriable: false }
  }
  const known: TidelogError<string> = error
  return {
    code: known.code,
    message: shortened(known.message),
    retriable: known.retriable,
    outcome: known.outcome,
    lsn: known.lsn,
    lsnFrom: known.lsnFrom,
    lsnTo: known.lsnTo,
  }
}

export function errorFromWire(fields: ControlFields): TidelogError<string> {
  const code = fields.string('code', 64)
  const outcome = fields.string('outcome', 16, '')
  const lsn = (key: string) => (fields.has(key) ? fields.integer(key, 0, Number.MAX_SAFE_INTEGER) : undefined)
  return new TidelogError<string>(CODE.test(code) ? code : 'PROTOCOL_VIOLATION', fields.string('message', 65_536, ''), {
    retriable: fields.boolean('retriable', false),
    outcome: outcome === 'not-written' || outcome === 'unknown' ? outcome : undefined,
    lsn: lsn('lsn'),
    lsnFrom: lsn('lsnFrom'),
    lsnTo: lsn('lsnTo'),
  })
}

/** What planning a body refused, in the words of the API. */
export function fromFormatError(error: unknown): unknown {
  if (!(error instanceof FormatError)) return error
  const code = error.code === 'DAMAGED' ? 'FRAME_INVALID' : error.code
  return new TidelogError(code, error.message, { cause: error, outcome: 'not-written' })
}

export function shortened(message: string): string {
  if (Buffer.byteLength(message) <= MESSAGE_BYTES_MAX) return message
  return `${message.slice(0, MESSAGE_BYTES_MAX / 4)}…`
}
