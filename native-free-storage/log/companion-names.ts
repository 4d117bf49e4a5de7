/** What may stand in the directory of any log besides manifests, segments, indexes and snapshots. */
import { isLockName } from '../disk/lock-file.ts'
import { isProbeName } from '../disk/write-probe.ts'
import { POOL_DIRECTORY } from '../segment/file-pool.ts'
import { LEASE_FILE } from './lease-file.ts'
import { MANIFEST_SPARE } from './manifest-store.ts'

/** A directory: what is put out of the way goes there, and nothing removes it but people. */
export const QUARANTINE = 'quarantine'

const fixed: ReadonlySet<string> = new Set([LEASE_FILE, MANIFEST_SPARE, POOL_DIRECTORY, QUARANTINE])

export function isCompanionName(name: string): boolean {
  return fixed.has(name) || isLockName(name) || isProbeName(name)
}
