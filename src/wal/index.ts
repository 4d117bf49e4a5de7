/** The border of the WAL, and the entry `tidelog/wal` of the package. */

export { TidelogError } from '../errors.ts'
export type { MessageHeaders } from '../message/header-types.ts'
export { compareMessagePlaces, type MessagePlace, messageIdOf, parseMessageId } from '../message/message-id.ts'
export { MessageType, type MessageTypeInfo, messageTypeInfo } from '../message/message-type.ts'
export { type UpsertMessages, type UpsertPart, upsert } from '../message/upsert.ts'
export { type OpenWalOptions, openWal } from './open-wal.ts'
export type { AdmissionLimits, AdmissionStatistics, ThrottleState } from './pipeline/admission.ts'
export { formatPosition, parsePosition } from './scan/position.ts'
export type {
  AppendContext,
  ImmutableMessage,
  MutableMessage,
  ProducerStatus,
  Scan,
  ScanFrom,
  ScanItem,
  ScannedMessage,
  ScannedTick,
  ScannedTransaction,
  ScanOptions,
  ScanPosition,
  TransactionStatus,
  TxnOptions,
  UserInterceptor,
  WalAppended,
  WalAppendedBatch,
  WalAppendOptions,
  WalError,
  WalProducer,
  WalTxn,
} from './types.ts'
export type { Wal, WalStatistics, WalStatus } from './wal.ts'
