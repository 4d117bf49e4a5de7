/** Where the data lies: file system, mount, device, room. */
import {
  checkDirectoryFit,
  type Environment,
  openSpaceWatch,
  type SpaceLimits,
  TidelogError,
} from '../../../native-free-storage/index.ts'
import { bytesText } from '../notes.ts'
import { type Check, fail, ok, warn } from './check.ts'
import { type BlockDevice, blockDeviceOf, type Mount, mountOf, virtualHints } from './mount.ts'
import type { SystemFacts } from './system-facts.ts'

/** Of which the gate tests two. */
const TESTED = ['ext4', 'xfs']
/** What a sync does nothing for. */
export const IN_MEMORY = ['tmpfs', 'ramfs']
/** Fewer free inodes than this: each segment takes two. */
const INODES_FEW = 1_000
const INODES_NONE = 16

export interface Place {
  mount: Mount | null
  device: BlockDevice | null
  fileSystem: string | null
  isVirtual: boolean
}

/** `directory` exists: that of the data, or the nearest one above it. */
export async function checkFileSystem(
  environment: Environment,
  facts: SystemFacts,
  directory: string,
  limits: SpaceLimits,
): Promise<{ place: Place; checks: Check[] }> {
  const mount = await mountOf(facts, await facts.realPath(directory))
  const device = mount === null ? null : await blockDeviceOf(facts, mount)
  const hints = await virtualHints(facts, device)
  const fileSystem = await environment.disk.identify(directory).then(
    (identity) => identity.fileSystem,
    () => null,
  )
  const place = { mount, device, fileSystem, isVirtual: hints.length > 0 }
  return {
    place,
    checks: [
      await fileSystemCheck(environment, facts, directory, place),
      mountCheck(place),
      deviceCheck(place),
      virtualCheck(hints),
      await spaceCheck(environment, directory, limits),
      await inodesCheck(facts, directory),
    ],
  }
}

async function fileSystemCheck(
  environment: Environment,
  facts: SystemFacts,
  directory: string,
  { fileSystem, mount }: Place,
): Promise<Check> {
  try {
    await checkDirectoryFit(environment.disk, directory, facts.platform)
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
    return fail('FILE_SYSTEM', `${error.message} [${error.code}]`, 'Put the data on a local ext4 or XFS file system.')
  }
  const where =
    mount === null ? `${directory} is on ${fileSystem}` : `${directory} is on ${fileSystem} at ${mount.point}`
  if (fileSystem !== null && IN_MEMORY.includes(fileSystem)) {
    const next = 'For anything but a test choose a directory on a disk.'
    return warn('FILE_SYSTEM', `${where}: it lives in memory and is gone when the machine goes down`, next)
  }
  if (fileSystem === 'overlayfs') {
    const next = 'Mount a volume and put the data there.'
    return warn('FILE_SYSTEM', `${where}: the layer of a container, which is gone when the container is removed`, next)
  }
  if (fileSystem === 'fuse') {
    const next = 'Find out whether it passes syncs on to a disk; better, use ext4 or XFS.'
    return warn('FILE_SYSTEM', `${where}: what a sync means there is up to the program behind it`, next)
  }
  if (fileSystem !== null && TESTED.includes(fileSystem)) return ok('FILE_SYSTEM', `${where}, which is tested`)
  return ok('FILE_SYSTEM', `${where}: local, but not one of the tested ones (${TESTED.join(', ')})`)
}

const doubtfulOptions: Readonly<Record<string, string>> = {
  nobarrier: 'a sync does not flush the cache of the disk, and a power loss can take what was acknowledged',
  'barrier=0': 'a sync does not flush the cache of the disk, and a power loss can take what was acknowledged',
  'fsync_mode=nobarrier':
    'a sync does not flush the cache of the disk, and a power loss can take what was acknowledged',
  'data=writeback':
    'after a power loss a file that grew may hold old bytes; the checksums notice it, and nothing synced is concerned',
}

function mountCheck({ mount }: Place): Check {
  if (mount === null) return ok('MOUNT_OPTIONS', 'the mount options cannot be told on this system')
  if (mount.options.includes('ro')) {
    return fail('MOUNT_OPTIONS', `${mount.point} is mounted read-only`, 'Look at the kernel log, then remount it.')
  }
  const doubts = mount.options.filter((option) => doubtfulOptions[option] !== undefined)
  if (doubts.length === 0) return ok('MOUNT_OPTIONS', `nothing doubtful: ${mount.options.join(',')}`)
  const why = doubts.map((option) => `${option}: ${doubtfulOptions[option]}`).join('; ')
  return warn('MOUNT_OPTIONS', why, 'Mount without it, unless the cache of the disk has a battery.')
}

function deviceCheck({ mount, device }: Place): Check {
  if (device === null) {
    return ok('DEVICE', `the block device under ${mount?.source ?? 'the data'} cannot be told`)
  }
  const { name, model, rotational, writeCache, fua } = device
  const parts = [
    model === null ? name : `${name} (${model})`,
    rotational === null ? null : rotational ? 'rotating, or says so' : 'not rotating',
    writeCache === 'write back'
      ? 'a write cache that is lost with the power, which each sync flushes'
      : writeCache === 'write through'
        ? 'no write cache that can be lost, as it says'
        : null,
    fua === null ? null : fua ? 'forced unit access' : 'no forced unit access: a sync is a write and a flush',
  ]
  return ok('DEVICE', parts.filter((part) => part !== null).join(', '))
}

function virtualCheck(hints: readonly string[]): Check {
  if (hints.length === 0) return ok('VIRTUAL_MACHINE', 'nothing says that this is a virtual machine')
  return ok(
    'VIRTUAL_MACHINE',
    `virtual (${hints.join(', ')}): what a sync means is up to the host; of its cache modes "unsafe" ignores syncs, all others pass them on`,
  )
}

async function spaceCheck(environment: Environment, directory: string, limits: SpaceLimits): Promise<Check> {
  const watch = await openSpaceWatch(environment, directory, limits)
  watch.close()
  const { state, message, usedBytes, freeBytes } = watch.status()
  const next = 'Make room: truncate, a shorter retention, a larger disk (docs/OPERATIONS.md, "Disk nearly full").'
  if (state === 'refusing') return fail('SPACE', message, next)
  if (state !== 'ok' || usedBytes === null || freeBytes === null) return warn('SPACE', message, next)
  const percent = ((100 * usedBytes) / Math.max(1, usedBytes + freeBytes)).toFixed(1)
  return ok('SPACE', `${percent} % used, ${bytesText(freeBytes)} free`)
}

async function inodesCheck(facts: SystemFacts, directory: string): Promise<Check> {
  const inodes = await facts.inodes(directory)
  if (inodes === null || inodes.total === 0) return ok('INODES', 'no fixed number of files')
  const message = `${inodes.free} of ${inodes.total} inodes are free`
  const next = 'Remove files: each segment of a log takes two inodes.'
  if (inodes.free < INODES_NONE) return fail('INODES', message, next)
  return inodes.free < INODES_FEW ? warn('INODES', message, next) : ok('INODES', message)
}
