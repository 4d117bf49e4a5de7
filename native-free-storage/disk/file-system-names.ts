/**
 * Which file systems a log may live on. The magic numbers are those of `statfs(2)`.
 */
import { TidelogError } from '../errors.ts'
import type { Disk } from './disk.ts'

const namesByMagic: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'], // ext2 and ext3 share the number
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0xf2f52010, 'f2fs'],
  [0x2fc12fc1, 'zfs'],
  [0xca451a4e, 'bcachefs'],
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
  [0x794c7630, 'overlayfs'],
  [0x65735546, 'fuse'],
  [0x4d44, 'vfat'],
  [0x2011bab0, 'exfat'],
  [0x7366746e, 'ntfs3'],
  [0x5346544e, 'ntfs'],
  [0x6969, 'nfs'],
  [0xff534d42, 'cifs'],
  [0xfe534d42, 'smb2'],
  [0x517b, 'smb'],
  [0x01021997, '9p'],
  [0x00c36400, 'ceph'],
  [0x5346414f, 'afs'],
  [0x0bd00bd0, 'lustre'],
  [0x01161970, 'gfs2'],
  [0x7461636f, 'ocfs2'],
])

/** Without hard links, or with a `link`, a look-up or a sync that cannot be relied on between machines. */
const unfit: ReadonlyMap<string, string> = new Map([
  ['nfs', 'names may be looked up in a stale cache, and an exclusive link can be reported wrongly after a retry'],
  ['cifs', 'links and syncs depend on the server'],
  ['smb2', 'links and syncs depend on the server'],
  ['smb', 'links and syncs depend on the server'],
  ['9p', 'links and syncs depend on the host that shares the directory'],
  ['afs', 'a write is sent when the file is closed'],
  ['vfat', 'it has no hard links'],
  ['exfat', 'it has no hard links'],
])

/** The name of a file system by its magic number, or the number in hex. */
export function fileSystemName(magic: number): string {
  const unsigned = magic >>> 0
  return namesByMagic.get(unsigned) ?? `0x${unsigned.toString(16)}`
}

/**
 * Refuses a directory in which the engine's assumptions do not hold.
 *
 * @throws TidelogError PLATFORM_UNSUPPORTED on Windows; DIRECTORY_UNFIT on a network or link-less file system;
 *   IO_FAILED when the file system cannot be asked.
 */
export async function checkDirectoryFit(
  disk: Disk,
  directory: string,
  platform: string = process.platform,
): Promise<void> {
  if (platform === 'win32') {
    throw new TidelogError(
      'PLATFORM_UNSUPPORTED',
      'Tidelog does not run on Windows: it needs a sync of directories and an exclusive link. Use Linux, or WSL 2 with the data on its own disk.',
    )
  }
  let fileSystem: string
  try {
    fileSystem = (await disk.identify(directory)).fileSystem
  } catch (cause) {
    throw new TidelogError('IO_FAILED', `The file system of ${directory} cannot be determined.`, { cause })
  }
  const reason = unfit.get(fileSystem)
  if (reason !== undefined) {
    throw new TidelogError(
      'DIRECTORY_UNFIT',
      `${directory} is on ${fileSystem}, where a log would not be safe: ${reason}. Choose a directory on a local file system (ext4 and XFS are tested).`,
    )
  }
}
