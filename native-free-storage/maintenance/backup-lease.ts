/** The lease of a backup: no tick, and at durability `os` no LSN, that the original may have given is given by the copy. */
import type { Environment } from '../environment.ts'
import { encodeLeaseSlot, LEASE_BYTES, leaseSlotPosition } from '../format/lease.ts'
import { machineBootId } from '../log/boot-id.ts'
import { LEASE_FILE, readLease } from '../log/lease-file.ts'
import type { BackupFiles } from './backup-files.ts'

/**
 * Nothing when the ticks of the log are bounded elsewhere: then that lease has to be copied too, after this log.
 * `others`: directories whose leases bound its ticks as well. `lastTimeTick`: what is in its files. Throws LOG_DAMAGED
 * when both slots of a lease are.
 *
 * Gives the LSN below which the copy gives none, whatever its files hold: above 0 when what was acknowledged may be lost,
 * with the machine, or by a sync that is under way and may fail.
 */
export async function copyLease(
  environment: Environment,
  files: BackupFiles,
  directory: string,
  others: readonly string[],
  lastTimeTick: bigint,
): Promise<number> {
  const own = await readLease(environment, directory)
  let tickBound = own?.tickBound
  for (const other of others) {
    const bound = (await readLease(environment, other))?.tickBound
    if (bound !== undefined && bound > (tickBound ?? 0n)) tickBound = bound
  }
  if (tickBound === undefined) return 0
  const isDoubtful = own?.sameBoot === false
  const bytes = Buffer.alloc(LEASE_BYTES)
  const slot = {
    tickBound: tickBound > lastTimeTick ? tickBound : lastTimeTick + 1n,
    lsnBound: own?.lsnBound ?? 0,
    // What was written since the machine was started is in the copy; what was lost when it went down is not.
    bootId: isDoubtful ? Buffer.alloc(16) : machineBootId(environment),
  }
  for (const sequence of [1, 2]) encodeLeaseSlot({ ...slot, sequence }).copy(bytes, leaseSlotPosition(sequence))
  await files.create(LEASE_FILE, bytes)
  return isDoubtful ? slot.lsnBound : 0
}
