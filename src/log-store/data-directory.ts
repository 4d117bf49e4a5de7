/**
 * The directory of a daemon's data: who has it open, what it is, and where each log lies in it.
 *
 * | name | what it is |
 * |---|---|
 * | `tidelog.json` | the descriptor (descriptor.ts): format version, pchannels, level of durability; written once |
 * | `LOCK`, `LOCK.*` | who has the directory open |
 * | `LEASE` | bound of the time ticks of all its logs |
 * | `pool/` | files prepared for all its logs, and what the probe of the device found |
 * | `catalog/` | the log of the vchannels |
 * | `pchannels/<number>/` | one log each |
 */
import {
  acquireLock,
  BACKUP_MARK,
  checkDirectoryFit,
  type Environment,
  isDiskError,
  keepInQuarantine,
  type Lock,
  refuseIncompleteBackup,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import {
  type DataDirectoryDescriptor,
  DESCRIPTOR_BYTES_MAX,
  DESCRIPTOR_FILE,
  decodeDescriptor,
  encodeDescriptor,
} from './descriptor.ts'

export { DESCRIPTOR_FILE }

const PCHANNELS_DEFAULT = 4

export interface DataDirectoryOptions {
  /** Null: what the directory has; 4 for a new one. */
  pchannels: number | null
  durability: 'disk' | 'os'
}

export interface DataDirectory {
  readonly path: string
  readonly descriptor: Readonly<DataDirectoryDescriptor>
  /** Lets others open it. Idempotent. */
  release(): Promise<void>
}

/**
 * Opens the data directory at `path`, which must exist, for this process alone; makes it one when it is empty.
 *
 * @throws TidelogError LOCKED (a live process has it), CONFIG_INVALID (it has other pchannels or another durability),
 *   DATA_DIRECTORY_INVALID (not empty and no data directory, or a descriptor that cannot be read), FORMAT_UNKNOWN (of a
 *   later version), BACKUP_INCOMPLETE, DIRECTORY_UNFIT, PLATFORM_UNSUPPORTED, DISK_FULL, IO_FAILED.
 */
export async function openDataDirectory(
  environment: Environment,
  path: string,
  options: DataDirectoryOptions,
): Promise<DataDirectory> {
  await checkDirectoryFit(environment.disk, path)
  // Before the lock: nothing is written into a directory that is somebody else's.
  await refuseForeign(environment, path)
  const lock = await acquireLock(environment, path)
  try {
    const descriptor = (await readDescriptor(environment, path)) ?? (await writeDescriptor(environment, path, options))
    refuseDifferent(path, descriptor, options)
    await environment.disk.makeDirectory(`${path}/pchannels`)
    // The end of a backup that was interrupted behind its last step.
    await environment.disk.unlink(`${path}/${BACKUP_MARK}`).catch(() => {})
    await environment.disk.syncDirectory(path)
    return { path, descriptor, release: () => lock.release() }
  } catch (error) {
    await releaseQuietly(lock)
    throw asTidelogError(error, path)
  }
}

/** The descriptor, without opening the directory; null where there is none. */
export async function readDescriptor(environment: Environment, path: string): Promise<DataDirectoryDescriptor | null> {
  const { disk } = environment
  const target = Buffer.alloc(DESCRIPTOR_BYTES_MAX)
  let bytes: Buffer
  try {
    const file = await disk.open(`${path}/${DESCRIPTOR_FILE}`, 'read')
    try {
      bytes = target.subarray(0, await file.read(target, 0, target.length, 0))
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return null
    throw asTidelogError(error, path)
  }
  return await decodeDescriptor(bytes, `${path}/${DESCRIPTOR_FILE}`)
}

/** Gives the directory `out`, which has none, the descriptor of the one at `path`, durably. */
export async function copyDescriptor(environment: Environment, path: string, out: string): Promise<void> {
  const descriptor = await readDescriptor(environment, path)
  if (descriptor === null) throw invalid(`${path} has no ${DESCRIPTOR_FILE} any more`)
  await placeDescriptor(environment, out, descriptor)
}

async function writeDescriptor(
  environment: Environment,
  path: string,
  options: DataDirectoryOptions,
): Promise<DataDirectoryDescriptor> {
  const descriptor = {
    pchannels: options.pchannels ?? PCHANNELS_DEFAULT,
    durability: options.durability,
    createdMs: environment.clock.nowMs(),
  }
  await placeDescriptor(environment, path, descriptor)
  return descriptor
}

/**
 * Writes the descriptor anew where it is missing or damaged, by what the logs say; the damaged one goes to quarantine/.
 * The caller holds the lock of the directory.
 */
export async function rebuildDescriptor(
  environment: Environment,
  path: string,
  descriptor: DataDirectoryDescriptor,
): Promise<void> {
  await keepInQuarantine(environment, path, DESCRIPTOR_FILE)
  await environment.disk.unlink(`${path}/${DESCRIPTOR_FILE}`).catch((error: unknown) => {
    if (!isDiskError(error, 'ENOENT')) throw error
  })
  await placeDescriptor(environment, path, descriptor)
}

/** Complete or not there at all: written and synced under another name, then linked. */
export async function placeDescriptor(
  environment: Environment,
  path: string,
  descriptor: DataDirectoryDescriptor,
): Promise<void> {
  const { disk } = environment
  const fresh = `${path}/${DESCRIPTOR_FILE}.new`
  await disk.unlink(fresh).catch((error: unknown) => {
    if (!isDiskError(error, 'ENOENT')) throw error
  })
  const file = await disk.create(fresh)
  try {
    await file.write(await encodeDescriptor(descriptor), 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await disk.link(fresh, `${path}/${DESCRIPTOR_FILE}`)
  await disk.unlink(fresh)
  await disk.syncDirectory(path)
}

/** A directory with other things in it is not made a data directory by a slip of the keyboard. */
async function refuseForeign(environment: Environment, path: string): Promise<void> {
  const names = await environment.disk.list(path).catch((error: unknown) => {
    throw asTidelogError(error, path)
  })
  if (names.includes(DESCRIPTOR_FILE)) return
  refuseIncompleteBackup(path, names)
  const foreign = names.filter((name) => name !== `${DESCRIPTOR_FILE}.new` && !/^LOCK(\..+)?$/.test(name))
  if (foreign.length === 0) return
  throw invalid(
    `${path} is not empty (${foreign.sort().slice(0, 3).join(', ')}) and has no ${DESCRIPTOR_FILE}, so it is no data directory. Choose an empty or a new one`,
  )
}

function refuseDifferent(path: string, descriptor: DataDirectoryDescriptor, options: DataDirectoryOptions): void {
  const { pchannels, durability } = descriptor
  if (options.pchannels !== null && options.pchannels !== pchannels) {
    throw new TidelogError(
      'CONFIG_INVALID',
      `${path} was created with ${pchannels} pchannels, which is fixed; the configuration says ${options.pchannels}. Leave pchannels out, or use another directory. Nothing was changed.`,
    )
  }
  if (options.durability !== durability) {
    throw new TidelogError(
      'CONFIG_INVALID',
      `${path} was created with durability ${durability}, which is fixed; the configuration says ${options.durability}. Set durability to ${durability}, or use another directory. Nothing was changed.`,
    )
  }
}

function invalid(what: string, cause?: unknown): TidelogError<'DATA_DIRECTORY_INVALID'> {
  return new TidelogError('DATA_DIRECTORY_INVALID', `${what}. Nothing was changed.`, { file: DESCRIPTOR_FILE, cause })
}

function asTidelogError(error: unknown, path: string): unknown {
  if (!isDiskError(error)) return error
  if (error.code === 'ENOSPC') {
    return new TidelogError('DISK_FULL', `no space in ${path}; make room and start again`, {
      retriable: true,
      cause: error,
    })
  }
  return new TidelogError('IO_FAILED', `the data directory ${path} cannot be used (${error.code})`, { cause: error })
}

async function releaseQuietly(lock: Lock): Promise<void> {
  await lock.release().catch(() => {})
}
