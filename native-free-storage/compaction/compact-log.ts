/**
 * Compacts a log that nobody has open: its finished segments, all but the last one, which is not touched whatever its
 * end means. Beside a daemon `log.compact` does the same.
 */
import { isDiskError } from '../disk/disk.ts'
import { acquireLock } from '../disk/lock-file.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { manifestFileName } from '../format/file-names.ts'
import type { SegmentEntry } from '../log/log-view.ts'
import { type FoundManifest, findManifest, ManifestStore, refuseToWrite } from '../log/manifest-store.ts'
import { surveyLog } from '../maintenance/log-survey.ts'
import { findSegments } from '../recovery/find-tail.ts'
import { SegmentFiles } from '../segment/segment-file.ts'
import { type CompactionWork, compactOne, refuseAborted } from './compact-segments.ts'
import { type CompactOptions, checkThresholds } from './compaction-options.ts'
import { type CompactionReport, emptyReport } from './compaction-report.ts'
import { SegmentSwitch } from './switch-segment.ts'

/**
 * Reads every finished segment. A dry run takes no lock and writes nothing, also beside a daemon. Errors: LOCKED,
 * LOG_MISSING, BACKUP_INCOMPLETE, MANIFEST_MISSING, MANIFEST_DAMAGED, SEGMENT_MISSING, LOG_DAMAGED, FORMAT_UNKNOWN,
 * INVALID_ARGUMENT, ABORTED, FENCED, DISK_FULL (retriable), IO_FAILED; each leaves a whole log, with the segments that
 * were done.
 */
export async function compactLog(
  environment: Environment,
  directory: string,
  options: CompactOptions = {},
): Promise<CompactionReport> {
  checkThresholds(options)
  await loadChecksum()
  // A path without a log is told before a lock is left there.
  await surveyLog(environment, directory)
  try {
    if (options.dryRun === true) return await compactFound(environment, directory, options)
    const lock = await acquireLock(environment, directory)
    try {
      return await compactFound(environment, directory, options)
    } finally {
      await lock.release()
    }
  } catch (error) {
    throw explained(error, directory)
  }
}

async function compactFound(
  environment: Environment,
  directory: string,
  options: CompactOptions,
): Promise<CompactionReport> {
  const { dryRun = false, signal, onSegment } = options
  const { disk } = environment
  const found = await requireManifest(environment, directory)
  const { content, older } = found
  const names = await disk.list(directory)
  const { entries } = await findSegments(environment, directory, content, names)
  const report = emptyReport(directory, dryRun)
  const manifests = dryRun
    ? null
    : new ManifestStore(environment, directory, content, () => Promise.resolve(false), older)
  const log = { environment, directory }
  const work: CompactionWork = {
    ...checkThresholds(options),
    log,
    files: new SegmentFiles(environment, directory, content),
    report,
    exact: true,
    pace: async () => refuseAborted(signal),
    owner: () => content,
    replace:
      manifests === null
        ? null
        : async (old, _end, made) => {
            const step = new SegmentSwitch(log, manifests, old, made)
            await step.switch()
            await step.removeOld()
            return true
          },
  }
  const segments = beforeTail(entries, content.tail?.id)
  for (let at = 0; at < segments.length; at++) {
    refuseAborted(signal)
    onSegment?.(segments[at]!.name)
    await compactOne(work, segments[at]!, entries[at + 1]!)
  }
  return report
}

/** The tail that the manifest names, and what follows it, is where the next open begins. */
function beforeTail(entries: readonly SegmentEntry[], tailId: string | undefined): readonly SegmentEntry[] {
  const tail = entries.findIndex(({ id }) => id === tailId)
  return tail < 0 ? [] : entries.slice(0, tail)
}

async function requireManifest(environment: Environment, directory: string): Promise<FoundManifest> {
  const found = await findManifest(environment.disk, directory, await environment.disk.list(directory))
  if (found === null) {
    throw new TidelogError(
      'MANIFEST_MISSING',
      `${directory} has log segments but no manifest: what belongs to the log cannot be known`,
      { file: directory },
    )
  }
  refuseToWrite(manifestFileName(found.content.generation), found.content)
  return found
}

function explained(error: unknown, directory: string): unknown {
  if (!isDiskError(error)) return error
  const full = error.code === 'ENOSPC'
  const message = full
    ? `no space to compact the log in ${directory}: the new segment needs room beside the old one`
    : `the log in ${directory} cannot be compacted: ${error.message}`
  return new TidelogError(full ? 'DISK_FULL' : 'IO_FAILED', message, {
    file: error.path,
    retriable: full,
    cause: error,
  })
}
