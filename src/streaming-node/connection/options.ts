/** What a connection is given besides its socket and the node: bounds, time, counters. */
import { type ConnectionClock, systemClock } from '../../protocol/clock.ts'
import {
  BODY_BYTES_MAX,
  HELLO_TIMEOUT_MS,
  IDLE_TIMEOUT_MS,
  MESSAGE_TIMEOUT_MS,
  PRODUCERS_MAX,
  RECORD_BYTES_MAX,
  WRITE_STALL_TIMEOUT_MS,
} from '../../protocol/limits.ts'
import { ByteBudget } from './byte-budget.ts'

/** Counters of the connection layer. Called on the hot path: cheap, and never throwing. */
export interface ConnectionMetrics {
  connectionOpened(): void
  /** `code`: as in GOODBYE; CONNECTION_LOST when the other side was gone without one. */
  connectionClosed(code: string): void
  bytesReceived(bytes: number): void
  bytesSent(bytes: number): void
  /** A frame of a client became durable. */
  produced(group: number, records: number, bodyBytes: number): void
  produceFailed(group: number, code: string): void
  /** A frame was put on a consumer's connection. */
  delivered(group: number, records: number, messageBytes: number): void
  consumerOpened(): void
  consumerClosed(code: string): void
}

const nothing = () => {}

export const silentMetrics: ConnectionMetrics = {
  connectionOpened: nothing,
  connectionClosed: nothing,
  bytesReceived: nothing,
  bytesSent: nothing,
  produced: nothing,
  produceFailed: nothing,
  delivered: nothing,
  consumerOpened: nothing,
  consumerClosed: nothing,
}

export interface ConnectionOptions {
  /** What the node calls itself in WELCOME. */
  serverName: string
  clock: ConnectionClock
  metrics: ConnectionMetrics
  /** What went wrong and is the client's or the line's fault: one line for the log, never thrown. */
  onNote: (message: string) => void
  helloTimeoutMs: number
  /** A message that has begun is complete after this and a second for each 64 KiB. */
  messageTimeoutMs: number
  /** What was written is read by the other side within this and a second for each 64 KiB. */
  writeStallTimeoutMs: number
  /** Silence of the client after which the connection ends. */
  idleTimeoutMs: number
  /** The longest body that is received. */
  bodyBytesMax: number
  recordBytesMax: number
  /** Bytes of bodies without an answer beyond which nothing is read from the socket. */
  produceBytesMax: number
  /** Of all connections of the node together: when it is full, those that hold a part of it are not read from. */
  produceBudget: ByteBudget
  /** Bytes waiting to be sent beyond which no frame is added, and nothing is read. */
  writeBufferBytes: number
  consumersMax: number
  /** RESOLVE, LIST, STATUS, TRUNCATE, PRODUCER_OPEN and lists at a time. */
  requestsMax: number
  /** TXN_BEGIN and TXN_END at a time: many of them share a frame. */
  transactionRequestsMax: number
  /** Producers, by their number in PRODUCE, with frames unanswered or failed. */
  producersMax: number
  /** CONFIRM that wait. */
  confirmsMax: number
  /** What consumers of all connections together may keep of transactions that are open; the rest is read again. */
  transactionBudget: ByteBudget
}

export const connectionDefaults: Readonly<ConnectionOptions> = {
  serverName: 'tidelog',
  clock: systemClock,
  metrics: silentMetrics,
  onNote: nothing,
  helloTimeoutMs: HELLO_TIMEOUT_MS,
  messageTimeoutMs: MESSAGE_TIMEOUT_MS,
  writeStallTimeoutMs: WRITE_STALL_TIMEOUT_MS,
  idleTimeoutMs: IDLE_TIMEOUT_MS,
  bodyBytesMax: BODY_BYTES_MAX,
  recordBytesMax: RECORD_BYTES_MAX,
  produceBytesMax: 32 * 1024 * 1024,
  produceBudget: new ByteBudget(256 * 1024 * 1024),
  writeBufferBytes: 1024 * 1024,
  consumersMax: 1024,
  requestsMax: 64,
  transactionRequestsMax: 16_384,
  producersMax: PRODUCERS_MAX,
  confirmsMax: 1_024,
  transactionBudget: new ByteBudget(64 * 1024 * 1024),
}
