/** The border of the engine: `tidelog/storage`. Everything in `src/` reaches the engine through this file. */
export { type Disk, DiskError, type DiskFile, isDiskError } from './disk/disk.ts'
export { checkDirectoryFit } from './disk/file-system-names.ts'
export { acquireLock, type Lock } from './disk/lock-file.ts'
export { nodeEnvironment } from './disk/node-environment.ts'
export { probeWriteWay, type WriteMode, type WriteWay } from './disk/write-probe.ts'
export type { Clock, Environment, KernelLock, Processes, ProcessIdentity, Timer } from './environment.ts'
export {
  type AppendOutcome,
  type ErrorDetails,
  type StorageErrorCode,
  storageErrorCodes,
  TidelogError,
} from './errors.ts'
export { type BodyHead, checkPadding, openBodyHead, verifySection } from './format/body-head.ts'
export { type BodyLimits, type BodyPlan, bodyLimits, planBody, type RecordInput } from './format/body-plan.ts'
export { writeBody } from './format/body-writer.ts'
export { hash64, loadChecksum } from './format/checksum.ts'
export { FormatError } from './format/format-error.ts'
export { decodeNodeSection, type NodeSection } from './format/node-section.ts'
export { decodeProperties } from './format/properties.ts'
export { vchannelNameFault } from './format/vchannel-names.ts'
