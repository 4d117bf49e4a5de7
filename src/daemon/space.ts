/** The room on the file system of the data: the limits of the configuration, and the lines of the log. */
import type { SpaceLimits, SpaceState, SpaceStatus } from '../../native-free-storage/index.ts'
import type { Logger } from '../observability/logger.ts'
import type { DaemonConfig } from './settings.ts'

export function spaceLimits(
  config: Pick<DaemonConfig, 'diskWarnPercent' | 'diskRefusePercent' | 'diskWarnFreeBytes' | 'diskRefuseFreeBytes'>,
): SpaceLimits {
  return {
    warn: { usedPercent: config.diskWarnPercent, freeBytes: config.diskWarnFreeBytes },
    refuse: { usedPercent: config.diskRefusePercent, freeBytes: config.diskRefuseFreeBytes },
  }
}

/** A line for each change of state. */
export function logSpace(logger: Logger, status: SpaceStatus, before: SpaceState): void {
  const { state, usedBytes, freeBytes } = status
  const why = status.message === '' ? undefined : status.message
  const bytes = { usedBytes: usedBytes ?? undefined, freeBytes: freeBytes ?? undefined }
  if (state === 'refusing') logger.error('disk nearly full: appends are refused', { why, ...bytes })
  else if (state === 'unknown') logger.warn('the room on the disk is not known', { why })
  else if (before === 'refusing') logger.warn('appends are taken again', { why, ...bytes })
  else if (state === 'warning') logger.warn('the disk is filling up', { why, ...bytes })
  else if (before !== 'unknown') logger.info('there is enough room on the disk again', bytes)
}
