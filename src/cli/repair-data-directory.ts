/**
 * What `repair` does for a data directory besides its logs: the descriptor by what the logs say, the lease that they
 * share, and the catalog of the vchannels by their records.
 */
import { basename, dirname } from 'node:path'
import {
  describe,
  type Environment,
  type RepairAction,
  type RepairReport,
  repairLease,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { planCatalogRebuild, rebuildCatalog } from '../log-store/catalog-rebuild.ts'
import { readDescriptor, rebuildDescriptor } from '../log-store/data-directory.ts'
import { type DataDirectoryDescriptor, DESCRIPTOR_FILE } from '../log-store/descriptor.ts'

export interface DirectoryAction {
  action: RepairAction['action'] | 'rebuild-descriptor' | 'rebuild-catalog'
  file: string
  reason: string
}

export interface DirectoryRepair {
  actions: DirectoryAction[]
  assumptions: string[]
}

/** The logs of the pchannels of the data directory at `path`, by number; null: it is none. */
export function pchannelLogs(path: string, logs: readonly string[]): Map<number, string> | null {
  const found = new Map<number, string>()
  for (const log of logs) {
    if (dirname(log) === `${path}/pchannels` && /^\d{1,9}$/.test(basename(log))) found.set(Number(basename(log)), log)
  }
  return found.size > 0 || logs.includes(`${path}/catalog`) ? found : null
}

/** `reports`: of its logs. Throws FORMAT_UNKNOWN (a descriptor of a later version), IO_FAILED, DISK_FULL. */
export async function repairDataDirectory(
  environment: Environment,
  path: string,
  pchannels: ReadonlyMap<number, string>,
  reports: readonly RepairReport[],
  apply: boolean,
): Promise<DirectoryRepair> {
  const repair: DirectoryRepair = { actions: [], assumptions: [] }
  const fault = await descriptorFault(environment, path)
  if (fault !== null) {
    const descriptor = await knownDescriptor(environment, pchannels)
    repair.actions.push({ action: 'rebuild-descriptor', file: DESCRIPTOR_FILE, reason: fault })
    repair.assumptions.push(
      `the data directory has ${descriptor.pchannels} pchannels, as many as it has logs, and durability ${descriptor.durability}, as they say`,
    )
    if (apply) await rebuildDescriptor(environment, path, descriptor)
  }
  let lastTimeTick = 0n
  for (const report of reports) if (report.lastTimeTick > lastTimeTick) lastTimeTick = report.lastTimeTick
  const lease = await repairLease(environment, path, { apply, lastTimeTick })
  if (lease !== null) repair.actions.push(lease)
  await repairCatalog(environment, path, pchannels, apply, repair)
  return repair
}

async function repairCatalog(
  environment: Environment,
  path: string,
  pchannels: ReadonlyMap<number, string>,
  apply: boolean,
  repair: DirectoryRepair,
): Promise<void> {
  const plan = await planCatalogRebuild(environment, path, pchannels)
  if (!plan.needed) return
  const { known, found } = apply ? await rebuildCatalog(environment, path, pchannels) : plan
  const reason = `records of the catalog are lost: ${known} vchannels are left, ${found.length} more are found by their records`
  repair.actions.push({ action: 'rebuild-catalog', file: 'catalog', reason })
  if (found.length > 0) {
    const names = found.slice(0, 5).map(({ name, pchannel }) => `${JSON.stringify(name)} on pchannel ${pchannel}`)
    const more = found.length > names.length ? `, and ${found.length - names.length} more` : ''
    repair.assumptions.push(`vchannels live where their records are: ${names.join(', ')}${more}`)
  }
}

/** In words; null: nothing is wrong with it. */
async function descriptorFault(environment: Environment, path: string): Promise<string | null> {
  try {
    return (await readDescriptor(environment, path)) === null ? `${DESCRIPTOR_FILE} is missing` : null
  } catch (error) {
    if (error instanceof TidelogError && error.code === 'DATA_DIRECTORY_INVALID') return error.message
    throw error
  }
}

async function knownDescriptor(
  environment: Environment,
  pchannels: ReadonlyMap<number, string>,
): Promise<DataDirectoryDescriptor> {
  let durability: 'disk' | 'os' = 'disk'
  let createdMs = environment.clock.nowMs()
  for (const log of pchannels.values()) {
    const described = await describe(environment, log)
    durability = described.durability ?? durability
    for (const segment of described.segments) createdMs = Math.min(createdMs, segment.createdMs ?? createdMs)
  }
  return { pchannels: Math.max(0, ...pchannels.keys()) + 1, durability, createdMs }
}
