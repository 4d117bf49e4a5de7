/** `tidelog`: the client library. The engine is `tidelog/storage`. */
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
export { type ErrorCode, type ServiceErrorCode, serviceErrorCodes, TidelogError } from './errors.ts'
