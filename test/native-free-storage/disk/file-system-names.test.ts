import { describe, expect, it } from 'vitest'
import { checkDirectoryFit, fileSystemName } from '../../../native-free-storage/disk/file-system-names.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

function diskOn(fileSystem: string): SimDisk {
  const disk = new SimDisk({ fileSystem })
  disk.prepareDirectory('/data')
  return disk
}

describe('where a log may live', () => {
  it('knows file systems by their magic numbers, also when the number comes as a signed one', () => {
    expect(fileSystemName(0xef53)).toBe('ext4')
    expect(fileSystemName(0x58465342)).toBe('xfs')
    expect(fileSystemName(0x9123683e)).toBe('btrfs')
    expect(fileSystemName(0xff534d42 | 0)).toBe('cifs')
    expect(fileSystemName(0x12345)).toBe('0x12345')
  })

  it('takes local file systems, and those it does not know', async () => {
    for (const name of ['ext4', 'xfs', 'btrfs', 'tmpfs', 'overlayfs', 'fuse', '0x12345']) {
      await checkDirectoryFit(diskOn(name), '/data', 'linux')
    }
  })

  it('refuses network file systems and those without links, and says why', async () => {
    for (const name of ['nfs', 'cifs', 'smb2', '9p', 'vfat']) {
      await expect(checkDirectoryFit(diskOn(name), '/data', 'linux')).rejects.toMatchObject({
        code: 'DIRECTORY_UNFIT',
        message: expect.stringContaining(name),
      })
    }
  })

  it('refuses Windows, and a directory it cannot ask about', async () => {
    await expect(checkDirectoryFit(diskOn('ext4'), '/data', 'win32')).rejects.toMatchObject({
      code: 'PLATFORM_UNSUPPORTED',
    })
    await expect(checkDirectoryFit(diskOn('ext4'), '/missing', 'linux')).rejects.toMatchObject({ code: 'IO_FAILED' })
  })
})
