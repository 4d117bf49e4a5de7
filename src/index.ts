/** `tidelog`: the client library and the daemon. The engine is `tidelog/storage`. */
export { connect, DEFAULT_ADDRESS } from './client/connect.ts'
export type {
  Appended,
  AppendedBatch,
  AppendOptions,
  AppendRecord,
  BatchTicket,
  Client,
  ClientGroupStatus,
  ClientOptions,
  ClientStatus,
  ClientVchannel,
  ConnectionEvent,
  ConsumedGap,
  ConsumedRecord,
  ConsumeOptions,
  ConsumePosition,
  Producer,
  RecordStream,
  RequestOptions,
  Ticket,
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
