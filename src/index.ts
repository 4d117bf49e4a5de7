/** `tidelog`: the client library and the daemon. The engine is `tidelog/storage`. */
export { connect, DEFAULT_ADDRESS } from './client/connect.ts'
export type {
  ClientGroupStatus,
  ClientProducerStatus,
  ClientSpaceStatus,
  ClientStatus,
  ClientTransactionStatus,
  ClientVchannel,
} from './client/status-types.ts'
export type {
  Appended,
  AppendedBatch,
  AppendOptions,
  AppendRecord,
  BatchOptions,
  BatchTicket,
  Client,
  ClientOptions,
  ConfirmedOptions,
  ConnectionEvent,
  ConsumedGap,
  ConsumedRecord,
  ConsumeOptions,
  ConsumePosition,
  IdentifiedProducer,
  Producer,
  ProducerOptions,
  RecordPosition,
  RecordStream,
  RequestOptions,
  SequencedAppend,
  ThrottleEvent,
  Ticket,
  Transaction,
  TransactionOptions,
} from './client/types.ts'
export {
  type Daemon,
  type DaemonAddresses,
  type DaemonOptions,
  type StopResult,
  startDaemon,
} from './daemon/daemon.ts'
export type { DaemonConfig } from './daemon/settings.ts'
export type { HostPort } from './daemon/units.ts'
export { type ErrorCode, type ServiceErrorCode, serviceErrorCodes, TidelogError } from './errors.ts'
export {
  createLogger,
  type LogFields,
  type LogFormat,
  type Logger,
  type LoggerOptions,
  type LogLevel,
} from './observability/logger.ts'
export type { GroupStatus } from './streaming-node/node-service.ts'
