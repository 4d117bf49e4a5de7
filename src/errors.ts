/** The codes of everything above the engine, and the one error class of all borders. */
import { type StorageErrorCode, TidelogError } from '../native-free-storage/index.ts'

export { TidelogError }

export const serviceErrorCodes = [
  'ADDRESS_IN_USE',
  'CONFIG_INVALID',
  'CONNECTION_LOST',
  'DATA_DIRECTORY_INVALID',
  'DRAINING',
  'FAILED_BEFORE',
  'HOST_NOT_LOOPBACK',
  'INVALID_BODY',
  'KEY_FORGOTTEN',
  'PRODUCER_FENCED',
  'PRODUCER_UNKNOWN',
  'PROTOCOL_VERSION',
  'PROTOCOL_VIOLATION',
  'RATE_LIMITED',
  'SEQUENCE_FORGOTTEN',
  'SEQUENCE_GAP',
  'SEQUENCE_STRADDLED',
  'SERVER_UNREACHABLE',
  'SLOW_CONNECTION',
  'TICK_ORDER',
  'TRANSACTION_ABORTED',
  'TRANSACTION_EXPIRED',
  'TRANSACTION_STATE',
  'USAGE',
  'VCHANNEL_UNKNOWN',
  'WINDOW_LOST',
] as const

export type ServiceErrorCode = (typeof serviceErrorCodes)[number]

export type ErrorCode = StorageErrorCode | ServiceErrorCode
