/** What the settings say to the WAL of each pchannel. */
import type { Clock } from '../../native-free-storage/index.ts'
import type { NodeOptions } from '../streaming-node/node.ts'
import { Admission, type AdmissionLimits } from '../wal/pipeline/admission.ts'
import type { DaemonConfig } from './daemon-config.ts'

export function walOptions(config: DaemonConfig, clock: Clock): NonNullable<NodeOptions['wal']> {
  const { rateBytes, memoryBytes, nodeRateBytes, nodeMemoryBytes } = config
  const shared = limits(nodeRateBytes, nodeMemoryBytes)
  return {
    clock,
    admission: limits(rateBytes, memoryBytes),
    transactions: {
      keepaliveMs: config.txnKeepaliveMs,
      lifetimeMs: config.txnLifetimeMs,
      bytesMax: config.txnBytesMax,
      recordsMax: config.txnRecordsMax,
      openMax: config.txnOpenMax,
    },
    keys: { windowMs: config.keyWindowMs, vchannelBytesMax: config.keyWindowBytes },
    nodeAdmission: shared === undefined ? undefined : new Admission(clock, 'the node', shared),
  }
}

/** Undefined where nothing is bounded. */
function limits(rateBytes: number | null, memoryBytes: number | null): AdmissionLimits | undefined {
  if (rateBytes === null && memoryBytes === null) return undefined
  return { bytesPerSecond: rateBytes ?? undefined, memoryBytes: memoryBytes ?? undefined }
}
