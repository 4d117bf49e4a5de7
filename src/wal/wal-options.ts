/** What a WAL is opened with, and what it says of itself. Durations in milliseconds, sizes in bytes. */
import type { Clock } from '../../native-free-storage/index.ts'
import type { LogStoreStatus } from '../log-store/log-store.ts'
import type { KeyWindow } from './deduplication/key-table.ts'
import type { Admission, AdmissionLimits, AdmissionStatistics, ThrottleState } from './pipeline/admission.ts'
import { invalid } from './pipeline/limits.ts'
import type { AppenderStatistics } from './pipeline/message-appender.ts'
import type { OnInterceptorError } from './pipeline/user-interceptors.ts'
import type { SnapshotCounts } from './state/snapshot-keeper.ts'
import type { TransactionLimits, TransactionStatistics } from './transactions/transaction-manager.ts'
import type { UserInterceptor } from './types.ts'

export interface WalOptions {
  /** For messages: "pchannel 3". Default "the log". */
  name?: string | undefined
  clock?: Clock | undefined
  interceptors?: readonly UserInterceptor[] | undefined
  /** Told what an `afterAppend` threw. */
  onInterceptorError?: OnInterceptorError | undefined
  /** How often the watermark is looked at for those who wait for it, from 1 ms. Default 10. */
  timeTickIntervalMs?: number | undefined
  /** How long an append waits for an exclusive message, or one for its turn, before TIMEOUT. Default 30,000. */
  exclusiveWaitMs?: number | undefined
  /** Rate and memory of this pchannel. Default: no bound. */
  admission?: AdmissionLimits | undefined
  /** What this pchannel shares with the others of the node. */
  nodeAdmission?: Admission | undefined
  /** How long, and in how many bytes, idempotency keys are known. */
  keys?: Partial<KeyWindow> | undefined
  transactions?: TransactionLimits | undefined
  /** Appended bytes between two snapshots of the state, at least. Default 32 MiB. */
  snapshotIntervalBytes?: number | undefined
  /** Without a snapshot a log of more bytes is not read back: what was written before is not known. Default 256 MiB. */
  replayBytesMax?: number | undefined
  /** A batch of one vchannel whose payloads and properties are more than this becomes a transaction. Default 16 MiB. */
  frameBytesMax?: number | undefined
}

export interface WalStatistics extends AppenderStatistics {
  /** Appends that had to wait for an exclusive message, and those that do now. */
  exclusiveWaits: number
  exclusiveWaiting: number
  /** Thrown by an `afterAppend`. */
  interceptorErrors: number
  admission: AdmissionStatistics
  transactions: TransactionStatistics
  snapshots: SnapshotCounts
  /** Repeats that were answered as the first was, and what deduplication has refused. */
  repeats: number
  repeatsRefused: number
  keys: number
  producers: number
}

export interface WalStatus extends LogStoreStatus {
  firstLsn: number
  nextLsn: number
  throttle: ThrottleState
  statistics: WalStatistics
}

export interface AppendBodyOptions {
  barrierTick?: bigint | undefined
  /** A tick that the client knew when it first tried the keys of the body; 0n: not said. */
  firstTriedAt?: bigint | undefined
  /** Index, in its transaction, of the first record of the body. */
  transactionIndex?: number | null | undefined
  signal?: AbortSignal | undefined
}

/** INVALID_ARGUMENT for numbers that make no sense. */
export function checkOptions(options: WalOptions): void {
  const { timeTickIntervalMs, exclusiveWaitMs, frameBytesMax, snapshotIntervalBytes, replayBytesMax } = options
  const numbers = { timeTickIntervalMs, exclusiveWaitMs, frameBytesMax, snapshotIntervalBytes, replayBytesMax }
  for (const [name, value] of Object.entries({ ...numbers, ...options.keys, ...options.transactions })) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1)) {
      throw invalid(`${name} is ${String(value)}; it has to be an integer from 1`)
    }
  }
}
