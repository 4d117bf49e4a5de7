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
  'PROTOCOL_VERSION',
  'PROTOCOL_VIOLATION',
  'SERVER_UNREACHABLE',
  'SLOW_CONNECTION',
  'USAGE',
  'VCHANNEL_UNKNOWN',
] as const

export type ServiceErrorCode = (typeof serviceErrorCodes)[number]

export type ErrorCode = StorageErrorCode | ServiceErrorCode
