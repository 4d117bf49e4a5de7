/** The data directory as it stands: whose it is, what it says of itself, who has it open, what lies about in it. */
import { join } from 'node:path'
import {
  type Environment,
  findLogs,
  isDiskError,
  lockHolder,
  quarantineOf,
  TidelogError,
} from '../../../native-free-storage/index.ts'
import type { DaemonConfig } from '../../daemon/settings.ts'
import { readDescriptor } from '../../log-store/data-directory.ts'
import { type DataDirectoryDescriptor, DESCRIPTOR_FILE } from '../../log-store/descriptor.ts'
import { bytesText } from '../notes.ts'
import { type Check, fail, ok, warn } from './check.ts'
import type { SystemFacts } from './system-facts.ts'

/** More than this in quarantine is worth a look. */
const QUARANTINE_BYTES_FEW = 64 * 1024 * 1024
const OTHERS = 0o077

export interface DirectoryFacts {
  exists: boolean
  /** Null: this process may write there. Else the name of the errno. */
  refusal: string | null
}

export async function directoryCheck(
  facts: SystemFacts,
  data: string,
  parent: string,
): Promise<{ directory: DirectoryFacts; check: Check }> {
  const found = await facts.pathFacts(data)
  if (found === null) {
    const refusal = await facts.refusesWriting(parent)
    const check =
      refusal === null
        ? ok('DIRECTORY', `${data} does not exist yet; serve creates it in ${parent}`)
        : fail('DIRECTORY', `${data} does not exist, and cannot be created in ${parent} (${refusal})`, otherUser)
    return { directory: { exists: false, refusal }, check }
  }
  if (!found.isDirectory) {
    const check = fail('DIRECTORY', `${data} is no directory`, 'Choose another --data.')
    return { directory: { exists: true, refusal: 'ENOTDIR' }, check }
  }
  const refusal = await facts.refusesWriting(data)
  return { directory: { exists: true, refusal }, check: accessCheck(facts, data, found, refusal) }
}

const otherUser = 'Run doctor and serve as a user that may write there, or change its owner.'

function accessCheck(
  { uid }: SystemFacts,
  data: string,
  found: { mode: number; uid: number },
  refusal: string | null,
): Check {
  const mode = found.mode.toString(8).padStart(4, '0')
  if (refusal === 'EROFS') {
    return fail(
      'DIRECTORY',
      `${data} is on a file system that is read-only`,
      'Look at the kernel log, then remount it.',
    )
  }
  if (uid !== null && uid !== found.uid) {
    const message = `${data} belongs to user ${found.uid}, and this is user ${uid}${refusal === null ? '' : `, who may not write there (${refusal})`}`
    return warn('DIRECTORY', message, 'Run doctor as the user of the daemon to see what it sees.')
  }
  if (refusal !== null) {
    return fail('DIRECTORY', `${data} has mode ${mode} and cannot be written to (${refusal})`, `chmod 700 ${data}`)
  }
  if ((found.mode & OTHERS) !== 0) {
    return warn(
      'DIRECTORY',
      `${data} has mode ${mode}: others can look into it`,
      'serve closes it (mode 0700) at its start.',
    )
  }
  return ok('DIRECTORY', `${data}, mode ${mode}, for its owner alone`)
}

export async function descriptorCheck(
  environment: Environment,
  data: string,
  config: Pick<DaemonConfig, 'pchannels' | 'durability'>,
): Promise<{ descriptor: DataDirectoryDescriptor | null; check: Check }> {
  let descriptor: DataDirectoryDescriptor | null
  try {
    descriptor = await readDescriptor(environment, data)
    if (descriptor === null) return { descriptor, check: await emptyCheck(environment, data) }
  } catch (error) {
    if (error instanceof TidelogError && error.code === 'IO_FAILED') {
      return { descriptor: null, check: warn('DESCRIPTOR', `it cannot be read: ${messageOf(error)}`, otherUser) }
    }
    const next = `Run tidelog verify ${data}; restore ${DESCRIPTOR_FILE} from a backup.`
    return { descriptor: null, check: fail('DESCRIPTOR', messageOf(error), next) }
  }
  const { pchannels, durability } = descriptor
  const message = `${pchannels} pchannels, durability ${durability}`
  const wantsOther = (config.pchannels !== null && config.pchannels !== pchannels) || config.durability !== durability
  if (wantsOther) {
    const wanted = `${config.pchannels ?? pchannels} pchannels, durability ${config.durability}`
    const next = 'serve will refuse it: correct the configuration (tidelog config show --origin).'
    return { descriptor, check: fail('DESCRIPTOR', `${message}; the configuration says ${wanted}`, next) }
  }
  if (durability === 'os') {
    const next = 'With durability os the crash of the machine can take what was acknowledged. Fixed for this directory.'
    return { descriptor, check: warn('DESCRIPTOR', message, next) }
  }
  return { descriptor, check: ok('DESCRIPTOR', message) }
}

