/**
 * The lease renewed: where a slot of it is damaged, or its bound lies below ticks that were given. A new one begins above
 * all that the old one allowed, as far as that can be known.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import { type FoundLease, LEASE_FILE, LeaseFile, readLease } from '../log/lease-file.ts'
import { tickOf, tickToMs } from '../log/tick-oracle.ts'
import type { RepairAction } from './repair-action.ts'

import { verifyLease } from './verify-lease.ts'

/** How far the ticks of a lost lease may have led the clock, with the lease itself. */
const LOST_LEASE_LEAD_MS = 20_000

export interface LeaseState {
  lease: FoundLease | 'damaged' | null
  /** The greatest tick that is known to have been given under it. */
  lastTimeTick: bigint
}

/** `damaged`: both slots are; null: there is no lease. Throws IO_FAILED. */
export async function lookAtLease(environment: Environment, directory: string): Promise<LeaseState['lease']> {
  try {
    return await readLease(environment, directory)
  } catch (error) {
    if (error instanceof TidelogError && error.code === 'LOG_DAMAGED') return 'damaged'
    throw error
  }
}

/**
 * Writes a new lease over the old one. `leastLsnBound`: of a log at durability `os`, whose next owner then begins above
 * the bound whichever start of the machine it is; null: of any other.
 */
export async function renewLease(
  environment: Environment,
  directory: string,
  { lease, lastTimeTick }: LeaseState,
  leastLsnBound: number | null,
): Promise<void> {
  const lostMs = Math.max(environment.clock.nowMs(), tickToMs(lastTimeTick)) + LOST_LEASE_LEAD_MS
  const known = lease === 'damaged' || lease === null ? null : lease
  const bound = known?.tickBound ?? tickOf(lostMs)
  const tickBound = bound > lastTimeTick ? bound : lastTimeTick + 1n
  const lsnBound = Math.max(known?.lsnBound ?? 0, leastLsnBound ?? 0)
  const renewed = new LeaseFile(environment, directory, { tickBound, lsnBound }, () => true)
  try {
    if (leastLsnBound !== null) renewed.doubt()
    await renewed.write({})
  } finally {
    await renewed.close()
  }
}

/**
 * Repairs the lease of a data directory, which all its logs share; the old file goes to quarantine/. Null: nothing is
 * wrong with it. The caller holds the lock of the directory. Throws IO_FAILED, DISK_FULL.
 */
export async function repairLease(
  environment: Environment,
  directory: string,
  { apply, lastTimeTick }: { apply: boolean; lastTimeTick: bigint },
): Promise<RepairAction | null> {
  await loadChecksum()
  const lease = await lookAtLease(environment, directory)
  const [found] = await verifyLease(environment, directory, lastTimeTick)
  // No tick is given without a lease.
  const isMissing = lease === null && lastTimeTick > 0n
  if (found === undefined && !isMissing) return null
  if (apply) {
    await keepInQuarantine(environment, directory, LEASE_FILE)
    await renewLease(environment, directory, { lease, lastTimeTick }, null)
  }
  return {
    action: 'renew-lease',
    file: LEASE_FILE,
    reason: found?.message ?? 'the lease is missing: ticks could be given again',
  }
}

/** A second name in quarantine/ for a file that is going to be replaced, durably. */
export async function keepInQuarantine(environment: Environment, directory: string, name: string): Promise<string> {
  const { disk } = environment
  const quarantine = `${directory}/${QUARANTINE}`
  await disk.makeDirectory(quarantine)
  await disk.syncDirectory(directory)
  const kept = `${name}.${Buffer.from(environment.randomBytes(4)).toString('hex')}`
  try {
    await disk.link(`${directory}/${name}`, `${quarantine}/${kept}`)
  } catch (error) {
    if (!isDiskError(error, 'ENOENT')) throw error
  }
  await disk.syncDirectory(quarantine)
  return kept
}
