/** The border of the engine: `tidelog/storage`. Everything in `src/` reaches the engine through this file. */

export { CacheBudget } from './cache/frame-cache.ts'
export { compactLog } from './compaction/compact-log.ts'
export type { CompactionSettings, CompactOptions } from './compaction/compaction-options.ts'
export type { CompactedSegment, CompactionReport } from './compaction/compaction-report.ts'
export { type Disk, DiskError, type DiskFile, type DiskSpace, isDiskError } from './disk/disk.ts'
export { checkDirectoryFit } from './disk/file-system-names.ts'
export { acquireLock, type Lock } from './disk/lock-file.ts'
export { lockHolder } from './disk/lock-owner.ts'
export { nodeEnvironment } from './disk/node-environment.ts'
export {
  openSpaceWatch,
  type SpaceLimit,
  type SpaceLimits,
  type SpaceState,
  type SpaceStatus,
  type SpaceWatch,
} from './disk/space-watch.ts'
export {
  measureSyncLatency,
  type ParallelWrites,
  type SyncLatency,
  type SyncMeasurement,
} from './disk/sync-latency.ts'
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
export { type Context, decodeContext, encodeContext, type ProducerContext } from './format/contexts.ts'
export { FormatError } from './format/format-error.ts'
export { decodeNodeSection, encodeNodeSection, type NodeSection, type Stamp } from './format/node-section.ts'
export { decodeProperties } from './format/properties.ts'
export { vchannelNameFault } from './format/vchannel-names.ts'
export type { AppendOptions, AppendRecordsOptions } from './log/append-options.ts'
export { BACKUP_MARK, refuseIncompleteBackup } from './log/incomplete-backup.ts'
export type { AppendBodyOptions, Log, LogFailure, LogStatistics, LogStatus } from './log/log.ts'
export type { LogDurability, LogOptions, RecoveryMode, RetentionLimits } from './log/log-options.ts'
export { openLog } from './log/open-log.ts'
export type { Admit, AppendResult, ReceivedBody } from './log/pending-frame.ts'
export type { ReadFrom, ReadOptions } from './log/read-options.ts'
export type { FrameGap, LogRecord, RecordFrame } from './log/record-frame.ts'
export type { StoredSnapshot } from './log/snapshot-files.ts'
export { openTickOracle, type TickOracle, tickOf, tickToMs } from './log/tick-oracle.ts'
export {
  type BackupOptions,
  type BackupReport,
  backupLease,
  backupLog,
  beginBackup,
  finishBackup,
} from './maintenance/backup.ts'
export { describe, type LogDescription, type SegmentDescription } from './maintenance/describe.ts'
export { type DumpedFrame, type DumpFilter, dump } from './maintenance/dump.ts'
export {
  type Acknowledged,
  exitCodeOf,
  type Finding,
  type FindingCode,
  finding,
  findingCodes,
  type LogVerification,
  type Severity,
  type Verification,
} from './maintenance/findings.ts'
export { type Quarantine, quarantineOf } from './maintenance/quarantine.ts'
export { type ReindexReport, reindexLog } from './maintenance/reindex.ts'
export { type RepairOptions, type RepairReport, repairLog } from './maintenance/repair.ts'
export type { RepairAction, RepairMode } from './maintenance/repair-action.ts'
export type { LsnRange } from './maintenance/repair-frames.ts'
export { keepInQuarantine, repairLease } from './maintenance/repair-lease.ts'
export { type UndoReport, undoRepair } from './maintenance/repair-undo.ts'
export { prepareSalvage, salvageLog } from './maintenance/salvage.ts'
export { salvageLease } from './maintenance/salvage-lease.ts'
export type { LostRange, SalvageReport } from './maintenance/salvage-report.ts'
export { findLogs, verify, verifyLease, verifyLog } from './maintenance/verify.ts'
export { type FilePool, openFilePool } from './segment/file-pool.ts'