async function emptyCheck(environment: Environment, data: string): Promise<Check> {
  const names = await environment.disk.list(data).catch((error: unknown) => {
    if (isDiskError(error, 'ENOENT')) return []
    throw error
  })
  const foreign = names.filter((name) => !/^LOCK(\..+)?$/.test(name) && name !== `${DESCRIPTOR_FILE}.new`)
  if (foreign.length === 0) return ok('DESCRIPTOR', 'none yet: serve begins a new data directory')
  const some = foreign.sort().slice(0, 3).join(', ')
  const next = `Choose an empty or a new --data; if this was one, restore ${DESCRIPTOR_FILE}.`
  return fail('DESCRIPTOR', `${data} holds something else (${some}) and no ${DESCRIPTOR_FILE}`, next)
}

export async function daemonCheck(
  environment: Environment,
  data: string,
): Promise<{ daemonPid: number | null; check: Check }> {
  try {
    const holder = await lockHolder(environment, data)
    if (holder === 'unreadable') {
      const next = `If nothing has the directory open, delete ${data}/LOCK.`
      return { daemonPid: null, check: fail('DAEMON', `${data}/LOCK does not say whose it is`, next) }
    }
    if (holder === null) return { daemonPid: null, check: ok('DAEMON', 'none runs on it') }
    if (holder.isAlive) return { daemonPid: holder.pid, check: ok('DAEMON', `process ${holder.pid} has it open`) }
    const message = `none runs on it; the last one, process ${holder.pid}, did not stop in order, and the next start recovers`
    return { daemonPid: null, check: ok('DAEMON', message) }
  } catch (error) {
    return { daemonPid: null, check: warn('DAEMON', `it cannot be told: ${messageOf(error)}`, otherUser) }
  }
}

/** `LOCK.<nonce>.new` and `.next` of processes that were killed while they took a lock. */
export async function leftoversCheck(environment: Environment, data: string, isRunning: boolean): Promise<Check> {
  try {
    let files = 0
    for (const directory of [data, ...(await findLogs(environment, data))]) {
      const names = await environment.disk.list(directory)
      files += names.filter((name) => /^LOCK\.[0-9a-f]+\.(new|next)$/.test(name)).length
    }
    if (files === 0) return ok('LOCK_LEFTOVERS', 'none')
    const message = `${files} files of processes that were killed while they took a lock`
    return isRunning
      ? ok('LOCK_LEFTOVERS', `${message}; one may be at it right now`)
      : warn('LOCK_LEFTOVERS', message, 'Nothing to do: the next start removes them.')
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return ok('LOCK_LEFTOVERS', 'none')
    return warn('LOCK_LEFTOVERS', `it cannot be told: ${messageOf(error)}`, otherUser)
  }
}

export async function quarantineCheck(environment: Environment, data: string): Promise<Check> {
  try {
    let files = 0
    let bytes = 0
    for (const log of await findLogs(environment, data)) {
      const found = await quarantineOf(environment, log)
      files += found.files
      bytes += found.bytes
    }
    if (files === 0) return ok('QUARANTINE', 'empty')
    const message = `${files} files, ${bytesText(bytes)}, which nothing removes but you`
    if (bytes < QUARANTINE_BYTES_FEW) return ok('QUARANTINE', message)
    const next = `When tidelog verify ${data} is clean, delete what is in ${join(data, 'pchannels', '*', 'quarantine')}.`
    return warn('QUARANTINE', message, next)
  } catch (error) {
    return warn('QUARANTINE', `it cannot be told: ${messageOf(error)}`, otherUser)
  }
}

function messageOf(error: unknown): string {
  if (error instanceof TidelogError) return `${error.message} [${error.code}]`
  return error instanceof Error ? error.message : String(error)
}
