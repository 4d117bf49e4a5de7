/**
 * The snapshots (FORMAT 12) of a log that is copied: those that stand in what both logs share are linked, and name the
 * original. One that stands in what was carried over into the copy's own segment, as after a process that was killed behind
 * a snapshot, is written anew under the copy's id.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { encodeSnapshotHeader, parseSnapshotFileName } from '../format/snapshot.ts'
import { readSnapshotFile } from '../log/snapshot-files.ts'
import type { TailFrame } from '../recovery/tail-scan.ts'
import type { BackupFiles } from './backup-files.ts'

/**
 * `copy`: the manifest of the copy; `suffix`: the frames behind the fork. One that goes meanwhile is not missed. Throws
 * IO_FAILED, and a DiskError of what is written.
 */
export async function copySnapshots(
  environment: Environment,
  path: string,
  files: BackupFiles,
  copy: Pick<ManifestContent, 'logId' | 'origins' | 'firstLsn' | 'nextLsn'>,
  suffix: readonly TailFrame[],
): Promise<void> {
  const forkLsn = copy.origins.at(-1)?.forkLsn ?? 0
  for (const name of await environment.disk.list(path)) {
    const lsn = parseSnapshotFileName(name)
    if (lsn === null || lsn < copy.firstLsn || lsn > copy.nextLsn) continue
    if (lsn > forkLsn) {
      await rewrite(environment, `${path}/${name}`, files, name, copy.logId, lsn, suffix)
      continue
    }
    await files.link(name).catch((error: unknown) => {
      if (!isDiskError(error, 'ENOENT')) throw error
    })
  }
}

async function rewrite(
  environment: Environment,
  path: string,
  files: BackupFiles,
  name: string,
  logId: string,
  lsn: number,
  suffix: readonly TailFrame[],
): Promise<void> {
  const frame = suffix.find(({ header, nextLsn }) => nextLsn === lsn && header.baseLsn < lsn)
  if (frame === undefined) return
  const found = await readSnapshotFile(environment, path)
  if (found === null || found.header.lsn !== lsn) return
  const { baseTimeTick, bodyHash } = frame.header
  if (found.header.baseTimeTick !== baseTimeTick || found.header.bodyHash !== bodyHash) return
  const header = encodeSnapshotHeader({ logId, lsn, baseTimeTick, bodyHash }, found.content)
  await files.create(name, Buffer.concat([header, found.content]))
}
